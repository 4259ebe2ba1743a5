"""What to do with a database before its app may start, in litestream mode: a decision with its reason. Pure.

As in ``databases.plan`` nothing may be overwritten that is not in the store, nothing may start empty unless the store
surely has nothing, and when in doubt nothing starts. What the store has was *listed*: litestream says the same of a
replica that lost its first file as of one that never was.
"""

from dataclasses import dataclass

from flyatc.databases.lineage import Entry, Link, version
from flyatc.databases.litestream.lines import Line, Lines, folder
from flyatc.databases.owned import Former
from flyatc.databases.plan import Create, Here, Keep, Refuse, Restore


@dataclass(frozen=True)
class Saved:
    """A snapshot is in the store as well. ``alone``: nothing was streamed since, so it is the newest."""

    link: Link
    epoch: int
    modified: float  # Unix time, by the store's clock
    alone: bool = False


@dataclass(frozen=True)
class Bring:
    """From a line. Whatever is here is set aside. ``outdated``: that is a state which the store has had, not kept."""

    reason: str
    line: Line
    outdated: bool = False


Plan = Keep | Bring | Restore | Create | Refuse


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


def plan(asked: Asked) -> Plan:
    if fault := _doubt(asked):
        return Refuse(fault)
    line, saved = asked.lines.last, asked.saved
    if saved is not None and (line is None or _newer(saved, line)):
        return _snapshot(asked, saved)
    if line is not None:
        return _stream(asked, line)
    return _nothing(asked)


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


def _newer(saved: Saved, line: Line) -> bool:
    """A line begins with the epoch it is named after: a snapshot of an earlier one cannot be newer."""
    return saved.epoch >= line.number and (saved.alone or saved.modified > line.until)


def _snapshot(asked: Asked, saved: Saved) -> Plan:
    what = f"the store has the snapshot {version(saved.link.key)}"
    ours = asked.entry.descends_from(saved.link) or (asked.entry.epoch > 0 and _latest(asked))
    if asked.here is not Here.ABSENT and ours:
        return Keep(f"{what}, the local copy is that or newer", verify=asked.entry.in_use or asked.touched)
    return Restore(f"{what}, from before it was streamed")


def _stream(asked: Asked, line: Line) -> Plan:
    entry, what = asked.entry, f"the store has transaction {line.txid} of {folder(line.number)}"
    if asked.here is Here.ABSENT:
        return Bring(f"{what}, nothing is here", line)
    if _latest(asked):
        return Keep("nobody has written it since this machine did", verify=entry.in_use or asked.touched)
    same = (entry.line, entry.txid) == (line.number, line.txid)
    if asked.former.clean and same and not (entry.in_use or asked.touched):
        return Keep(f"{what}, which is what is here")
    if not _was_saved(entry):
        return Bring(f"{what}, and nobody knows where the local copy comes from", line)
    here = f"{what}, the local copy is transaction {entry.txid} of {folder(entry.line)}"
    return Bring(here, line, outdated=bool(entry.txid) and not (entry.in_use or asked.touched))


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
    return asked.former.covers(entry.epoch) and (entry.in_use or _was_saved(entry))


def _was_saved(entry: Entry) -> bool:
    return bool(entry.txid or entry.base or entry.pending)
