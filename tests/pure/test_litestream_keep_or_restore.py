"""The copy that counts in litestream mode, with the reason."""

import pytest

from fakes.owners import FakeLease, previous
from flyatc.databases.decisions.keep_or_restore import LOST, Adopt, Create, Here, Keep, Nothing, Refuse, Restore
from flyatc.databases.litestream.keep_or_restore import (
    PlanInput,
    RestoreLine,
    RestoreSnapshotOrLine,
    Saved,
    newest,
    plan,
)
from flyatc.databases.litestream.replica_layout import Line, Lines
from flyatc.databases.manifest import Entry, Link, Position
from flyatc.ownership.lease import PreviousLease

LINE = Line(number=5, txid=7, size=100, since=1000.0, until=2000.0)
SNAPSHOT = Link("000004-000000001.sqlite3.zst", "0" * 64)
OURS = Entry(epoch=6, line=5, txid=7)


def asked(
    here: Here = Here.SQLITE,
    entry: Entry = OURS,
    touched: bool = False,
    before: PreviousLease = previous(6, clean=True),  # noqa: B008
    lines: tuple[Line, ...] = (LINE,),
    strange: tuple[str, ...] = (),
    saved: Saved | None = None,
    strays: tuple[str, ...] = (),
    blank: tuple[int, int] = (0, 0),
    current: int = 5,
    epoch: int = 0,
    written: int | None = None,
) -> PlanInput:
    sole = FakeLease(max(epoch, before.epoch), before).last_writer(entry.epoch)
    nothing = Nothing(strays, *blank)
    return PlanInput(here, entry, touched, before.clean, sole, Lines(lines, strange), saved, nothing, current, written)


def test_the_last_writer_keeps_its_local_copy() -> None:
    assert plan(asked()) == Keep("no other machine has written it since")
    assert plan(asked(touched=True)) == Keep("no other machine has written it since", verify=True)
    crashed = asked(entry=Entry(epoch=6, in_use=True), before=previous(6, clean=False), current=7)
    assert plan(crashed) == Keep("no other machine has written it since", verify=True)


def test_a_file_of_an_epoch_of_ours_is_the_newest_whichever_machine_had_it_before() -> None:
    robbed = previous(4, clean=False)
    failed = asked(entry=Entry(epoch=5, in_use=True), before=robbed, epoch=6)
    assert plan(failed) == Keep("no other machine has written it since", verify=True)
    twice = asked(entry=Entry(epoch=4, in_use=True, txid=1), before=previous(4, False, 3), epoch=6)
    assert isinstance(plan(twice), Keep)
    assert isinstance(plan(asked(entry=Entry(epoch=3, in_use=True, txid=1), before=robbed, epoch=6)), RestoreLine)


SET_BACK = "which this disk has never had: it was set back to an earlier state"


def test_a_disk_that_was_set_back_is_not_the_newest_although_no_other_machine_has_written() -> None:
    """A backup of the data folder, or a snapshot of the volume, from before the last transactions were sent."""
    reason = f"the store has transaction 7 of e000005, {SET_BACK}"
    stopped = Entry(epoch=6, line=5, txid=6)
    assert plan(asked(entry=stopped)) == RestoreLine(reason, LINE, outdated=True)
    assert plan(asked(entry=stopped, touched=True)) == RestoreLine(reason, LINE), "a copy has other inodes"
    running = Entry(epoch=6, line=5, txid=2, in_use=True)
    assert plan(asked(entry=running, written=6)) == RestoreLine(reason, LINE)
    saved = Saved(SNAPSHOT, 5, 2000.0, position=Position(5, 0, 7))
    assert isinstance(plan(asked(entry=stopped, saved=saved)), RestoreSnapshotOrLine)
    renewed = Line(5, 1, 100, 2000.0, 2000.0, renewal=1)
    assert isinstance(plan(asked(entry=running, lines=(LINE, renewed))), RestoreLine)


def test_a_crash_sets_no_disk_back() -> None:
    running = Entry(epoch=6, line=5, txid=2, in_use=True)
    for written in (None, 7, 8):
        assert isinstance(plan(asked(entry=running, written=written)), Keep)
    renewing = Entry(epoch=6, line=5, renewal=1, in_use=True)
    assert isinstance(plan(asked(entry=renewing, written=1)), Keep), "nothing of the new line was sent yet"
    snapshots = Entry(epoch=6, in_use=True)
    assert isinstance(plan(asked(entry=snapshots, written=1)), Keep), "it was not streamed"


