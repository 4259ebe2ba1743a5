"""The machines of an app, by their own answers, the Machines API and the records in the store. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import Struct, structs

from flyatc.admin.store_access import Owner
from flyatc.control.types import MachineStatus, Overview
from flyatc.fly.api_types import Machine
from flyatc.tenants.state import INACTIVE_STATES, Status

STARTED = "started"  # of the Machines API: the machine runs
RUNNING = "running"  # it has answered
SILENT = "no answer"
GONE = "gone"
ENDED = "stopped"  # by its session, where the Machines API is not known
SERVED = ("held", "dirty")  # states of a lease record whose machine is needed
NOT_ASKED = "its address on the private network is not known"


class Session(Struct, frozen=True, kw_only=True):
    """A machine's heartbeat in the store. ``sign``: seconds since the last one; ``dead``: why it permits no writes any
    more; ``ended``: by the machine itself."""

    region: str = ""
    sign: float = 0.0
    dead: str | None = None
    ended: bool = False


class MachineView(Struct, frozen=True, kw_only=True):
    """A machine for operators. ``machine``: its id; ``here``: the one that was asked. ``state``: RUNNING, SILENT, GONE,
    or the word of the Machines API. ``memory``, ``memory_total``: bytes; 0: not known. ``users``: those that it serves.
    ``status``: its own, if it has answered. ``note``: an explanation, or empty."""

    machine: str
    here: bool = False
    name: str = ""
    region: str = ""
    state: str = RUNNING
    memory: int = 0
    memory_total: int = 0
    users: list[str] = []
    status: MachineStatus | None = None
    note: str = ""


@dataclass(frozen=True)
class Known:
    """``own``: the status of the machine that was asked; ``answers``: those of the others by id, or why there is none;
    ``listed``: by the Machines API, None: not known; ``key``: of the metadata that names a machine's user;
    ``sessions``: by id. ``network``: the others can be asked."""

    own: MachineStatus
    answers: Mapping[str, MachineStatus | str] = field(default_factory=dict)
    listed: list[Machine] | None = None
    key: str | None = None
    sessions: Mapping[str, Session] = field(default_factory=dict)
    owners: Iterable[Owner] = ()
    network: bool = True


def views(known: Known) -> list[MachineView]:
    """All machines: the one that was asked first, then those that run, by region and id. Machines of the past are left
    out, unless they are still needed: a user is held by them."""
    holders = dict[str, set[str]]()
    for owner in known.owners:
        if owner.state in SERVED:
            holders.setdefault(owner.machine, set()).add(owner.user)
    listed = {one.id: one for one in known.listed or ()}
    own = _answered(known.own, listed.get(known.own.machine), here=True)
    others = [
        _view(known, one, listed.get(one), holders.get(one, set()))
        for one in sorted({*known.answers, *listed, *known.sessions, *holders} - {known.own.machine})
    ]
    shown = [one for one in others if one.state not in (GONE, ENDED) or one.users or one.machine in listed]
    return [own, *sorted(shown, key=lambda one: (one.state != RUNNING, one.region, one.machine))]


def _answered(status: MachineStatus, listed: Machine | None, *, here: bool = False) -> MachineView:
    return MachineView(
        machine=status.machine,
        here=here,
        name=listed.name if listed is not None else "",
        region=status.region,
        memory=status.memory,
        memory_total=status.memory_total,
        users=list(status.users),
        status=status,
        note="" if status.daemon.store is None else status.daemon.store,
    )


def _view(known: Known, machine: str, listed: Machine | None, held: set[str]) -> MachineView:
    answer, session = known.answers.get(machine, NOT_ASKED), known.sessions.get(machine)
    if isinstance(answer, MachineStatus):
        return _answered(answer, listed)
    state, note = _state(known, answer, listed, session)
    marked = listed.metadata.get(known.key) if listed is not None and known.key is not None else None
    guest = listed.config.guest if listed is not None and listed.config is not None else None
    return MachineView(
        machine=machine,
        name=listed.name if listed is not None else "",
        region=listed.region if listed is not None else session.region if session is not None else "",
        state=state,
        memory_total=guest.memory_mb << 20 if guest is not None else 0,
        users=sorted(held | ({marked} if marked else set())),
        note=note,
    )


def _state(known: Known, why: str, listed: Machine | None, session: Session | None) -> tuple[str, str]:
    """State and note of a machine that has not answered."""
    if listed is not None:
        return (SILENT, why) if listed.state == STARTED and known.network else (listed.state, "")
    if known.listed is not None:
        return GONE, "Fly lists no such machine. If it held users, another machine takes them at their next request"
    if session is None:
        return SILENT, why
    if session.dead is not None:
        return (ENDED, "") if session.ended else (SILENT, session.dead)
    heartbeat = f"its last heartbeat in the store was {session.sign:.0f} s ago"
    return (SILENT, f"{why}; {heartbeat}") if known.network else (RUNNING, heartbeat)


# --- what a machine answers ---

MOST_TENANTS, MOST_USERS, MOST_BAD = 200, 1000, 50  # reported to another machine: some 200 KB at most
_NORMAL = 2


def report(machine: str, region: str, overview: Overview, users: list[str], meminfo: str) -> MachineStatus:
    """The status of this machine. ``users``: those that are held here; ``meminfo``: the text of /proc/meminfo."""
    shown = sorted((one for one in overview.tenants if noteworthy(one)), key=_urgency)
    used, total = memory(meminfo)
    verified = overview.verified
    if verified is not None:
        verified = structs.replace(verified, bad=verified.bad[:MOST_BAD])
    return MachineStatus(
        machine=machine,
        region=region,
        daemon=overview.daemon,
        memory=used,
        memory_total=total,
        users=users[:MOST_USERS],
        tenants=shown[:MOST_TENANTS],
        omitted=max(0, len(shown) - MOST_TENANTS),
        closed=overview.closed[:MOST_USERS],
        paused=overview.paused[:MOST_USERS],
        verified=verified,
    )


def noteworthy(one: Status) -> bool:
    """True if the tenant runs, or an operator should know of it."""
    return one.state not in INACTIVE_STATES or _urgency(one) < _NORMAL


def _urgency(one: Status) -> int:
    """Order of the tenants: those with problems first."""
    if one.unsaved or one.alarms or one.reason is not None:
        return 0
    return 1 if one.overlooked or one.restart_pending else _NORMAL


def memory(text: str) -> tuple[int, int]:
    """Bytes in use and in all, by the text of /proc/meminfo (proc_meminfo(5)); 0, 0: not known."""
    found = dict[str, int]()
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        value, _, unit = rest.strip().partition(" ")
        if name in ("MemTotal", "MemAvailable") and unit == "kB" and value.isdecimal():
            found[name] = int(value) << 10
    if len(found) < 2:
        return 0, 0
    return found["MemTotal"] - found["MemAvailable"], found["MemTotal"]
