"""Decide what to do with a database before its app starts: keep, restore, create, adopt or refuse. Pure.

The decision depends on the local file, its record, and the store. Nothing is overwritten that is not in the store;
nothing starts empty unless the store certainly has nothing; in doubt the plan is to refuse. Each plan has its reason.
"""

from dataclasses import dataclass
from enum import Enum

from flyatc.databases.manifest import Entry, Link, number, unpublished, version


class Here(Enum):
    """Kind of the local file, from its size and its first bytes."""

    ABSENT = "absent"
    EMPTY = "empty"
    SQLITE = "sqlite"
    OTHER = "other"


@dataclass(frozen=True)
class Unknown:
    """The store did not respond, or its response makes no sense."""

    reason: str


@dataclass(frozen=True)
class Nothing:
    """The store certainly has no current snapshot. ``strays``: snapshots that it has nevertheless. ``began`` and
    ``owner``: of the blank current.json; 0: there is none, or unknown."""

    strays: tuple[str, ...] = ()
    began: int = 0
    owner: int = 0

    @property
    def newest_first(self) -> tuple[str, ...]:
        return tuple(sorted(self.strays, reverse=True))

    @property
    def explained(self) -> bool:
        """True if every stray is certainly a save that was cut off between its upload and current.json."""
        return unpublished(self.strays, self.began, self.owner)


@dataclass(frozen=True)
class Current:
    link: Link


@dataclass(frozen=True)
class Streamed:
    """The newest content was written by litestream, in another storage mode."""


There = Unknown | Nothing | Current | Streamed


@dataclass(frozen=True)
class Restore:
    """Restore, and set aside the local file, if any. ``outdated``: that is a version which the store has had."""

    reason: str
    outdated: bool = False


@dataclass(frozen=True)
class Keep:
    """Keep the local copy. ``verify``: only after PRAGMA quick_check. ``lost``: the store has lost its copy. ``anew``:
    save a new version even if unchanged."""

    reason: str
    verify: bool = False
    lost: bool = False
    anew: bool = False


@dataclass(frozen=True)
class Create:
    reason: str


@dataclass(frozen=True)
class Adopt:
    """Publish and restore the newest complete snapshot of ``keys``, and set aside the local file. All of them are saves
    that were never confirmed. ``otherwise``: the plan if none is complete."""

    reason: str
    keys: tuple[str, ...]  # newest first
    otherwise: Keep | Create


@dataclass(frozen=True)
class Refuse:
    reason: str


LOST = "the store has lost it, or is another one than before: the local copy is all there is"
Plan = Restore | Keep | Create | Adopt | Refuse


def plan(here: Here, entry: Entry, there: There, touched: bool, sole: bool = True) -> Plan:
    """Decide. ``touched``: the files have changed since they were last known to be saved. ``sole``: no other machine
    can have written since the local record, except for what the store has."""
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
        if adopted := cut_off_save(here, entry, there, sole):
            return adopted
        lost = entry.base is not None
        reason = LOST if lost else "it was never saved yet"
        return Keep(reason, verify=here is Here.SQLITE and (entry.in_use or (touched and lost)), lost=lost)
    if adopted := cut_off_save(here, entry, there, sole):
        return adopted
    if there.strays:
        return refuse_strays(there)
    if known := _known(entry):
        return Refuse(
            f"version {version(known.key)} was saved once, and now it is neither here nor in the store. Is it the "
            "right store? To start anew, remove .flyatc/databases.json from the tenant's folder"
        )
    return Create("it is new: neither the store nor this machine has it")


def cut_off_save(here: Here, entry: Entry, there: Nothing, sole: bool) -> Adopt | None:
    """Return the plan if the first save, here or on a machine that took over since, was cut off before current.json
    named it."""
    if entry.base is not None or not there.strays or not there.explained:
        return None
    if here is Here.ABSENT:
        reason = "the first save was cut off before current.json named it"
        return Adopt(reason, there.newest_first, Create(f"{reason}, and no snapshot is complete"))
    if sole or not _later(there.strays, entry):
        return None
    reason = "another machine took over since, and its first save was cut off before current.json named it"
    kept = Keep("the first save of the machine which took over is not complete", verify=here is Here.SQLITE)
    return Adopt(reason, there.newest_first, kept)


def refuse_strays(there: Nothing) -> Refuse:
    newest = version(max(there.strays))
    return Refuse(f"the store has snapshots but no current.json: restore one (the newest is --version {newest})")


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
        return Restore(f"the origin of the local copy is unknown, the store has {version(link.key)}")
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
