"""Who we are on Fly, from the environment of the machine (https://fly.io/docs/machines/runtime-environment/). Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flyatc.config.platform import MACHINE, REGION
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
