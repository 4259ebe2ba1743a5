"""Command, environment and directory of a tenant: placeholders, variables, and what is withheld."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from flyatc.config.schema import App, Tenant
from flyatc.kit.errors import StartFailed
from flyatc.process import launch_plan

ENVIRON = {"PATH": "/bin", "HOME": "/root", "PORT": "3000"}
NAMES = {"FLYATC_TENANT": "bellevue/2025/winter", "FLYATC_USER": "bellevue"}


def tenant(*argv: str, name: str = "2025/winter", env: dict[str, str | None] | None = None, ready: str = "") -> Tenant:
    return Tenant(
        user="bellevue",
        name=name,
        prefix="/bellevue/2025/winter",
        data=Path("/data/bellevue/2025~winter"),
        app=App(command=list(argv), directory="/app", env=env or {}, ready=ready or None),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{port}", "20001"),
        ("-p{port}:{user}/{tenant}", "-p20001:bellevue/2025/winter"),
        ("{data}{prefix}", "/data/bellevue/2025~winter/bellevue/2025/winter"),
        ("${HOME}", "/root"),
        ("${NONE:-fall back}", "fall back"),
        ("${HOME:-unused}", "/root"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("{{port}}", "{port}"),
        ("${{HOME}}", "${HOME}"),
        ("$HOME $ 100 %", "$HOME $ 100 %"),
        ('{{"a": {port}}}', '{"a": 20001}'),
    ],
)
def test_placeholders_are_filled_in(text: str, expected: str) -> None:
    launch = launch_plan.plan(tenant("app", text), 20001, {"HOME": "/root", "EMPTY": ""})
    assert launch.argv == ("app", expected)


@given(st.text())
def test_what_was_inserted_is_never_expanded_and_stays_one_argument(value: str) -> None:
    hostile = value + "{port}${HOME} ; rm -rf / {{"
    assert launch_plan.expand("<${X}>", {"port": "1"}, {"X": hostile, "HOME": "/root"}) == f"<{hostile}>"
    launch = launch_plan.plan(tenant("app", "${X}", "last"), 20001, {"X": hostile, "HOME": "/root"})
    assert launch.argv == ("app", hostile, "last")


@pytest.mark.parametrize("text", ["{nonesuch}", "{", "}", "{a,b}", "${bad-name}", "{port", "${HOME"])
def test_a_brace_that_means_nothing_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(StartFailed, match=r"no placeholder; use \{port\} .*for braces"):
        launch_plan.plan(tenant("app", text), 20001, ENVIRON)


def test_a_missing_variable_refuses_the_start_and_names_itself() -> None:
    with pytest.raises(StartFailed, match=r"needs the variable SECRET_KEY, which is not set"):
        launch_plan.plan(tenant("app", env={"KEY": "${SECRET_KEY}"}), 20001, ENVIRON)


def test_no_command_refuses_the_start() -> None:
    with pytest.raises(StartFailed, match=r"set app\.command"):
        launch_plan.plan(tenant(), 20001, ENVIRON)


def test_what_belongs_to_the_daemon_is_withheld() -> None:
    ours = dict.fromkeys(
        [
            "AWS_SECRET_ACCESS_KEY",
            "FLYATC_X",
            "LITESTREAM_X",
            "BUCKET_NAME",
            "FLY_API_TOKEN",
            "LOG_LEVEL",
            "NOTIFY_SOCKET",
        ],
        "secret",
    )
    launch = launch_plan.plan(tenant("app"), 20001, {**ENVIRON, **ours, "FLY_REGION": "iad"})
    assert launch.env == {"PATH": "/bin", "HOME": "/root", "PORT": "20001", "FLY_REGION": "iad", **NAMES}


def test_the_operator_gives_a_withheld_variable_back_by_naming_it() -> None:
    launch = launch_plan.plan(tenant("app", env={"AWS_REGION": "${AWS_REGION}"}), 20001, {"AWS_REGION": "auto"})
    assert launch.env["AWS_REGION"] == "auto"


def test_the_apps_own_environment_wins_and_null_removes() -> None:
    env: dict[str, str | None] = {"HOME": None, "NEVER_SET": None, "PORT": "unix:{data}/s", "RAILS_ENV": "production"}
    launch = launch_plan.plan(tenant("app", env=env), 20001, ENVIRON)
    assert launch.env == {
        "PATH": "/bin", "PORT": "unix:/data/bellevue/2025~winter/s", "RAILS_ENV": "production", **NAMES
    }  # fmt: skip


def test_an_app_gets_the_address_of_its_tenant_unless_its_environment_says_otherwise() -> None:
    inherited = {**ENVIRON, "FLYATC_TENANT": "of the daemon"}
    assert NAMES.items() <= launch_plan.plan(tenant("app"), 20001, inherited).env.items()
    alone = launch_plan.plan(tenant("app", name=""), 0, ENVIRON).env
    assert (alone["FLYATC_TENANT"], alone["FLYATC_USER"]) == ("bellevue", "bellevue")
    own = launch_plan.plan(tenant("app", env={"FLYATC_TENANT": "{tenant}", "FLYATC_USER": None}), 20001, ENVIRON).env
    assert own["FLYATC_TENANT"] == "2025/winter"
    assert "FLYATC_USER" not in own


def test_the_directory_and_the_path_to_ask_come_along() -> None:
    launch = launch_plan.plan(tenant("app", ready="{prefix}/up"), 20001, ENVIRON)
    assert launch.ready_host == "127.0.0.1"
    assert (launch.directory, launch.ready) == ("/app", "/bellevue/2025/winter/up")


def test_a_user_that_is_the_tenant_has_an_empty_tenant() -> None:
    assert launch_plan.plan(tenant("app", "<{tenant}>", name=""), 1, ENVIRON).argv == ("app", "<>")


def test_the_host_of_the_readiness_request_is_expanded_and_checked() -> None:
    spec = tenant("app", ready="/up")
    for written, host in (("{user}.example.com", "bellevue.example.com"), ("[::1]:80", "[::1]:80")):
        asked = structs.replace(spec, app=structs.replace(spec.app, ready_host=written))
        assert launch_plan.plan(asked, 20001, ENVIRON).ready_host == host
    for written in ("{tenant}", "${LINES}"):
        asked = structs.replace(spec, app=structs.replace(spec.app, ready_host=written))
        with pytest.raises(StartFailed, match="is no host"):
            launch_plan.plan(asked, 20001, {"LINES": "a\r\nX: y"})
