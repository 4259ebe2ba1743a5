"""Who we are on Fly, from the environment of the machine (https://fly.io/docs/machines/runtime-environment/). Pure.

Which app on Fly is meant, where nobody runs inside it: said, in the environment, or in fly.toml as for flyctl.

The private network of an organization on Fly, 6PN (https://fly.io/docs/networking/private-networking/).
"""

import re
import tomllib
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
    """``address``: its own on the private network (6PN), where the platform tells it."""

    app: str
    id: str
    region: str
    address: str | None = None


def of(environ: Mapping[str, str]) -> Machine | None:
    """None: we are not on Fly. Raises FlyatcError where the platform's variables are no names."""
    app, identity = environ.get("FLY_APP_NAME"), environ.get("FLY_MACHINE_ID")
    if not app or not identity:
        return None
    region = environ.get("FLY_REGION", "")
    checks = (("FLY_APP_NAME", app, APP), ("FLY_MACHINE_ID", identity, MACHINE), ("FLY_REGION", region, REGION))
    for variable, value, form in checks:
        if form.fullmatch(value) is None:
            raise FlyatcError(f"{variable} is {value!r}, which nobody on Fly is called")
    return Machine(app, identity, region, environ.get("FLY_PRIVATE_IP") or None)


FILE = "fly.toml"


def name(given: str | None, environ: Mapping[str, str], folder: Path) -> str:
    """Raises FlyatcError where nobody says it, or it is no name."""
    found = given or environ.get("FLY_APP_NAME") or _of_file(folder / FILE)
    if not found:
        raise FlyatcError(
            f"which app is meant? Say --app NAME, set FLY_APP_NAME, or go where its {FILE} is (not in {folder})"
        )
    if APP.fullmatch(found) is None:
        raise FlyatcError(f"{found!r} is no name of an app on Fly")
    return found


def _of_file(path: Path) -> str | None:
    try:
        found = tomllib.loads(path.read_text()).get("app")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FlyatcError(f"{path} cannot be read: {error}. Say --app NAME") from error
    return found if isinstance(found, str) else None


VARIABLE = "FLYATC_NETWORK"
OURS = IPv6Network("fdaa::/16")


def real(address: str, port: int, environ: Mapping[str, str]) -> Listen:
    """Where this address of the private network really is: as it says, but for ``flyatc sim``, which has no such
    network, and names in FLYATC_NETWORK a file of JSON, ``{"fdaa:…": "127.0.0.1:20001"}``.

    Raises FlyatcError for what is no such address: what listens there must not be seen from anywhere else."""
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
