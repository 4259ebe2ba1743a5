"""The dashboard of three machines on a small Fly: any of them shows all, and acts on the right one."""

import time
from collections.abc import Iterator

import pytest

from fakes.s3 import Server
from whole import operator
from whole.browser import Browser, Form, Page
from whole.cloud import Cloud, ask, cloud
from whole.daemon import SLOWNESS, config, eventually
from whole.operator import HOME

HOMES = {"m1": "100", "m2": "200", "m3": "300"}
REGIONS = ("iad", "ams", "syd")
PASSWORD = "correct horse battery"
SETTINGS = f'dashboard: {{password: "{PASSWORD}"}}\nreplay: {{timeout: 12s}}\nfly: {{metadata: customer_id}}'


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[Cloud]:
    text = config(users='users: {"*": {match: "[0-9]+"}}', top=SETTINGS)
    metadata = {name: {"customer_id": user} for name, user in HOMES.items()}
    with cloud(tmp_path_factory.mktemp("fly"), text, moto_server, metadata, regions=REGIONS) as one:
        for user in HOMES.values():
            one.add(f"/{user}")
        yield one


@pytest.fixture(scope="module")
def browser(fly: Cloud) -> Browser:
    """Logged in at m1, by way of the proxy."""
    return operator.logged_in(fly.simulator)


def overview(browser: Browser, *parts: str, without: str = "<b>Machine ") -> Page:
    """The overview, once it has these, and no problem of a machine: a full disk of this computer would be one too."""

    def seen() -> Page | None:
        page = browser.get(HOME)
        assert page.path == HOME, page.text
        return page if all(part in page.text for part in parts) and without not in page.text else None

    found = eventually(seen, 15, f"{parts}")
    assert isinstance(found, Page)
    return found


def test_any_machine_shows_all_and_takes_the_session_of_another(fly: Cloud, browser: Browser) -> None:
    for port in (fly.simulator.port, fly["m3"].record.port):
        browser.origin = f"http://127.0.0.1:{port}"
        page = overview(browser, *(f"serves {user}" for user in HOMES.values()))
        for name, region in zip(HOMES, REGIONS, strict=True):
            assert f"{fly.id(name)} · {region} · " in page.text
        assert page.text.count(" · 1 app<") == 3
        assert page.text.count('<span class="badge good">running</span>') == 3
    browser.origin = f"http://127.0.0.1:{fly.simulator.port}"


def test_a_machine_that_sleeps_is_no_problem_and_is_not_woken_by_a_look(fly: Cloud, browser: Browser) -> None:
    fly.stop("m2")
    page = overview(browser, '<span class="badge idle">stopped</span>')
    assert "serves 200" in page.text
    assert fly["m2"].state == "stopped"
    fly.start("m2")


def test_a_machine_that_does_not_answer_is_shown_as_such_within_a_bounded_time(fly: Cloud, browser: Browser) -> None:
    fly.freeze("m3")
    try:
        overview(browser, "Machine no answer", without="the page of an error")
        began = time.monotonic()
        page = browser.get(HOME)
        assert time.monotonic() - began < 5 * SLOWNESS
        assert "within" in page.text
        assert fly.id("m3") in page.text
    finally:
        fly.thaw("m3")
    overview(browser)


def test_without_the_machines_api_the_machines_are_found_by_dns(fly: Cloud, browser: Browser) -> None:
    fly.fail(api="away")
    try:
        page = overview(browser, "The states of the machines are not known", "serves 300")
        assert page.text.count('<span class="badge good">running</span>') == 3
    finally:
        fly.fail()


def test_a_change_of_a_user_is_made_and_followed_at_the_machine_of_the_user(fly: Cloud, browser: Browser) -> None:
    page = browser.get(f"{HOME}tenant?address=300")
    assert f" · {fly.id('m3')} · " in page.text, "the head of the page names the machine that has made it"
    page = browser.get(f"{HOME}maintenance")
    job = browser.submit(page, operator.form_to(page, "maintenance/pause"), {"address": "300", "limit": "20s"})
    assert job.path.startswith(f"{HOME}jobs/{fly.id('m3')}-"), job.text
    assert "Pause 300" in job.text
    fly.until_reported("m3", "dashboard: paused", scope="300")
    assert not fly.reported("m1", "dashboard: paused")
    page = browser.get(f"{HOME}maintenance")
    browser.submit(page, Form("post", f"{HOME}maintenance/resume", {**csrf(page), "address": "300"}), {})
    fly.until_reported("m3", "dashboard: resumed", scope="300")


def test_a_tenant_is_shown_copied_and_stopped_at_the_machine_of_its_user(fly: Cloud, browser: Browser) -> None:
    page = browser.get(f"{HOME}tenant?address=300")
    assert "ready" in page.text, page.text
    assert "1 in 24 hours, none of them failed." in page.text
    page = browser.get(f"{HOME}tenant/versions?address=300")
    copy = browser.submit(page, operator.form_to(page, "tenant/copy", database="app.sqlite3"), {})
    assert copy.body.startswith(b"SQLite format 3\0"), copy.text
    fly.until_reported("m3", "dashboard: database downloaded", tenant="300")
    page = browser.get(f"{HOME}tenant?address=300")
    job = browser.submit(page, operator.form_to(page, "tenant/stop"), {})
    assert job.path.startswith(f"{HOME}jobs/{fly.id('m3')}-"), job.text
    eventually(lambda: "300 is stopped." in browser.get(job.url).text, 20, "the end of the job")
    assert "It does not run." in browser.get(f"{HOME}tenant?address=300").text
    assert "tenant stopped" in browser.get(f"{HOME}tenant/log?address=300").text


def csrf(page: Page) -> dict[str, str]:
    return {"csrf": operator.form_to(page, "maintenance/pause").fields["csrf"]}


def test_without_a_signature_no_machine_tells_its_status(fly: Cloud) -> None:
    record = fly["m2"].record
    for port, status in ((record.port, 404), (record.private, 403)):
        assert ask(port, "GET", "/.flyatc/machine", None, {}).status == status
