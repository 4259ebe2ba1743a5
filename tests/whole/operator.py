"""The operator at the dashboard: a browser that is logged in."""

from typing import Protocol

from whole.browser import Browser, Form, Page

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
