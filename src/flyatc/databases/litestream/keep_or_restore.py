"""Decide what to do with a database before its app starts, in litestream mode. Pure.

As in ``databases.decisions.keep_or_restore`` nothing is overwritten that is not in the store, nothing starts empty
unless the store certainly has nothing, and in doubt the plan is to refuse. The content of the store was *listed*:
litestream reports the same for a replica that lost its first file as for none. Each plan has its reason.
"""

from dataclasses import dataclass

from flyatc.databases.decisions.keep_or_restore import (
    LOST,
    Adopt,
    Create,
    Here,
    Keep,
    Nothing,
    Refuse,
    Restore,
    cut_off_save,
    refuse_strays,
)
from flyatc.databases.litestream.replica_layout import Line, Lines, folder
from flyatc.databases.manifest import Entry, Link, Position, version


@dataclass(frozen=True)
class Saved:
    """A snapshot of the last clean stop, or from before streaming. ``alone``: nothing was streamed since."""

    link: Link
    epoch: int
    modified: float  # Unix time, by the store's clock; counts where ``position`` is not known
    alone: bool = False
    position: Position | None = None  # of the stream with the same content


@dataclass(frozen=True)
class RestoreLine:
    """Restore a line, and set aside the local file. ``outdated``: the store has had its state, so it is not kept."""

    reason: str
    line: Line
    outdated: bool = False


@dataclass(frozen=True)
class RestoreSnapshotOrLine:
    """Restore the snapshot, which is one object and quicker, or the line at the same position."""

    reason: str
    line: Line
    outdated: bool = False


Plan = Keep | RestoreLine | RestoreSnapshotOrLine | Restore | Create | Adopt | Refuse


@dataclass(frozen=True)
class PlanInput:
    """State of a database. ``touched``: the files have changed since they were last known to be replicated.
    ``clean``: the previous holder has saved everything. ``sole``: no other machine can have written since ``entry``.
    ``written``: the last transaction that litestream has put on the disk, in the line of ``entry``; None: unknown."""

    here: Here
    entry: Entry
    touched: bool
    clean: bool
    sole: bool
    lines: Lines
    saved: Saved | None
    nothing: Nothing  # the snapshots without a current.json, where the store has nothing else
    current: int  # the line that this machine writes
    written: int | None = None


def plan(asked: PlanInput) -> Plan:
    if fault := _doubt(asked):
        return Refuse(fault)
    found = newest(asked.saved, asked.lines.last)
    if found is None:
        return _plan_for_empty_store(asked)
    if found.saved is not None and found.saved.position is None:
        return _snapshot(asked, found.saved)
    return _streamed(asked, found)


@dataclass(frozen=True)
class Newest:
    """The newest content of the store: ``saved``, ``line``, or both if they are the same. ``what``: as text."""

    saved: Saved | None
    line: Line | None
    what: str

    @property
    def position(self) -> Position | None:
        if self.line is not None:
            return self.line.position
        return self.saved.position if self.saved is not None else None


def newest(saved: Saved | None, line: Line | None) -> Newest | None:
    """Choose by position, or by the store's clock if the snapshot has none. None: the store has nothing."""
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
    """Return whether the snapshot is newer. One of an epoch before the line's cannot be."""
    return saved.epoch >= line.number and (saved.alone or saved.modified > line.until)


def _doubt(asked: PlanInput) -> str | None:
    line = asked.lines.last
    if asked.lines.strange:
        return f"the store has {asked.lines.strange[0]}, which is not litestream's: move it away"
    if line is not None and line.number > asked.current:
        return (
            f"the store has {folder(line.number)}, which is newer than what this machine may write "
            f"({folder(asked.current)}): was the owner's record removed?"
        )
    if asked.here is Here.OTHER:
        return "the local file is not a SQLite database: move it away, then the store's version is restored"
    if asked.here is Here.EMPTY and _was_saved(asked.entry):
        return "the local file is empty although it had content: move it away, then the store's version is restored"
    return None


