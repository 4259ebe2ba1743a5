"""The values of {secret} and {secret.base64}, and where they may stand in tenants.yaml."""

import base64
import hashlib
import hmac
import re
from pathlib import Path

import pytest

from flyatc.config import placeholders
from flyatc.config.schema import App, Tenant
from flyatc.fly.environment import Machine
from flyatc.kit.errors import StartFailed
from flyatc.process import launch_plan
from flyatc.routing.replay import Replays
from flyatc.routing.request_signature import RequestSigner
from pure.test_config_resolve import reported, resolved, sound

KEY = b"k" * 64


def words(address: str, key: bytes = KEY) -> dict[str, str]:
    return launch_plan.secret_words(key, address)


def test_a_secret_has_64_octets_in_hex_and_the_other_form_32_in_base64() -> None:
    of_boston = words("boston")
    assert re.fullmatch("[0-9a-f]{128}", of_boston["secret"])
    assert len(base64.b64decode(of_boston["secret.base64"], validate=True)) == 32
    assert words("boston") == of_boston


def test_it_never_changes_from_one_release_to_the_next() -> None:
    """Sessions and what apps have encrypted depend on it, so the derivation is written down here once more."""
    of_tenants = hmac.new(KEY, b"flyatc secrets of tenants", hashlib.sha256).digest()
    long = hmac.new(of_tenants, b"secret bellevue/2025/winter", hashlib.sha512).hexdigest()
    short = hmac.new(of_tenants, b"secret.base64 bellevue/2025/winter", hashlib.sha256).digest()
    found = words("bellevue/2025/winter")
    assert found == {"secret": long, "secret.base64": base64.b64encode(short).decode()}


def test_every_tenant_key_and_form_has_another() -> None:
    all_of_them = [
        value
        for key in (KEY, b"another key")
        for address in ("a", "b", "a/b", "ab", "a/2025/winter")
        for value in words(address, key).values()
    ]
    assert len({*all_of_them}) == len(all_of_them)
    assert base64.b64decode(words("a")["secret.base64"]).hex() not in words("a")["secret"]


def test_the_key_signs_nothing_else() -> None:
    me = Machine("shop", "3d8dd15c1ed778", "bos")
    of_tenants = hmac.digest(KEY, b"flyatc secrets of tenants", "sha256")
    others = {Replays(me, KEY, 1)._key, RequestSigner(me, KEY)._key, hmac.digest(KEY, b"", "sha256"), KEY}
    assert of_tenants not in others


def tenant(**env: str | None) -> Tenant:
    app = App(command=["app"], directory="/app", env=dict(env))
    return Tenant(user="boston", name="", prefix="/boston", data=Path("/data/boston"), app=app)


def test_it_is_put_into_the_environment_and_never_shown_with_the_plan() -> None:
    of_boston = words("boston")
    launch = launch_plan.plan(
        tenant(SECRET_KEY_BASE="{secret}", APP_KEY="base64:{secret.base64}", BRACES="{{secret}}"), 20001, {}, of_boston
    )
    assert launch.env["SECRET_KEY_BASE"] == of_boston["secret"]
    assert launch.env["APP_KEY"] == f"base64:{of_boston['secret.base64']}"
    assert launch.env["BRACES"] == "{secret}"
    assert of_boston["secret"] not in repr(launch)


def test_without_a_key_the_app_is_not_started() -> None:
    with pytest.raises(StartFailed, match=r"\{secret\} is no placeholder"):
        launch_plan.plan(tenant(SECRET_KEY_BASE="{secret}"), 20001, {})


def test_only_who_uses_it_needs_a_key() -> None:
    assert launch_plan.needs_secret(tenant(A="x", B="a{secret.base64}"))
    assert not launch_plan.needs_secret(tenant(A="{{secret}}", B="${secret}", C=None, D="{prefix}"))


def test_the_daemons_key_is_no_variable_of_apps() -> None:
    assert "FLYATC_SECRET" not in launch_plan.plan(tenant(), 20001, {"FLYATC_SECRET": "x" * 64, "HOME": "/"}).env
    (fault,) = placeholders.faults("${FLYATC_SECRET:-}", {"FLYATC_SECRET": "x"}, secrets=True)
    assert "FLYATC_SECRET is the key to all tenants' secrets" in fault


ELSEWHERE = ['command: [app, "--key={secret}"]', 'ready: "/{secret}"', 'databases: [a], seed: "{secret.base64}"']


@pytest.mark.parametrize("app", ELSEWHERE)
def test_outside_of_env_it_is_refused(app: str) -> None:
    (fault,) = reported(sound(users=f"a: {{{app}}}"))
    assert "is for the values of env only" in fault


def test_a_misspelt_name_is_corrected() -> None:
    (fault,) = reported(sound(app='env: {A: "{secrets}"}'))
    assert "{secrets} is not a placeholder, did you mean {secret}?" in fault


def test_a_key_that_apps_could_guess_is_refused_where_it_is_used() -> None:
    uses, short = sound(app='env: {A: "{secret}"}'), {"FLYATC_SECRET": "x" * 31}
    (fault,) = reported(uses, short)
    assert fault.startswith("environment: FLYATC_SECRET: is shorter than 32 characters")
    assert "xxx" not in fault
    for text, environ in ((uses, {}), (uses, {"FLYATC_SECRET": "x" * 32}), (sound(app='env: {A: "{data}"}'), short)):
        assert resolved(text, environ).tenants["a"]
