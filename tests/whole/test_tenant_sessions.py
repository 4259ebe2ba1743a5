"""Two tenants of one app, for each of four frameworks with its own settings for cookies: strangers to each other."""

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from slowness import SLOWNESS
from whole.daemon import Daemon
from whole.visits import serving

APPS = Path(__file__).parent.parent / "apps"
GUNICORN = json.dumps(
    [sys.executable, "-m", "gunicorn", "django_app:app", "--bind", "127.0.0.1:{port}", "--threads", "4"]
)
COMMANDS = {
    "django": f'command: {GUNICORN}, env: {{SCRIPT_NAME: "PREFIX", DJANGO_SECRET_KEY: "{{secret}}"}}',
    "express": 'command: [node, express_app.js], env: {PREFIX: "PREFIX", SESSION_SECRET: "{secret}"}',
    "php": 'command: [php, -d, "session.save_path={data}", -d, "opcache.lockfile_path={data}", '
    '-S, "127.0.0.1:{port}", php/index.php], '
    'env: {PREFIX: "PREFIX"}',
    "rails": 'command: [puma, -b, "tcp://127.0.0.1:{port}", rails/config.ru], env: {RAILS_ENV: production, '
    'RAILS_RELATIVE_URL_ROOT: "PREFIX", SECRET_KEY_BASE: "{secret}"}',
}
NEEDS = {"django": (), "express": ("node", "express"), "php": ("php",), "rails": ("puma", "rails")}


def entry(name: str, *, strip: bool) -> str:
    """A user with two tenants. With ``strip_prefix`` the app knows no prefix."""
    command = COMMANDS[name].replace(': "PREFIX"', ": null" if strip else ': "{prefix}"')
    user = f"{name}-strip" if strip else name
    return f"  {user}: {{tenants: [one, two], strip_prefix: {str(strip).lower()}, {command}}}"


USERS = "\n".join(entry(name, strip=strip) for name in COMMANDS for strip in (False, True))
CONFIG = f"""
server: {{listen: 127.0.0.1:0}}
app: {{directory: {APPS}, command: [none], idle: 1h, start_timeout: 60s, stop_grace: 2s}}
storage: {{mode: none}}
users:
{USERS}
"""
STACKS = [
    pytest.param(name, strip, marks=[pytest.mark.needs(what) for what in NEEDS[name]], id=f"{name}{'-strip' * strip}")
    for name in COMMANDS
    for strip in (False, True)
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("sessions"), CONFIG) as one:
        yield one


class Browser:
    """Follows redirects, with a cookie jar. ``at``: the path it was led to."""

    def __init__(self, daemon: Daemon) -> None:
        self.jar, self.at = CookieJar(), ""
        self._origin = f"http://127.0.0.1:{daemon.port}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str, **form: str) -> str:
        """GET, or POST of a form. Returns the page, or the status where it is not 200."""
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with self._opener.open(self._origin + path, data, 60 * SLOWNESS) as reply:
                self.at = reply.url.removeprefix(self._origin)
                return str(reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return str(error.code)

    def login(self, tenant: str, user: str) -> str:
        page = self.get(f"/{tenant}/login")
        found = re.search(r'name="([^"]*(?:csrf|authenticity)[^"]*)" value="([^"]+)"', page)
        assert found is not None, page
        return self.get(f"/{tenant}/login", user=user, **{found[1]: found[2]})


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "strip"), STACKS)
def test_a_login_at_one_tenant_is_none_at_the_other(daemon: Daemon, name: str, strip: bool) -> None:
    user = f"{name}-strip" if strip else name
    one, two = f"{user}/one", f"{user}/two"
    browser = Browser(daemon)
    assert browser.get(f"/{one}/") == "user: -"
    assert browser.get(f"/{one}/login", user="ann") == "403", "a form without its token"
    assert browser.login(one, "ann") == "user: ann"
    assert browser.at == f"/{one}/", "the redirect stays inside"
    assert browser.get(f"/{two}/") == "user: -"
    assert browser.login(two, "bob") == "user: bob"
    assert browser.at == f"/{two}/"
    assert browser.get(f"/{one}/") == "user: ann", "the other login has not ended this one"
    assert {cookie.path for cookie in browser.jar} == {f"/{one}", f"/{two}"}
    copied = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.jar if cookie.path == f"/{one}")
    assert daemon.get(f"/{one}/", {"Cookie": copied}).text == "user: ann"
    assert daemon.get(f"/{two}/", {"Cookie": copied}).text == "user: -", "nor is a copied cookie valid there"
    assert browser.get(f"/{one}/logout") == "user: -"
    assert browser.at == f"/{one}/"
    assert browser.get(f"/{two}/") == "user: bob"
