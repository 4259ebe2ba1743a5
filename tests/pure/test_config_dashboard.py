"""The section ``dashboard``: no password, no dashboard; and a path that no user has."""

from pathlib import Path

import pytest

from flyatc.config.document import compose
from flyatc.config.errors import ConfigError, Faults
from flyatc.config.load import RealDisk, _Everything
from flyatc.config.parse import parse
from flyatc.config.resolve import resolve
from flyatc.config.schema import Dashboard

WORD = "correct horse battery"
SET = {"DASHBOARD_PASSWORD": WORD}
BY_VARIABLE = 'password: "${DASHBOARD_PASSWORD}"'
BCRYPT = "$2y$12$" + "a" * 53


def dashboard(
    section: str | None,
    environ: dict[str, str] | None = None,
    *,
    users: str = "{ann: , bob: }",
    server: str = "{listen: '127.0.0.1:3000'}",
    starts_apps: bool = True,
) -> Dashboard | None:
    text = f"server: {server}\napp: {{command: [run], directory: /}}\nusers: {users}\n"
    root = compose(text + (f"dashboard: {section}" if section is not None else ""), "tenants.yaml")
    faults = Faults("tenants.yaml", root)
    variables = None if starts_apps else _Everything()
    environ = environ or {}
    config = resolve(parse(root, faults), Path("/srv/tenants.yaml"), environ, RealDisk(), faults, variables=variables)
    faults.raise_if_any()
    return config.dashboard


def fault(section: str | None, environ: dict[str, str] | None = None, **more: str) -> str:
    with pytest.raises(ConfigError) as raised:
        dashboard(section, environ, users=more.get("users", "{ann: }"), server=more.get("server", "{}"))
    assert WORD not in str(raised.value)
    return str(raised.value)


def test_without_the_section_there_is_none() -> None:
    assert dashboard(None) is None
    assert dashboard("null") is None


def test_the_password_comes_from_the_environment() -> None:
    assert dashboard(f"{{{BY_VARIABLE}}}", SET) == Dashboard(password=WORD)
    assert dashboard("{password: '${FLYATC_DASHBOARD}'}", {"FLYATC_DASHBOARD": BCRYPT}) == Dashboard(password=BCRYPT)
    assert dashboard(f"{{password: '{BCRYPT}', path: /ops, host: Admin.Example.com}}") == Dashboard(
        password=BCRYPT, path="/ops", host="admin.example.com"
    )


def test_a_command_beside_the_daemon_need_not_know_the_password() -> None:
    assert dashboard(f"{{{BY_VARIABLE}}}", starts_apps=False) == Dashboard(password="")
    assert dashboard("{}", starts_apps=False) == Dashboard()


@pytest.mark.parametrize(
    ("section", "environ", "words"),
    [
        ("{}", {}, "tenants.yaml:4: dashboard: needs a password"),
        (f"{{{BY_VARIABLE}}}", {}, "tenants.yaml:4: dashboard.password: $DASHBOARD_PASSWORD is not set"),
        (f"{{{BY_VARIABLE}}}", {"DASHBOARD_PASSWORD": ""}, "$DASHBOARD_PASSWORD is not set"),
        (f"{{{BY_VARIABLE}}}", {"DASHBOARD_PASSWORD": "short"}, "is shorter than 12 characters"),
        ("{password: short}", {}, "is shorter than 12 characters"),
        ("{password: '${SECRET}'}", {"SECRET": WORD}, "apps get $SECRET too"),
        ("{password: '$apr1$abcdefgh$0123456789012345678901'}", {}, "is hashed by apr1, which is too quick"),
        ("{password: '$1$abc'}", {}, "is not hashed by bcrypt, argon2 or apr1"),
        (f"{{password: '{BCRYPT}', host: 'http://x'}}", {}, "'http://x' is no host name"),
        (f"{{password: '{BCRYPT}', host: 'a.b:80'}}", {}, "'a.b:80' is no host name"),
    ],
)
def test_a_fault_says_what_to_do(section: str, environ: dict[str, str], words: str) -> None:
    assert words in fault(section, environ)


INSECURE = {"FLYATC_INSECURE": "1"}


def test_without_a_password_it_is_for_loopback_and_by_the_option_only() -> None:
    assert dashboard("{}", INSECURE) == dashboard(None, INSECURE) == Dashboard()
    assert dashboard("{}", INSECURE, server="{listen: '[::1]:3000'}") == Dashboard()
    assert dashboard(f"{{{BY_VARIABLE}}}", SET | INSECURE) == Dashboard(password=WORD)
    for listen in ("3000", "0.0.0.0:3000", "10.0.0.1:3000"):
        words = fault("{}", INSECURE, server=f"{{listen: '{listen}'}}")
        assert words.startswith("environment: FLYATC_INSECURE: serves the dashboard without a password, on loopback")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        *((path, "must be a plain path") for path in ("/", "_flyatc", "/a/", "//a", "/a/../b", "/a b", "/%61", "/a?b")),
        ("/ann", "is an address of the user ann"),
        ("/ann/dashboard", "is an address of the user ann"),
        ("/123", "is an address of the user 123"),
        ("/up", "contains server.health"),
    ],
)
def test_the_path_must_not_collide(path: str, words: str) -> None:
    users, server = "{ann: , '*': {match: '[0-9]+'}}", "{health: /up/now}"
    assert words in fault(f"{{password: '{BCRYPT}', path: '{path}'}}", users=users, server=server)


def test_the_path_may_be_beside_the_users() -> None:
    users, server = "{ann: , '*': {match: '[0-9]+'}}", "{root: /customers, health: /up}"
    for path in ("/ann", "/123", "/up2", "/customers/_ops", "/a-b/c.d", "/customers2"):
        found = dashboard(f"{{password: '{BCRYPT}', path: {path}}}", users=users, server=server)
        assert found is not None
        assert found.path == path
    assert "contains server.root" in fault(f"{{password: '{BCRYPT}', path: /customers}}", users=users, server=server)
