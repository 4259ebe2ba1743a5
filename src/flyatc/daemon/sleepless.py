"""Why this machine cannot be stopped or suspended from within, where it is to be."""

from collections.abc import Mapping
from pathlib import Path

from flyatc.config.schema import Config
from flyatc.fly import local_api, machine
from flyatc.kit.errors import FlyatcError


def reason(config: Config, environ: Mapping[str, str]) -> str | None:
    """A sentence. None: it can be, or need not."""
    then = config.machine_idle.then
    if then not in ("stop", "suspend"):
        return None
    what = f"machine_idle.then: {then} needs Fly"
    try:
        if machine.of(environ) is None:
            return f"{what}, and this is none of its machines: it stays awake"
    except FlyatcError as error:
        return f"{what}: {error}"
    if (missing := local_api.missing(environ)) is not None:
        return f"{what}: {missing}"
    if config.storage.mode == "none" and loses_disk(config, environ):
        return f"storage.mode is none, and {config.server.data} is not on a volume: a machine that stops would lose it"
    return None


def loses_disk(config: Config, environ: Mapping[str, str]) -> bool:
    """Whether ``server.data`` goes with the machine when it stops, or when its snapshot is lost."""
    if "FLY_MACHINE_ID" not in environ:
        return False
    return Path(config.server.data).stat().st_dev == Path("/").stat().st_dev
