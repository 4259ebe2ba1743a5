"""The dashboard in Chromium, as an operator uses it: on a phone by touch, on a desktop by keyboard alone, on a phone
without JavaScript. axe looks at each page, and pictures are kept in tests/screenshots."""

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

from whole import visits
from whole.chromium import AXE, SIZES, Chromium, Way, chromium
from whole.daemon import Daemon, config, eventually
from whole.operator import ENVIRON, HOME, PASSWORD, SECTION

pytestmark = [
    pytest.mark.needs("chromedriver"),
    pytest.mark.needs(str(AXE.relative_to(AXE.parents[4]))),
    pytest.mark.timeout(120),
]
WAYS = {
    "phone": Way("phone"),
    "keyboard": Way("desktop", keyboard=True),
    "no scripts": Way("phone", scripts=False),
}
BAD = {"phone": "bad1", "keyboard": "bad2", "no scripts": "bad3"}  # users whose app cannot be started
USERS = """users:
  ann: {tenants: [one, two]}
  bob:
  bad1: {command: ["false"]}
  bad2: {command: ["false"]}
  bad3: {command: ["false"]}
"""
PAGES = (
    "", "users", "config", "maintenance", "store", "cost", "jobs", "tenant?address=ann/one",
    "tenant/versions?address=ann/one", "tenant/log?address=ann/one",
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    text = config(top=SECTION, users=USERS)
    with visits.serving(tmp_path_factory.mktemp("dashboard"), text, ENVIRON) as one:
        for tenant in ("ann/one", "bob"):
            assert one.post(f"/{tenant}/add").status == 200
        assert one.cli("backup", "ann/one").returncode == 0
        yield one


@pytest.fixture(scope="module")
def browser(daemon: Daemon) -> Iterator[Chromium]:
    with chromium(f"http://127.0.0.1:{daemon.port}") as one:
        yield one


@pytest.fixture(scope="module", params=WAYS)
def way(browser: Chromium, request: pytest.FixtureRequest) -> str:
    browser.become(WAYS[request.param])
    log_in(browser)
    return str(request.param)


@pytest.fixture
def operator(browser: Chromium, way: str) -> Iterator[Chromium]:
    """At the overview, in each of the ways. Whatever the test does, the console of the browser has no errors."""
    browser.open(HOME)
    yield browser
    assert browser.errors == []


def log_in(browser: Chromium) -> None:
    browser.open(HOME)
    browser.fill("Password", PASSWORD)
    browser.press("Log in")
    browser.until("Overview")


def test_the_browser_has_no_way_to_other_machines(browser: Chromium) -> None:
    for address in ("http://example.com/", "http://192.0.2.1/"):
        assert "ERR_PROXY_CONNECTION_FAILED" in browser.failure(address)


def test_the_operator_logs_in_and_out(operator: Chromium) -> None:
    assert operator.path == HOME
    operator.press("Log out")
    operator.until("You are logged out.")
    operator.open(f"{HOME}cost")
    operator.fill("Password", "wrong")
    operator.press("Log in")
    operator.until("This is not the password.")
    operator.fill("Password", PASSWORD)
    operator.press("Log in")
    operator.until("Each user of this machine")
    operator.screenshot("cost")


def test_the_overview_shows_a_problem_at_once(operator: Chromium, daemon: Daemon, way: str) -> None:
    user = BAD[way]
    assert f"Failed, {user}" not in operator.until("Overview")
    assert daemon.get(f"/{user}/").status == 502
    eventually(lambda: daemon.status(user)["state"] == "failed")
    if not operator.way.scripts:
        operator.open(HOME)
    operator.until(f"Failed, {user}")
    operator.screenshot("problem")


def test_a_user_is_added_and_removed_after_a_look_at_the_plan(operator: Chromium, daemon: Daemon) -> None:
    before = daemon.config_file.read_text()
    operator.press("Users")
    operator.press("Add a user")
    operator.fill("Name", "cy")
    operator.fill("Tenants", "2025/winter")
    operator.press("Show what will be done")
    operator.until("This is what will be done")
    operator.screenshot("plan")
    assert daemon.config_file.read_text() == before
    operator.press("Add cy")
    finished(operator)
    assert "cy" in daemon.config_file.read_text()
    assert daemon.get("/cy/2025/winter/count").status == 200
    operator.press("Remove cy")
    operator.press("Show how to remove cy")
    operator.until("This is what will be done")
    operator.press("Remove cy")
    finished(operator)
    assert daemon.config_file.read_text() == before
    assert daemon.get("/cy/2025/winter/count").status == 404


def finished(browser: Chromium) -> None:
    """Wait for the end of a job, and go on to the page it came from."""
    browser.until("done", 30)
    browser.press("Continue")


def test_a_fault_in_the_configuration_is_shown_at_its_line_and_a_change_is_undone(
    operator: Chromium, daemon: Daemon
) -> None:
    before = daemon.config_file.read_text()
    operator.press("Config")
    operator.append("Edit", "\nlimits: {running: no}")
    operator.press("Check, and show the changes")
    operator.until("1 fault")
    operator.screenshot("fault")
    assert daemon.config_file.read_text() == before
    operator.append("Your text", Keys.BACKSPACE * 3 + "9}")
    operator.press("Check, and show the changes")
    operator.until("No faults.")
    operator.press("Save and reload")
    operator.until("Saved, and reloaded")
    assert daemon.config_file.read_text().rstrip() == before.rstrip() + "\n\nlimits: {running: 9}"
    operator.press("Undo the last change")
    operator.press("Save and reload")
    operator.until("Saved, and reloaded")
    assert daemon.config_file.read_text() == before


def test_of_two_operators_who_edit_at_once_the_second_is_warned_and_loses_nothing(
    operator: Chromium, daemon: Daemon
) -> None:
    before = daemon.config_file.read_text()
    operator.press("Config")
    operator.append("Edit", "\n# mine")
    operator.press("Check, and show the changes")
    operator.until("No faults.")
    daemon.write(before + "# of another\n")
    try:
        operator.press("Save and reload")
        seen = operator.until("nothing was saved")
        operator.screenshot("conflict")
        assert daemon.config_file.read_text() == before + "# of another\n"
        assert "# mine" in seen
        assert "# of another" in seen
    finally:
        daemon.write(before)


def test_a_tenant_is_closed_for_maintenance_and_opened_again(operator: Chromium, daemon: Daemon) -> None:
    operator.press("Maintenance")
    operator.fill("What", "ann/one")
    operator.fill("Message", "Back at noon.")
    operator.press("Close …")
    assert daemon.get("/ann/one/count").status == 200, "not before it is confirmed"
    operator.press("Close")
    operator.until("closed for maintenance")
    answer = daemon.get("/ann/one/count")
    assert (answer.status, "Back at noon." in answer.text) == (503, True)
    assert daemon.get("/bob/count").status == 200
    operator.screenshot("closed")
    operator.press("Open again")
    operator.until("open again")
    assert daemon.get("/ann/one/count").status == 200


def test_an_orphan_is_restored_after_a_second_question(operator: Chromium, daemon: Daemon) -> None:
    assert daemon.post("/ann/two/add").status == 200
    aside = daemon.data / "tenants" / "ann" / "two" / ".flyatc" / "orphans" / ORPHAN
    before = counted(daemon)
    if not aside.exists():
        aside.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(aside / "app.sqlite3")) as copy:
            path = aside.parents[2] / "app.sqlite3"
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.backup(copy)
    else:
        assert before > 1
    operator.press("Store")
    operator.until("ann/two")
    operator.screenshot("orphans")
    operator.press("Restore …", near=ORPHAN)
    operator.until("What is replaced stays in the store")
    assert counted(daemon) == before
    operator.press("Replace app.sqlite3")
    finished(operator)
    assert counted(daemon) == 1


