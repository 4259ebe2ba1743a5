"""What to do with a database before its app may start, in litestream mode: a decision with its reason. Pure.

As in ``databases.plan`` nothing may be overwritten that is not in the store, nothing may start empty unless the store
surely has nothing, and when in doubt nothing starts. What the store has was *listed*: litestream says the same of a
replica that lost its first file as of one that never was.
"""

from dataclasses import dataclass

from flyatc.databases.lineage import Entry, Link, Position, version
from flyatc.databases.litestream.lines import Line, Lines, folder
from flyatc.databases.owned import Former, last_writer
from flyatc.databases.plan import Create, Here, Keep, Refuse, Restore


@dataclass(frozen=True)
class Saved:
    """A snapshot: of the last clean stop, or from when it was not streamed. ``alone``: nothing was streamed since."""

    link: Link
    epoch: int
    modified: float  # Unix time, by the store's clock; counts where ``position`` is not known
    alone: bool = False
    position: Position | None = None  # of the stream which had the same


@dataclass(frozen=True)
class Bring:
    """From a line. Whatever is here is set aside. ``outdated``: that is a state which the store has had, not kept."""

    reason: str
    line: Line
    outdated: bool = False


@dataclass(frozen=True)
class Either:
    """A snapshot and a line which have the same, by their position: the snapshot is one object, and quicker."""

    reason: str
    line: Line
    outdated: bool = False


Plan = Keep | Bring | Either | Restore | Create | Refuse


@dataclass(frozen=True)
class Asked:
    """``touched``: the files are not as they were when they were last known to be replicated."""

    here: Here
    entry: Entry
    touched: bool
    former: Former
    lines: Lines
    saved: Saved | None
    strays: tuple[str, ...]  # snapshots without a current.json
    current: int  # the line which is to be written
    epoch: int = 0  # of this machine


def plan(asked: Asked) -> Plan:
    if fault := _doubt(asked):
        return Refuse(fault)
    found = newest(asked.saved, asked.lines.last)
    if found is None:
        return _nothing(asked)
    if found.saved is not None and found.saved.position is None:
        return _snapshot(asked, found.saved)
    return _streamed(asked, found)


@dataclass(frozen=True)
class Newest:
    """What the store has that is newest: ``saved``, ``line``, or both, which are the same. ``what``: in words."""

    saved: Saved | None
    line: Line | None
    what: str


def newest(saved: Saved | None, line: Line | None) -> Newest | None:
    """None: the store has nothing. Positions decide; the store's clock only for a snapshot without one."""
    if line is None:
        return None if saved is None else Newest(saved, None, _of_snapshot(saved))
    if saved is None:
        return Newest(None, line, _of_line(line))
    if saved.position is None:
        return Newest(saved, None, _of_snapshot(saved)) if _later(saved, line) else Newest(None, line, _of_line(line))
    if saved.position == line.position:
        return Newest(saved, line, f"{_of_snapshot(saved)}, which is {_transaction(line)}")
    if saved.position > line.position:
        return Newest(saved, None, f"{_of_snapshot(saved)}, which is later than {_transaction(line)}")
    return Newest(None, line, f"{_of_line(line)}, which is later than the snapshot {version(saved.link.key)}")


def _of_snapshot(saved: Saved) -> str:
    return f"the store has the snapshot {version(saved.link.key)}"


def _of_line(line: Line) -> str:
    return f"the store has {_transaction(line)}"


def _transaction(line: Line) -> str:
    return f"transaction {line.txid} of {line.name}"


def _later(saved: Saved, line: Line) -> bool:
    """A line begins with the epoch it is named after: a snapshot of an earlier one cannot be newer."""
    return saved.epoch >= line.number and (saved.alone or saved.modified > line.until)


def _doubt(asked: Asked) -> str | None:
    line = asked.lines.last
    if asked.lines.strange:
        return f"the store has {asked.lines.strange[0]}, which is not litestream's: move it away"
    if line is not None and line.number > asked.current:
        return (
            f"the store has {folder(line.number)}, which is newer than what this machine may write "
            f"({folder(asked.current)}): has somebody removed the owner's record?"
        )
    if asked.here is Here.OTHER:
        return "the local file is not a SQLite database: move it away, then the store's version is restored"
    if asked.here is Here.EMPTY and _was_saved(asked.entry):
        return "the local file is empty although it had content: move it away, then the store's version is restored"
    return None


def _snapshot(asked: Asked, saved: Saved) -> Plan:
    """From when the mode was another one."""
    what = _of_snapshot(saved)
    ours = asked.entry.descends_from(saved.link) or (asked.entry.epoch > 0 and _latest(asked))
    if asked.here is not Here.ABSENT and ours:
        return Keep(f"{what}, the local copy is that or newer", verify=asked.entry.in_use or asked.touched)
    return Restore(f"{what}, from before it was streamed")


def _streamed(asked: Asked, found: Newest) -> Plan:
    entry = asked.entry
    changed = entry.in_use or asked.touched
    if asked.here is Here.ABSENT:
        return _bring(found, f"{found.what}, nothing is here")
    if _latest(asked):
        return Keep("nobody has written it since this machine did", verify=changed)
    at = found.line.position if found.line is not None else found.saved and found.saved.position
    if asked.former.clean and entry.position == at and not changed:
        return Keep(f"{found.what}, which is what is here")
    if not _was_saved(entry):
        return _bring(found, f"{found.what}, and nobody knows where the local copy comes from")
    here = f"the local copy is transaction {entry.txid} of {folder(entry.line, entry.renewal)}"
    return _bring(found, f"{found.what}, {here}", outdated=bool(entry.txid) and not changed)


def _bring(found: Newest, reason: str, *, outdated: bool = False) -> Plan:
    if found.line is None:
        return Restore(reason, outdated)
    return Either(reason, found.line, outdated) if found.saved is not None else Bring(reason, found.line, outdated)


def _nothing(asked: Asked) -> Plan:
    entry = asked.entry
    if asked.here is not Here.ABSENT:
        lost = _was_saved(entry)
        reason = "the store has lost it, the local copy is all there is" if lost else "it was never streamed yet"
        return Keep(reason, verify=asked.here is Here.SQLITE and (entry.in_use or (asked.touched and lost)), lost=lost)
    if asked.strays:
        newest = version(max(asked.strays))
        return Refuse(f"the store has snapshots but no current.json: restore one (the newest is --version {newest})")
    if _was_saved(entry):
        return Refuse(
            "it was in the store once, and now it is neither here nor there. Is it the right store? To start anew, "
            "remove .flyatc/databases.json from the tenant's folder"
        )
    return Create("it is new: neither the store nor this machine has it")


def _latest(asked: Asked) -> bool:
    """Nobody can have written after this machine: the record which was taken over is the one it wrote. Without owners
    (epochs are 0) that holds only where it is agreed that there is nobody else (then lines are 0 as well)."""
    entry = asked.entry
    if entry.epoch == 0 and asked.current > 0:
        return False
    return last_writer(asked.former, asked.epoch, entry.epoch) and (entry.in_use or _was_saved(entry))


def _was_saved(entry: Entry) -> bool:
    return bool(entry.txid or entry.base or entry.pending or entry.saved_at is not None)
