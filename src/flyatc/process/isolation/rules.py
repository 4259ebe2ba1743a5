"""Decide how an app is separated from the others, and say what is not. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flyatc.config.schema_sections import Isolation

TRUNCATE, SCOPES = 3, 6  # Landlock ABIs
OPEN_DIRECTORY = (
    "an app can change its own directory, which all tenants run, and read and change what lies in it (app.isolation: "
    "landlock closes it)"
)
ALWAYS = "the ports of other apps on 127.0.0.1 can be connected to, and all share one kernel"


@dataclass(frozen=True)
class Machine:
    """The means of this machine. ``abi``: of Landlock, 0 without it. A reason is empty if the thing is there."""

    root: bool
    abi: int
    no_landlock: str = ""
    no_user_ids: str = ""
    no_cgroups: str = ""  # for limits of memory and CPU


@dataclass(frozen=True)
class Decision:
    """``user_ids``: a user id of its own for each tenant. ``shared_temp``: /tmp and others may be written.
    ``own_directory``: the app's directory may be written as its modes say, so that apps which do so keep working.
    ``refusal``: why the app is not started."""

    user_ids: bool = False
    landlock: bool = False
    shared_temp: bool = True
    own_directory: bool = False
    refusal: str = ""
    lacking: tuple[str, ...] = field(default=())

    @property
    def confined(self) -> bool:
        return self.user_ids or self.landlock


def decide(isolation: Isolation, machine: Machine, hindrance: str = "") -> Decision:
    """``hindrance``: why this app cannot run by another user id, although the machine could."""
    no_ids = machine.no_user_ids or hindrance
    if isolation == "off":
        return Decision(lacking=_lacking(machine, user_ids=False, landlock=False, why="app.isolation is off"))
    if isolation in ("user", "strict") and no_ids:
        return Decision(refusal=f"app.isolation is {isolation}, and it cannot have a user id of its own: {no_ids}")
    if isolation in ("landlock", "strict") and machine.no_landlock:
        return Decision(refusal=f"app.isolation is {isolation}, and there is no Landlock: {machine.no_landlock}")
    user_ids, landlock = isolation != "landlock" and not no_ids, not machine.no_landlock
    why = machine.no_landlock if user_ids else no_ids
    if not user_ids and not landlock:
        why = f"{no_ids}; {machine.no_landlock}"
    lacking = _lacking(machine, user_ids=user_ids, landlock=landlock, why=why)
    open_directory = isolation == "auto"
    if open_directory and landlock and not user_ids:
        lacking += (OPEN_DIRECTORY,)
    return Decision(user_ids, landlock, isolation != "strict", open_directory, lacking=lacking)


def _lacking(machine: Machine, *, user_ids: bool, landlock: bool, why: str) -> tuple[str, ...]:
    found = []
    if not user_ids and not landlock:
        found.append(
            "an app can read and change the data of every tenant, the store if it is a folder, and tenants.yaml, and "
            f"signal other apps ({why})"
        )
    elif not landlock:
        found.append(f"an app can read what every user of this machine may read ({why})")
    elif not user_ids:
        found.append(
            "an app can find out names, sizes and times of other tenants' files, change their modes and times, and "
            "the limits and priorities of other processes; /tmp and /dev/shm are shared "
            f"({why or 'app.isolation is landlock'})"
        )
        if machine.abi < TRUNCATE:
            found.append(f"an app can truncate files of other tenants (Landlock ABI {machine.abi}, 3 is needed)")
        if machine.abi < SCOPES:
            found.append(f"an app can signal and kill other apps (Landlock ABI {machine.abi}, 6 is needed)")
    return tuple(found)


def lacking(isolations: Iterable[Isolation], machine: Machine) -> list[str]:
    """Return what is not separated, a sentence each, with the settings that the apps have."""
    found: dict[str, None] = {}
    for isolation in sorted(isolations):
        decision = decide(isolation, machine)
        found |= dict.fromkeys([decision.refusal] if decision.refusal else decision.lacking)
    return list(found)


def describe(decision: Decision, user: int | None, abi: int) -> str:
    """Return a few words for ``flyatc status``."""
    parts = [f"user {user}"] if decision.user_ids else []
    parts += [f"Landlock {abi}"] if decision.landlock else []
    return ", ".join(parts) or "none"