ORPHAN = "20261130T101010.000000Z-of-a-test"


def counted(daemon: Daemon) -> int:
    return int(daemon.get("/ann/two/count").json["count"])


def test_a_tenant_is_stopped_started_copied_and_restored(operator: Chromium, daemon: Daemon) -> None:
    assert daemon.post("/bob/add").status == 200
    before = int(daemon.get("/bob/count").json["count"])
    operator.open(f"{HOME}tenant?address=bob")
    operator.press("Stop")
    finished(operator)
    operator.until("The next request starts it.")
    operator.press("Start")
    finished(operator)
    operator.until("Restart")
    before_restart = daemon.status("bob")["pid"]
    operator.press("Restart")
    finished(operator)
    assert daemon.status("bob")["state"] == "ready"
    assert daemon.status("bob")["pid"] != before_restart
    operator.press("Versions")
    operator.until("current")
    operator.press("Download")
    copy = operator.downloaded(".sqlite3")
    assert copy.name.startswith("bob-app-")
    with contextlib.closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    copy.unlink()
    assert daemon.post("/bob/add").status == 200
    operator.press("Restore")
    operator.until("Replace app.sqlite3 of bob by version")
    operator.screenshot("restore")
    operator.press("Replace app.sqlite3")
    finished(operator)
    assert int(daemon.get("/bob/count").json["count"]) == before
    operator.press("Log")
    operator.fill("Contains", "restored")
    operator.press("Search")
    assert "/bob/add" not in operator.until("requested by the operator")
    operator.fill("Contains", "/bob/later")
    operator.press("Search")
    daemon.get("/bob/later")
    if not operator.way.scripts:
        operator.press("Search")
    operator.until("404 GET /bob/later")


def test_the_store_is_verified_at_once(operator: Chromium) -> None:
    operator.press("Store")
    operator.fill("Only this user or tenant", "ann/one")
    operator.press("Verify now")
    finished(operator)
    operator.until("1 sound")


@pytest.mark.parametrize("size", SIZES)
def test_no_page_has_a_serious_fault(browser: Chromium, size: str) -> None:
    browser.become(Way(size))
    log_in(browser)
    faults = {}
    for page in PAGES:
        browser.open(HOME + page)
        browser.screenshot(page.partition("?")[0].replace("/", "-") or "overview")
        faults[page] = browser.faults()
    assert {page: found for page, found in faults.items() if found} == {}
    assert browser.errors == []
