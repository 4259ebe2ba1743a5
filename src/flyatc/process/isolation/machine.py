"""Find out what this machine offers for the separation of apps. Blocking, a few file reads."""

import os
from collections.abc import Mapping
from pathlib import Path

from flyatc.process.isolation import confine, landlock
from flyatc.process.isolation.rules import Machine

STATUS = Path("/proc/self/status")
SWITCH = "FLYATC_LANDLOCK"  # "off": it is not used
NEEDED = {  # capabilities(7), to give a process and its files another user id, and to end it
    "CHOWN": confine.CHOWN,
    "DAC_OVERRIDE": confine.DAC_OVERRIDE,
    "FOWNER": confine.FOWNER,
    "KILL": confine.KILL,
    "SETGID": confine.SETGID,
    "SETUID": confine.SETUID,
}


def examine(environ: Mapping[str, str]) -> Machine:
    root = os.geteuid() == 0
    abi = 0 if environ.get(SWITCH) == "off" else landlock.version()
    no_landlock = "" if abi else _no_landlock(environ)
    return Machine(root=root, abi=abi, no_landlock=no_landlock, no_user_ids=_no_user_ids(root=root))


def _no_landlock(environ: Mapping[str, str]) -> str:
    if environ.get(SWITCH) == "off":
        return f"{SWITCH} is off"
    return f"Linux {os.uname().release} has none, or it is not enabled (Linux 5.13, CONFIG_SECURITY_LANDLOCK, lsm=)"


def _no_user_ids(*, root: bool) -> str:
    if not root:
        return "flyatc does not run as root"
    try:
        lines = STATUS.read_text().splitlines()
        held = int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16)
    except (OSError, StopIteration, ValueError) as error:
        return f"the capabilities of flyatc cannot be read: {error}"
    missing = [name for name, number in NEEDED.items() if not held >> number & 1]
    return f"flyatc lacks the capabilities {', '.join(missing)}" if missing else ""