def test_another_owner_who_wrote_nothing_leaves_ours_as_good() -> None:
    later = previous(8, clean=True)
    assert plan(asked(before=later)) == Keep("the store has transaction 7 of e000005, which is what is here")
    assert isinstance(plan(asked(before=later, touched=True)), RestoreLine)
    assert isinstance(plan(asked(before=later, entry=Entry(epoch=6, line=5, txid=7, in_use=True))), RestoreLine)
    assert isinstance(plan(asked(before=previous(8, clean=False))), RestoreLine)


def test_what_another_wrote_is_taken_and_ours_is_kept_unless_the_store_has_had_it() -> None:
    later, longer = previous(8, clean=True), (Line(5, 9, 100, 1000.0, 2000.0),)
    reason = "the store has transaction 9 of e000005, the local copy is transaction 7 of e000005"
    assert plan(asked(before=later, lines=longer)) == RestoreLine(reason, longer[0], outdated=True)
    assert plan(asked(before=later, lines=longer, touched=True)) == RestoreLine(reason, longer[0], outdated=False)
    unknown = plan(asked(before=later, entry=Entry()))
    assert unknown == RestoreLine(
        "the store has transaction 7 of e000005, and the origin of the local copy is unknown", LINE
    )


def test_the_newest_line_counts() -> None:
    newer = Line(8, 1, 10, 3000.0, 3000.0)
    decided = plan(asked(before=previous(8, clean=True), lines=(LINE, newer), current=8))
    assert isinstance(decided, RestoreLine)
    assert decided.line == newer


def test_a_line_newer_than_ours_is_refused() -> None:
    refused = plan(asked(current=4))
    assert isinstance(refused, Refuse)
    assert "was the owner's record removed" in refused.reason


def test_without_leases_a_record_proves_something_only_if_no_other_machine_takes_part() -> None:
    old, nonesuch = Entry(txid=3), previous(0, clean=True)
    assert isinstance(plan(asked(entry=old, before=nonesuch)), RestoreLine)
    alone = (Line(0, 7, 10, 1.0, 2.0),)
    assert isinstance(plan(asked(entry=old, before=nonesuch, lines=alone, current=0)), Keep)


def test_what_is_strange_or_no_database_starts_nothing() -> None:
    assert isinstance(plan(asked(strange=("users/x/e000005/hello",))), Refuse)
    assert isinstance(plan(asked(here=Here.OTHER)), Refuse)
    assert isinstance(plan(asked(here=Here.EMPTY)), Refuse)
    assert isinstance(plan(asked(here=Here.ABSENT, lines=())), Refuse)
    strays = plan(asked(here=Here.ABSENT, lines=(), entry=Entry(), strays=("000004-000000001.sqlite3.zst",)))
    assert isinstance(strays, Refuse)
    assert "000004-000000001" in strays.reason


def test_a_first_snapshot_that_was_never_named_is_adopted_if_it_is_certain_that_nothing_was() -> None:
    key = SNAPSHOT.key  # of epoch 4
    for blank in ((0, 0), (5, 6), (1, 3)):
        assert isinstance(plan(asked(here=Here.ABSENT, lines=(), entry=Entry(), strays=(key,), blank=blank)), Refuse)
    found = plan(asked(here=Here.ABSENT, lines=(), entry=Entry(), strays=(key,), blank=(4, 6)))
    assert isinstance(found, Adopt)
    assert (found.keys, type(found.otherwise)) == ((key,), Create)
    here, streamed = Entry(epoch=3, in_use=True), Entry(epoch=3, line=3, txid=2)
    taken = plan(asked(entry=here, before=previous(6, clean=False), lines=(), strays=(key,), blank=(3, 6)))
    assert isinstance(taken, Adopt)
    assert isinstance(taken.otherwise, Keep)
    ours = plan(asked(entry=Entry(epoch=4, in_use=True), lines=(), strays=(key,), blank=(3, 6)))
    assert isinstance(ours, Keep), "it is of this machine, and the local copy is that or newer"
    assert isinstance(plan(asked(entry=streamed, lines=(), strays=(key,), blank=(3, 6))), Keep)
    gone = plan(asked(here=Here.ABSENT, entry=streamed, lines=(), strays=(key,), blank=(3, 6)))
    assert isinstance(gone, Refuse), "a stream was lost: it had newer content"


