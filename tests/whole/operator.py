"""The operator at the dashboard: a browser that is logged in."""

import html
import re
from typing import Protocol

from whole.browser import Browser, Form, Page
from whole.daemon import eventually

PASSWORD = "correct horse battery"
ENVIRON = {"DASHBOARD_PASSWORD": PASSWORD}
SECTION = 'dashboard: {password: "${DASHBOARD_PASSWORD}"}'
HOME = "/_flyatc/"


class Listening(Protocol):
    """A daemon, or a proxy with daemons behind it."""

    @property
    def port(self) -> int: ...


def logged_in(daemon: Listening) -> Browser:
    """Return a browser with a session, in which ``daemon`` began with ENVIRON and SECTION."""
    browser = Browser(f"http://127.0.0.1:{daemon.port}")
    page = browser.get(HOME)
    assert page.path == f"{HOME}login"
    page = browser.submit(page, page.form("password"), {"password": PASSWORD})
    assert page.path == HOME, page.text
    return browser


def form_to(page: Page, action: str, **fields: str) -> Form:
    """Return the form of a page that is sent to this page of the dashboard, with these fields as they came."""
    forms = page.elements.forms
    found = [one for one in forms if one.action == HOME + action and fields.items() <= one.fields.items()]
    assert found, f"{page.url} ({page.status}) has no form to {action} with {fields}:\n{page.text}"
    return found[0]


def shown(page: Page) -> str:
    """Return the text of a page without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", page.text))


def carried_out(browser: Browser, plan: Page, action: str) -> str:
    """Confirm a plan of users, and return the result of its job."""
    job = browser.submit(plan, form_to(plan, action), {})
    assert job.path.startswith(f"{HOME}jobs/"), shown(job)

    def ended() -> str:
        found = re.search(r'<p class="result"[^>]*>(.*?)</p>', browser.get(job.path).text, re.DOTALL)
        return html.unescape(found[1]) if found else ""

    return str(eventually(ended, 120, "the end of the job"))
