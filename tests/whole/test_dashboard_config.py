"""The dashboard's pages of users and of tenants.yaml, on one machine: the file is edited, and the daemon reloads."""

import hashlib
import html
import re
import urllib.request
from collections.abc import Iterator

import pytest

from whole import evidence, operator, visits
from whole.browser import Browser, Page, multipart
from whole.daemon import Daemon, config, eventually
from whole.operator import ENVIRON, HOME, SECTION, carried_out, form_to, shown

SECRET = "hunter2-hunter2"
USERS = """users:  # all of them
  ann: {tenants: [one, two]}
  # the second
  bob: {}"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    text = config(users=USERS, top=SECTION, app=f"  seed: null\n  pages: {{}}  # {SECRET}")
    with visits.serving(tmp_path_factory.mktemp("dashboard"), text, ENVIRON) as one:
        yield one


@pytest.fixture(scope="module")
def browser(daemon: Daemon) -> Browser:
    return operator.logged_in(daemon)


def planned(browser: Browser, what: str, **fields: str) -> Page:
    """Ask for a change of the users; return the page with its plan, or with the reason why there is none."""
    page = browser.get(f"{HOME}users")
    values = {"user": fields["user"]} if what == "users/remove" else {}
    return browser.submit(page, form_to(page, what, **values), fields)


def checked(browser: Browser, text: str, page: Page | None = None) -> Page:
    """Send a text as a browser does: with CR LF."""
    page = page or browser.get(f"{HOME}config")
    return browser.submit(page, form_to(page, "config"), {"text": text.replace("\n", "\r\n"), "action": "check"})


def saved(browser: Browser, page: Page, text: str) -> Page:
    return browser.submit(page, form_to(page, "config"), {"text": text.replace("\n", "\r\n"), "action": "save"})


def test_a_user_is_added_after_its_plan_was_shown(daemon: Daemon, browser: Browser) -> None:
    before = daemon.config_file.read_text()
    page = planned(browser, "users/add", user="eve", tenants="2025/winter, 2025/summer")
    assert "+  eve:" in shown(page)
    assert "it is served at /eve/2025/winter, /eve/2025/summer" in shown(page)
    assert daemon.config_file.read_text() == before
    assert daemon.get("/eve/2025/winter/up").status == 404
    assert "eve is added" in carried_out(browser, page, "users/add")
    assert daemon.config_file.read_text() == before.replace(
        "  bob: {}\n", "  bob: {}\n  eve:\n    tenants: [2025/winter, 2025/summer]\n"
    )
    assert daemon.get("/eve/2025/winter/up").status == 200
    daemon.until_reported("dashboard: add eve", operator="127.0.0.1")
    assert "eve/2025/summer" in browser.get(f"{HOME}users?find=EVE").text
    assert "ann/one" not in browser.get(f"{HOME}users?find=EVE").text


def test_a_removed_user_is_saved_first_and_undo_brings_it_back_with_its_data(daemon: Daemon, browser: Browser) -> None:
    assert daemon.post("/bob/add").json["count"] == 1
    before = daemon.config_file.read_text()
    page = planned(browser, "users/remove", user="bob")
    assert f"its data stay: in {daemon.data}/tenants/bob, and in file:{daemon.folder}/store/users/bob" in shown(page)
    assert daemon.get("/bob/count").json["count"] == 1
    assert "bob is removed" in carried_out(browser, page, "users/remove")
    assert daemon.config_file.read_text() == before.replace("  bob: {}\n", "")
    assert daemon.get("/bob/count").status == 404
    assert evidence.stored_rows(evidence.remote(daemon, "bob")) == 1
    page = browser.get(f"{HOME}config")
    page = browser.follow(page, "Undo the last change")
    assert "+  bob: {}" in shown(page)
    page = saved(browser, page, before)
    assert "Saved, and reloaded: " in shown(page)
    assert daemon.config_file.read_text() == before
    assert daemon.get("/bob/count").json["count"] == 1


def test_a_plan_that_no_longer_fits_the_file_is_shown_again_and_not_carried_out(
    daemon: Daemon, browser: Browser
) -> None:
    page = planned(browser, "users/add", user="kim")
    changed = daemon.config_file.read_text().replace("  # the second\n", "  lou: {}\n")
    daemon.write(changed)
    again = browser.submit(page, form_to(page, "users/add"), {})
    assert "nothing was done" in shown(again)
    assert "the file has other changes, which the daemon reads too: lou" in shown(again)
    assert daemon.config_file.read_text() == changed
    assert "kim is added" in carried_out(browser, again, "users/add")
    assert daemon.config_file.read_text().replace("  kim: {}\n", "", 1) == changed


def test_a_user_that_was_removed_from_all_machines_is_served_again(daemon: Daemon, browser: Browser) -> None:
    released = daemon.cli("release", "kim", "--remove")
    assert released.returncode == 0, released.stderr
    assert daemon.get("/kim/up").status == 404
    carried_out(browser, planned(browser, "users/remove", user="kim"), "users/remove")
    page = planned(browser, "users/add", user="kim")
    assert "put on record that kim is served again, with all of its data" in shown(page)
    assert "kim is added" in carried_out(browser, page, "users/add")
    assert eventually(lambda: daemon.get("/kim/up").status == 200, what="what was believed for 2 s is forgotten")


@pytest.mark.parametrize(
    ("what", "fields", "why"),
    [
        ("users/add", {"user": "ann"}, "ann is a user of tenants.yaml already"),
        ("users/add", {"user": "Bob"}, "'Bob' cannot be a user"),
        ("users/add", {"user": "x: {}\n  y"}, "cannot be a user"),
        ("users/add", {"user": "lee", "tenants": "a/../b"}, "'a/../b' cannot be a tenant"),
        ("users/remove", {"user": "nora"}, "nora is no user of tenants.yaml"),
        ("users/move", {"user": "ann", "to": "x"}, "One machine serves all users here"),
    ],
)
def test_an_impossible_change_of_users_is_refused_with_the_reason(
    daemon: Daemon, browser: Browser, what: str, fields: dict[str, str], why: str
) -> None:
    before, page = daemon.config_file.read_bytes(), browser.get(f"{HOME}users")
    form = form_to(page, "users/remove", user="ann")
    form.action = HOME + what
    page = browser.submit(page, form, fields)
    assert (page.status, why in shown(page)) == (422, True), shown(page)
    assert daemon.config_file.read_bytes() == before


def test_faults_are_shown_at_their_lines_and_nothing_is_saved(daemon: Daemon, browser: Browser) -> None:
    before = daemon.config_file.read_text()
    faulty = before.replace("  idle: 1h", "  idel: 1h  # </textarea><script>x</script>").replace("ann:", "Ann:")
    line = faulty[: faulty.index("idel")].count("\n") + 1
    page = checked(browser, faulty)
    assert f'href="#line-{line}"' in page.text
    assert f'id="line-{line}" class="fault"' in page.text
    assert "app.idel: unknown key, did you mean idle?" in shown(page)
    assert "<script>x" not in page.text
    assert form_to(page, "config").fields["reviewed"] == ""
    forced = form_to(page, "config").fields | {"text": faulty, "action": "save"}
    assert browser.submit(page, form_to(page, "config"), forced).status == 200
    assert daemon.config_file.read_text() == before


def test_a_text_is_saved_as_it_was_shown_and_can_be_undone(daemon: Daemon, browser: Browser) -> None:
    before = daemon.config_file.read_text()
    wanted = before.replace("idle: 1h", "idle: 2h")
    page = checked(browser, wanted)
    assert re.search(r"In the daemon: \d tenants changed\.", shown(page))
    assert ("−  idle: 1h" in shown(page), "+  idle: 2h" in shown(page)) == (True, True)
    other = saved(browser, page, wanted.replace("2h", "3h"))
    assert "+  idle: 3h" in shown(other), "another text than the one that was shown is shown first"
    assert daemon.config_file.read_text() == before
    page = saved(browser, page, wanted)
    assert re.search(r"Saved, and reloaded: \d tenants changed\.", shown(page))
    assert daemon.config_file.read_text() == wanted
    daemon.until_reported("dashboard: configuration saved", operator="127.0.0.1")
    page = browser.follow(page, "Undo the last change")
    assert "+  idle: 1h" in shown(page)
    assert saved(browser, page, before).status == 200
    assert daemon.config_file.read_text() == before


def test_of_two_operators_the_second_sees_what_the_first_has_changed_and_loses_nothing(
    daemon: Daemon, browser: Browser
) -> None:
    second = operator.logged_in(daemon)
    before = daemon.config_file.read_text()
    mine, theirs = before.replace("idle: 1h", "idle: 2h"), f"# by the first\n{before}"
    page = checked(second, mine)
    first = checked(browser, theirs)
    assert saved(browser, first, theirs).status == 200
    page = saved(second, page, mine)
    assert page.status == 409
    assert "The file has changed since you began, and nothing was saved" in shown(page)
    assert ("−# by the first" in shown(page), "+  idle: 2h" in shown(page)) == (True, True)
    assert html.escape(mine, quote=True).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page.text
    assert daemon.config_file.read_text() == theirs
    merged = f"# by the first\n{mine}"
    page = checked(second, merged, page)
    assert saved(second, page, merged).status == 200
    assert daemon.config_file.read_text() == merged


def test_a_file_with_windows_newlines_keeps_them_and_a_multipart_form_is_read(daemon: Daemon, browser: Browser) -> None:
    windows = daemon.config_file.read_text().replace("\n", "\r\n")
    daemon.config_file.write_bytes(windows.encode())
    page = browser.get(f"{HOME}config")
    for action in ("check", "save"):
        fields = form_to(page, "config").fields | {"text": f"# é\r\n{windows}", "action": action}
        body, kind = multipart(fields, {})
        headers = {"Content-Type": kind, "Origin": browser.origin}
        page = browser._open(urllib.request.Request(f"{browser.origin}{HOME}config", body, headers))
    assert daemon.config_file.read_bytes() == f"# é\r\n{windows}".encode()


def test_a_change_that_needs_a_restart_or_ends_the_dashboard_is_said(daemon: Daemon, browser: Browser) -> None:
    before = daemon.config_file.read_text()
    page = checked(browser, before.replace(SECTION, ""))
    assert "this text turns the dashboard off" in shown(page)
    wanted = f"{before}\ncache: {{size: 1MB}}\n"
    page = saved(browser, checked(browser, wanted), wanted)
    assert "These settings need a restart of the daemon: cache.size." in shown(page)


def test_a_file_that_is_broken_by_hand_shows_its_faults_and_is_mended_here(daemon: Daemon, browser: Browser) -> None:
    good = daemon.config_file.read_text()
    daemon.write("users: [\n")
    page = browser.get(f"{HOME}config")
    assert "would not start with it" in shown(page)
    refused = browser.submit(page, form_to(page, "config/reload"), {})
    assert "tenants.yaml" in shown(refused)
    assert saved(browser, checked(browser, good), good).status == 200
    daemon.config_file.unlink()
    page = browser.get(f"{HOME}config")
    assert "there is no file" in shown(page)
    assert saved(browser, checked(browser, good), good).status == 200
    assert daemon.config_file.read_text() == good


def test_what_the_file_says_is_not_in_the_log(daemon: Daemon, browser: Browser) -> None:
    before = daemon.config_file.read_text()
    assert SECRET in browser.get(f"{HOME}config").text
    page = checked(browser, before.replace("  idle:", f"  memory: {SECRET}\n  idle:"))
    assert f"'{SECRET}' is not a size" in shown(page)
    assert "Nothing was saved" in shown(forced(browser, page))
    assert daemon.config_file.read_text() == before
    daemon.until_reported("dashboard: configuration not saved")
    assert SECRET not in daemon.log_file.read_text()


def forced(browser: Browser, page: Page) -> Page:
    """Save a text with faults, for which the page has no button."""
    found = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page.text, re.DOTALL)
    assert found is not None
    text = html.unescape(found[1])
    reviewed = hashlib.sha256(text.encode()).hexdigest()
    return browser.submit(page, form_to(page, "config"), {"text": text, "reviewed": reviewed, "action": "save"})
