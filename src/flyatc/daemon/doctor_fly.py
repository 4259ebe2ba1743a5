"""The Machines API, as a daemon on Fly asks it: where there is a token, or one is needed."""

import asyncio
from collections.abc import Mapping

from flyatc.config.schema import Config
from flyatc.daemon.findings import Finding
from flyatc.fly import api_line, machine, needs
from flyatc.fly.api_errors import ApiError
from flyatc.fly.machines_api import MachinesApi
from flyatc.kit.errors import FlyatcError

WHAT, PATIENCE = "machines api", 3.0  # seconds


async def examine(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    try:
        me = machine.of(environ)
    except FlyatcError as error:
        return [Finding("fault", WHAT, str(error), "unset it where this is not Fly; requests are not replayed so")]
    lacking = needs.lacking(config, environ)
    if me is None or (lacking is None and not environ.get(api_line.TOKEN)):
        return []
    if lacking is not None:
        return [Finding("fault", WHAT, f"no machine can be made for users who have none: {lacking}", "what it says")]
    try:
        return [await _asked(MachinesApi(me.app, environ, PATIENCE), me)]
    except ApiError as error:
        return [Finding("fault", WHAT, str(error), "what it says; users of whom nothing is known have to wait")]


async def _asked(api: MachinesApi, me: machine.Machine) -> Finding:
    try:
        async with asyncio.timeout(2 * PATIENCE):
            found = await api.machines()
    except TimeoutError:
        return Finding("fault", WHAT, f"no answer within {2 * PATIENCE:g} s", "look at https://status.flyio.net")
    finally:
        api.close()
    told = f"it lists {len(found)} machine{'s' * (len(found) != 1)} of {me.app}"
    if any(one.id == me.id for one in found):
        return Finding("good", WHAT, f"{told}, this among them")
    return Finding("doubt", WHAT, f"{told}, and not this one", "look whether the token is of this app and organization")