def test_only_what_is_nowhere_begins_empty() -> None:
    assert isinstance(plan(asked(here=Here.ABSENT, lines=(), entry=Entry())), Create)
    assert isinstance(plan(asked(here=Here.ABSENT)), RestoreLine)
    never = "it was never streamed yet"
    assert plan(asked(lines=(), entry=Entry())) == Keep(never)
    assert plan(asked(lines=(), entry=Entry(in_use=True))) == Keep(never, verify=True)
    assert plan(asked(lines=())) == Keep(LOST, lost=True)


@pytest.mark.parametrize(
    ("epoch", "modified", "kind"),
    [(5, 3000.0, Restore), (6, 2000.5, Restore), (5, 1999.0, RestoreLine), (4, 3000.0, RestoreLine)],
)
def test_a_snapshot_counts_if_it_is_newer_than_the_newest_line(epoch: int, modified: float, kind: type) -> None:
    saved = Saved(SNAPSHOT, epoch, modified)
    assert isinstance(plan(asked(here=Here.ABSENT, entry=Entry(), saved=saved)), kind)


def test_a_copy_which_comes_from_the_snapshot_is_kept() -> None:
    saved = Saved(SNAPSHOT, 4, 3000.0)
    assert isinstance(plan(asked(entry=Entry(base=SNAPSHOT), lines=(), saved=saved)), Keep)
    assert isinstance(plan(asked(entry=Entry(), lines=(), saved=saved)), Restore)
    other = Entry(base=Link("000003-000000001.sqlite3.zst", "1" * 64))
    assert isinstance(plan(asked(entry=other, before=previous(0, clean=True), lines=(), saved=saved)), Restore)


@pytest.mark.parametrize(
    ("position", "is_snapshot", "is_line", "reported"),
    [
        (
            Position(5, 0, 7),
            True,
            True,
            "the store has the snapshot 000004-000000001, which is transaction 7 of e000005",
        ),
        (
            Position(5, 0, 8),
            True,
            False,
            "the store has the snapshot 000004-000000001, which is later than transaction 7 of e000005",
        ),
        (Position(6, 0, 1), True, False, None),
        (Position(5, 1, 1), True, False, None),
        (
            Position(5, 0, 6),
            False,
            True,
            "the store has transaction 7 of e000005, which is later than the snapshot 000004-000000001",
        ),
        (Position(4, 3, 99), False, True, None),
    ],
)
def test_positions_decide_which_copy_is_newer_whatever_the_clocks_say(
    position: Position, is_snapshot: bool, is_line: bool, reported: str | None
) -> None:
    for modified in (0.0, 9e9):
        found = newest(Saved(SNAPSHOT, 4, modified, position=position), LINE)
        assert found is not None
        assert (found.saved is not None, found.line is not None) == (is_snapshot, is_line)
        assert reported in (None, found.what)


def test_a_renewed_line_is_newer_than_the_one_that_was_left() -> None:
    left = Saved(SNAPSHOT, 5, 9e9, position=Position(5, 0, 1000))
    renewed = Line(number=5, txid=1, size=100, since=1000.0, until=2000.0, renewal=1)
    found = newest(left, renewed)
    assert found is not None
    assert (found.saved, found.line) == (None, renewed)


def test_a_snapshot_and_a_line_which_are_the_same_are_either_good() -> None:
    same = Saved(SNAPSHOT, 5, 0.0, position=LINE.position)
    decided = plan(asked(here=Here.ABSENT, entry=Entry(), saved=same))
    assert isinstance(decided, RestoreSnapshotOrLine)
    assert decided.line == LINE
    outdated = plan(asked(before=previous(8, clean=True), entry=Entry(epoch=6, line=5, txid=6), saved=same))
    assert isinstance(outdated, RestoreSnapshotOrLine)
    assert outdated.outdated
    kept = plan(asked(before=previous(8, clean=True), saved=same))
    assert isinstance(kept, Keep), "what is here is that transaction"


def test_the_copy_of_another_renewal_is_not_what_is_here() -> None:
    renewed = Line(number=5, txid=7, size=100, since=1000.0, until=2000.0, renewal=1)
    assert isinstance(plan(asked(before=previous(8, clean=True), lines=(LINE, renewed))), RestoreLine)
