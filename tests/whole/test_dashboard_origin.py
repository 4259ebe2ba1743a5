"""A page of an app beside the dashboard, in Chromium: it has the same origin, and gets nothing of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from whole import visits
from whole.chromium import Chromium, Way, chromium
from whole.operator import ENVIRON, HOME, PASSWORD, SECTION

pytestmark = [pytest.mark.needs("chromedriver"), pytest.mark.timeout(120)]
WORKER = "self.addEventListener('fetch', event => event.respondWith(new Response('intercepted')))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Logged in at the dashboard."""
    text = visits.parrot(top=SECTION, app="  cookies: keep")
    with (
        visits.serving(tmp_path_factory.mktemp("origin"), text, ENVIRON) as daemon,
        chromium(f"http://127.0.0.1:{daemon.port}") as one,
    ):
        one.become(Way("phone"))
        one.open(HOME)
        one.fill("Password", PASSWORD)
        one.press("Log in")
        one.until("Overview")
        yield one


def of_app(kind: str, body: str, *lines: str) -> str:
    """Return the path of a response of the app."""
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Type: {kind}", *lines, f"Content-Length: {len(body)}", "", ""])
    return visits.say(head.encode(), body.encode())


def tried(browser: Chromium, script: str) -> Any:
    """Run a script of the app's page, which calls ``done``; return its argument. At the end the session still is."""
    browser.open(of_app("text/html", "<p>a page of an app</p>"))
    found = browser.driver.execute_async_script(f"const done = arguments[0]; {script}")
    browser.open(HOME)
    browser.until("Overview")
    return found


ANSWER = ".then(r => r.text().then(text => done([r.status, text.includes('csrf')])))"


@pytest.mark.parametrize(
    "script",
    [
        f"fetch('{HOME}'){ANSWER}",
        f"fetch('{HOME}maintenance', {{headers: {{'Accept': 'text/html', 'Sec-Fetch-Dest': 'document'}}}}){ANSWER}",
        f"fetch('{HOME}overview/live?token=x'){ANSWER}",
        f"fetch('{HOME}login', {{method: 'POST', body: new URLSearchParams({{password: '{PASSWORD}'}})}}){ANSWER}",
        f"fetch('{HOME}maintenance/close', {{method: 'POST', body: new URLSearchParams({{address: ''}})}}){ANSWER}",
        f"fetch('{HOME}nothing/live'){ANSWER}",
        f"const x = new XMLHttpRequest(); x.open('GET', '{HOME}'); "
        "x.onload = () => done([x.status, x.responseText.includes('csrf')]); x.send()",
    ],
)
def test_a_script_of_an_app_can_read_and_send_nothing(browser: Chromium, script: str) -> None:
    assert tried(browser, script) == [403, False]


@pytest.mark.parametrize("kind", ["iframe", "object", "embed"])
def test_a_frame_of_an_app_shows_nothing(browser: Chromium, kind: str) -> None:
    script = f"""const one = document.createElement('{kind}'); one.src = one.data = '{HOME}'; one.type = 'text/html';
        const look = () => {{ try {{ done(one.contentDocument.body.innerText) }} catch {{ done('') }} }};
        one.onload = look; one.onerror = look; document.body.append(one); setTimeout(look, 2000)"""
    assert "Overview" not in tried(browser, script)


def test_a_window_that_an_app_opens_is_out_of_its_reach(browser: Chromium) -> None:
    script = f"""const one = window.open('{HOME}'); let text = ''; const began = performance.now();
        const look = () => {{
          try {{ text = one.document.body?.innerText ?? '' }} catch (error) {{ return done(error.name) }}
          if (one.closed) return done('closed');
          if (text.includes('Overview') || performance.now() - began > 15000) return done(text);
          setTimeout(look, 20);
        }}; look()"""
    assert tried(browser, script) in ("SecurityError", "closed")


def test_cookies_that_a_script_of_an_app_sets_do_not_end_the_session(browser: Chromium) -> None:
    paths = ("/", "/_flyatc", "/_flyatc/", "/_flyatc/maintenance")
    sets = "".join(f"document.cookie = 'flyatc_dashboard=x; path={path}';" for path in paths)
    assert "flyatc_dashboard=x" in tried(browser, f"{sets} done(document.cookie)")


def test_a_service_worker_of_an_app_cannot_intercept_the_dashboard(browser: Chromium) -> None:
    worker = of_app("text/javascript", WORKER, "Service-Worker-Allowed: /")
    for scope in ("/", HOME):
        script = f"""navigator.serviceWorker.register('{worker}', {{scope: '{scope}'}})
            .then(() => done('registered'), error => done(error.name))"""
        assert tried(browser, script) == "SecurityError"