def _snapshot(asked: PlanInput, saved: Saved) -> Plan:
    """Plan for a newest snapshot from another storage mode."""
    what = _of_snapshot(saved)
    ours = asked.entry.descends_from(saved.link) or (asked.entry.epoch > 0 and _local_copy_is_latest(asked))
    if asked.here is not Here.ABSENT and ours:
        return Keep(f"{what}, the local copy is that or newer", verify=asked.entry.in_use or asked.touched)
    return Restore(f"{what}, from before it was streamed")


def _streamed(asked: PlanInput, found: Newest) -> Plan:
    entry = asked.entry
    changed = entry.in_use or asked.touched
    if asked.here is Here.ABSENT:
        return _restore_newest(found, f"{found.what}, nothing is here")
    at = found.position
    if _local_copy_is_latest(asked):
        if at is None or not _was_set_back(asked, at):
            return Keep("no other machine has written it since", verify=changed)
        reason = f"{found.what}, which this disk has never had: it was set back to an earlier state"
        return _restore_newest(found, reason, outdated=bool(entry.txid) and not changed)
    if asked.clean and entry.position == at and not changed:
        return Keep(f"{found.what}, which is what is here")
    if not _was_saved(entry):
        return _restore_newest(found, f"{found.what}, and the origin of the local copy is unknown")
    here = f"the local copy is transaction {entry.txid} of {folder(entry.line, entry.renewal)}"
    return _restore_newest(found, f"{found.what}, {here}", outdated=bool(entry.txid) and not changed)


def _restore_newest(found: Newest, reason: str, *, outdated: bool = False) -> Plan:
    if found.line is None:
        return Restore(reason, outdated)
    return (
        RestoreSnapshotOrLine(reason, found.line, outdated)
        if found.saved is not None
        else RestoreLine(reason, found.line, outdated)
    )


def _plan_for_empty_store(asked: PlanInput) -> Plan:
    entry = asked.entry
    if not (entry.txid or entry.saved_at is not None):
        adopted = cut_off_save(asked.here, entry, asked.nothing, asked.sole)
        if adopted is not None:
            return adopted
    if asked.here is not Here.ABSENT:
        lost = _was_saved(entry)
        reason = LOST if lost else "it was never streamed yet"
        return Keep(reason, verify=asked.here is Here.SQLITE and (entry.in_use or (asked.touched and lost)), lost=lost)
    if asked.nothing.strays:
        return refuse_strays(asked.nothing)
    if _was_saved(entry):
        return Refuse(
            "it was in the store once, and now it is neither here nor there. Is it the right store? To start anew, "
            "remove .flyatc/databases.json from the tenant's folder"
        )
    return Create("it is new: neither the store nor this machine has it")


def _local_copy_is_latest(asked: PlanInput) -> bool:
    """Return whether no other machine can have written after this one: the lease record it found is its own. Without
    leases (epochs are 0) that holds only if this is the only machine (then lines are 0 as well)."""
    entry = asked.entry
    if entry.epoch == 0 and asked.current > 0:
        return False
    return asked.sole and (entry.in_use or _was_saved(entry))


def _was_set_back(asked: PlanInput, at: Position) -> bool:
    """Return whether the disk was set back to an earlier state, such as a backup or a snapshot of the volume. This
    machine alone has written, and a line is put on record, and each transaction on the disk, before it is sent. So the
    store has no more than a disk that was not set back."""
    entry = asked.entry
    if not entry.line:  # it was not streamed
        return False
    if entry.in_use:
        line = (entry.line, entry.renewal)
        last = asked.written if asked.written is not None else at.txid
        return (*line, last) < (at.line, at.renewal, at.txid)
    return entry.txid > 0 and entry.position < at


def _was_saved(entry: Entry) -> bool:
    return bool(entry.txid or entry.base or entry.pending or entry.saved_at is not None)
