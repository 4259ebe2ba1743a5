"""What to do with a database before its app may start: a decision with its reason. Pure.

Three things are asked: what is here, what was recorded of it, what the store has. Nothing may be overwritten that is
not in the store; nothing may start empty unless the store surely has nothing; and when in doubt nothing starts at all.
"""

from dataclasses import dataclass
from enum import Enum

from flyatc.databases.manifest import Entry, Link, number, unpublished, version


class Here(Enum):
    """The local file, from its size and its first bytes."""

    ABSENT = "absent"
    EMPTY = "empty"
    SQLITE = "sqlite"
    OTHER = "other"


@dataclass(frozen=True)
class Unknown:
    """The store did not answer, or what it answered makes no sense."""

    reason: str


@dataclass(frozen=True)
class Nothing:
    """The store surely has no current snapshot. ``strays``: snapshots which it has nevertheless. ``began``, ``owner``:
    of the blank current.json; 0: there is none, or it does not tell."""

    strays: tuple[str, ...] = ()
    began: int = 0
    owner: int = 0

    @property
    def newest_first(self) -> tuple[str, ...]:
        return tuple(sorted(self.strays, reverse=True))

    @property
    def explained(self) -> bool:
        """Whether every stray is surely a save that was cut off between its upload and current.json."""
        return unpublished(self.strays, self.began, self.owner)


@dataclass(frozen=True)
class Current:
    link: Link


@dataclass(frozen=True)
class Streamed:
    """The newest is what litestream has written, in another mode."""


There = Unknown | Nothing | Current | Streamed


@dataclass(frozen=True)
class Restore:
    """Whatever is here is set aside, never overwritten. ``outdated``: it is a version which the store has had."""

    reason: str
    outdated: bool = False


@dataclass(frozen=True)
class Keep:
    """The local copy is the truth. ``verify``: only after PRAGMA quick_check. ``lost``: the store has nothing of it.
    ``anew``: the store is to get a new version, changed or not."""

    reason: str
    verify: bool = False
    lost: bool = False
    anew: bool = False


@dataclass(frozen=True)
class Create:
    reason: str


@dataclass(frozen=True)
class Adopt:
    """The newest of ``keys`` that is complete is published and restored, and what is here is set aside. All of them
    are saves that were never confirmed. ``otherwise``: where none is complete."""

    reason: str
    keys: tuple[str, ...]  # newest first
    otherwise: Keep | Create


@dataclass(frozen=True)
class Refuse:
    reason: str


Plan = Restore | Keep | Create | Adopt | Refuse


def plan(here: Here, entry: Entry, there: There, touched: bool, sole: bool = True) -> Plan:
    """``touched``: the files are not as they were when they were last known to be saved. ``sole``: nobody else can have
    written since what is recorded of the local copy, other than what the store has."""
    match there:
        case Unknown(reason):
            return Refuse(f"{reason}. Nothing was changed; try again later")
        case Nothing():
            return _store_has_nothing(here, entry, there, touched, sole)
        case Streamed():
            return _was_streamed(here, entry, sole)
        case Current(link):
            return _store_has(link, here, entry, touched, sole)


def _was_streamed(here: Here, entry: Entry, sole: bool) -> Plan:
    if here is Here.SQLITE and sole and entry.line:
        return Keep("litestream had it until now, and all of it is here", verify=True, anew=True)
    return Refuse(
        "litestream has streamed it since its last snapshot: set storage.mode to litestream. To leave that mode, do so "
        "on the machine which served it last"
    )


def _store_has_nothing(here: Here, entry: Entry, there: Nothing, touched: bool, sole: bool) -> Plan:
    if here is not Here.ABSENT:
        if fault := _fault(here, entry):
            return Refuse(fault)
        if not sole and entry.base is None and there.explained and _later(there.strays, entry):
            reason = "another machine took over since, and its first save was cut off before current.json told of it"
            kept = Keep("the first save of the machine which took over is not complete", verify=here is Here.SQLITE)
            return Adopt(reason, there.newest_first, kept)
        lost = entry.base is not None
        reason = "the store has lost it, the local copy is all there is" if lost else "it was never saved yet"
        return Keep(reason, verify=here is Here.SQLITE and (entry.in_use or (touched and lost)), lost=lost)
    if there.strays and there.explained and entry.base is None:
        reason = "the first save was cut off before current.json told of it"
        return Adopt(reason, there.newest_first, Create(f"{reason}, and no snapshot is complete"))
    if there.strays:
        newest = version(max(there.strays))
        return Refuse(f"the store has snapshots but no current.json: restore one (the newest is --version {newest})")
    if known := _known(entry):
        return Refuse(
            f"version {version(known.key)} was saved once, and now it is neither here nor in the store. Is it the "
            "right store? To start anew, remove .flyatc/databases.json from the tenant's folder"
        )
    return Create("it is new: neither the store nor this machine has it")


def _store_has(link: Link, here: Here, entry: Entry, touched: bool, sole: bool) -> Plan:
    if here is Here.ABSENT:
        return Restore(f"version {version(link.key)} is in the store, nothing is here")
    if fault := _fault(here, entry):
        return Refuse(fault)
    verify = entry.in_use or touched
    if entry.descends_from(link) and not sole and (verify or link != entry.base):
        return Restore(f"another machine took over since, and may have built upon {version(link.key)} as well")
    if entry.descends_from(link):
        return Keep(f"the local copy is version {version(link.key)} or newer", verify=verify)
    known = _known(entry)
    if known is None:
        return Restore(f"nobody knows where the local copy comes from, the store has {version(link.key)}")
    reason = f"the local copy comes from {version(known.key)}, the store has {version(link.key)}"
    return Restore(reason, outdated=not verify and entry.base is not None)


def _later(keys: tuple[str, ...], entry: Entry) -> bool:
    return any((number(key) or (0, 0))[0] > entry.epoch for key in keys)


def _known(entry: Entry) -> Link | None:
    return entry.base or (entry.pending[-1] if entry.pending else None)


def _fault(here: Here, entry: Entry) -> str | None:
    if here is Here.OTHER:
        return "the local file is not a SQLite database: move it away, then the store's version is restored"
    if here is Here.EMPTY and _known(entry):
        return "the local file is empty although it had content: move it away, then the store's version is restored"
    return None
