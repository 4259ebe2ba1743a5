"""Use of a machine and of the store by the machine's users, day by day, and the sum over a period. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct, structs

KEPT = 62  # days
MOST_USERS = 2000  # a day
SHARED = ""  # name of what belongs to no user
OTHERS = "~others"  # name of the users above MOST_USERS


class Use(Struct):
    """Counts of a period. ``seconds``: running time of the apps; ``memory``: byte-seconds of it; ``sent``: bytes to
    clients; ``writes``, ``reads``: requests to the store, as in cost.prices; ``uploaded``: bytes to the store."""

    seconds: float = 0.0
    memory: float = 0.0
    requests: int = 0
    sent: int = 0
    writes: int = 0
    reads: int = 0
    uploaded: int = 0

    def add(self, other: "Use") -> None:
        for name in Use.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Day(Struct, kw_only=True):
    """A day in UTC. ``since``, ``until``: Unix time of the first and the last look; ``up``: seconds between, in which
    flyatc ran."""

    date: str
    since: float
    until: float
    up: float = 0.0
    users: dict[str, Use] = {}
    v: int = 1

    def of(self, user: str) -> Use:
        """The use of a user, to be added to."""
        found = self.users.get(user)
        if found is None:
            if len(self.users) >= MOST_USERS:
                user = OTHERS
            found = self.users.setdefault(user, Use())
        return found


def date_of(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def expired(dates: Iterable[str], today: str) -> list[str]:
    """The dates of days that need not be kept any more."""
    first = (datetime.fromisoformat(today) - timedelta(days=KEPT - 1)).date().isoformat()
    return [date for date in dates if date < first]


class Period(Struct, kw_only=True):
    """``since``, ``until``: Unix time. ``up``: seconds of it in which flyatc ran."""

    since: float
    until: float
    up: float
    users: dict[str, Use]


def period(days: Sequence[Day], number: int, now: float) -> Period:
    """Sum of the last ``number`` times 24 hours, in whole days. It begins with the first day that is known, at the
    earliest: what was not observed is not taken for idle."""
    begin = now - number * 86400.0
    known = sorted((day for day in days if day.since <= now), key=lambda day: day.since)
    taken = [day for day in known if day.until >= begin]
    found = Period(since=now, until=now, up=0.0, users={})
    if known:
        found.since = taken[0].since if taken and taken[0] is known[0] else max(begin, known[0].since)
    for day in taken:
        found.since = min(found.since, day.since)
        found.up += day.up
        for user, use in day.users.items():
            found.users.setdefault(user, Use()).add(use)
    return found


class UserUse(Use):
    """``disk``: bytes on this machine now; ``stored``: in the store now, None: not known."""

    disk: int = 0
    stored: int | None = None


class Machine(Struct, frozen=True, kw_only=True):
    """A machine on Fly. ``kind``: of its CPUs, shared or performance; ``volume_gb``: size of its volume; ``rootfs``:
    bytes used of its root file system. ``assumed``: sentences on what of it is not known."""

    app: str
    id: str
    region: str
    kind: str
    cpus: int
    memory_mb: int
    volume_gb: int
    rootfs: int
    assumed: list[str] = []


class Usage(Struct, frozen=True, kw_only=True):
    """The use of this machine. ``since``: RFC 3339; ``observed``: seconds since then; ``up``: seconds of them in which
    flyatc ran. ``machine`` None: not on Fly. ``streams``: litestream runs, whose requests are not counted.
    ``elsewhere``: users of other machines, with the machine. ``notes``: sentences on what is missing."""

    since: str
    observed: float
    up: float
    users: dict[str, UserUse]
    shared: Use
    machine: Machine | None
    streams: bool = False
    elsewhere: dict[str, str] = {}
    notes: list[str] = []


def with_storage(use: Use, disk: int, stored: int | None) -> UserUse:
    return UserUse(**structs.asdict(use), disk=disk, stored=stored)
