"""App, machine, region and private network (6PN) on Fly.

Sources: https://fly.io/docs/machines/runtime-environment/ and https://fly.io/docs/networking/private-networking/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path

import msgspec

from flyatc.config.schema_sections import MACHINE, REGION, Listen
from flyatc.fly import dns_answers
from flyatc.kit.errors import FlyatcError

APP = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # like MACHINE it becomes a header and a DNS label


@dataclass(frozen=True, slots=True)
class Machine:
    """A Fly machine. ``address``: its own on the private network (6PN), if the platform gives it."""

    app: str
    id: str
    region: str
    address: str | None = None


def this_machine(environ: Mapping[str, str]) -> Machine | None:
    """Return this machine; None if not on Fly. Raises FlyatcError if the platform's variables are not valid names."""
    app, identity = environ.get("FLY_APP_NAME"), environ.get("FLY_MACHINE_ID")
    if not app or not identity:
        return None
    region = environ.get("FLY_REGION", "")
    checks = (("FLY_APP_NAME", app, APP), ("FLY_MACHINE_ID", identity, MACHINE), ("FLY_REGION", region, REGION))
    for variable, value, form in checks:
        if form.fullmatch(value) is None:
            raise FlyatcError(f"{variable} is {value!r}, which is not a valid name on Fly")
    return Machine(app, identity, region, environ.get("FLY_PRIVATE_IP") or None)


FILE = "fly.toml"


def app_name(given: str | None, environ: Mapping[str, str], folder: Path) -> str:
    """Return the app's name: ``given``, else FLY_APP_NAME, else that of fly.toml, as in flyctl.

    Raises FlyatcError if none is set or it is not valid."""
    found = given or environ.get("FLY_APP_NAME") or _of_file(folder / FILE)
    if not found:
        raise FlyatcError(
            f"which app is meant? Say --app NAME, set FLY_APP_NAME, or go where its {FILE} is (not in {folder})"
        )
    if APP.fullmatch(found) is None:
        raise FlyatcError(f"{found!r} is no name of an app on Fly")
    return found


def _of_file(path: Path) -> str | None:
    import tomllib  # imported late: the daemon never reads the file

    try:
        found = tomllib.loads(path.read_text()).get("app")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FlyatcError(f"{path} cannot be read: {error}. Say --app NAME") from error
    return found if isinstance(found, str) else None


VARIABLE = "FLYATC_NETWORK"
OURS = IPv6Network("fdaa::/16")


def reachable_address(address: str, port: int, environ: Mapping[str, str]) -> Listen:
    """Return the address to use for one of the private network: itself, except under ``flyatc sim``, which has no such
    network. There FLYATC_NETWORK names a JSON file, ``{"fdaa:…": "127.0.0.1:20001"}``.

    Raises FlyatcError for any other address, since the listener must not be reachable from outside."""
    found = dns_answers.ip(address)
    if found is None or found not in OURS:
        raise FlyatcError(f"{address!r} is no address of Fly's private network")
    path = environ.get(VARIABLE)
    if not path:
        return Listen(str(found), port)
    try:
        known = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, str])
        return Listen.parse(known[str(found)])
    except (OSError, msgspec.MsgspecError, KeyError, ValueError) as error:
        raise FlyatcError(f"{address} is not to be found by {VARIABLE}={path}: {error}") from error
