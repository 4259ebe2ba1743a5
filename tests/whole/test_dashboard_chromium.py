"""The dashboard in Chromium, as an operator uses it: on a phone by touch, on a desktop by keyboard alone, on a phone
without JavaScript. axe looks at each page, and pictures are kept in tests/screenshots."""

from collections.abc import Iterator

import pytest

from whole import visits
from whole.chromium import AXE, SIZES, Chromium, Way, chromium
from whole.daemon import Daemon, config
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
PAGES = ("", "users", "config", "maintenance", "store", "cost", "jobs")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with visits.serving(tmp_path_factory.mktemp("dashboard"), config(top=SECTION), ENVIRON) as one:
        for tenant in ("ann/one", "bob"):
            assert one.post(f"/{tenant}/add").status == 200
        yield one


@pytest.fixture(scope="module")
def browser(daemon: Daemon) -> Iterator[Chromium]:
    with chromium(f"http://127.0.0.1:{daemon.port}") as one:
        yield one


@pytest.fixture(params=WAYS)
def operator(browser: Chromium, request: pytest.FixtureRequest) -> Iterator[Chromium]:
    """Logged in, in each of the ways. Whatever the test does, the console of the browser has no errors."""
    browser.become(WAYS[request.param])
    log_in(browser)
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


@pytest.mark.parametrize("size", SIZES)
def test_no_page_has_a_serious_fault(browser: Chromium, size: str) -> None:
    browser.become(Way(size))
    log_in(browser)
    faults = {}
    for page in PAGES:
        browser.open(HOME + page)
        browser.screenshot(page.partition("?")[0] or "overview")
        faults[page] = browser.faults()
    assert {page: found for page, found in faults.items() if found} == {}
    assert browser.errors == []
