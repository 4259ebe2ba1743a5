"""Tests of which databases are streamed, which are saved as snapshots, and when litestream lets go to find out."""

import pytest

from flyatc.databases.litestream import wal_rules
from flyatc.databases.litestream.wal_rules import LONGEST_PROBE, PROBE, Journal, Mode, Seen


@pytest.mark.parametrize(
    ("journal", "doubted", "mode"),
    [
        (Journal.ABSENT, False, Mode.WAITING),
        (Journal.ABSENT, True, Mode.WAITING),
        (Journal.OTHER, False, Mode.SAVED),
        (Journal.WAL, False, Mode.STREAMED),
        (Journal.WAL, True, Mode.PROBED),
    ],
)
def test_a_start_streams_only_what_the_app_has_left_in_wal_mode(journal: Journal, doubted: bool, mode: Mode) -> None:
    assert wal_rules.first(journal, doubted=doubted) is mode


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.SAVED])
def test_whatever_the_mode_a_file_which_is_not_wal_is_saved_as_snapshots(mode: Mode) -> None:
    assert wal_rules.following(mode, Seen(Journal.OTHER)) is Mode.SAVED


@pytest.mark.parametrize("journal", list(Journal))
def test_streaming_does_not_come_back_before_the_next_start(journal: Journal) -> None:
    assert wal_rules.following(Mode.SAVED, Seen(journal, since=1e9, written=True)) is Mode.SAVED


def test_a_new_database_is_streamed_as_soon_as_it_is_there_in_wal_mode() -> None:
    assert wal_rules.following(Mode.WAITING, Seen(Journal.ABSENT)) is Mode.WAITING
    assert wal_rules.following(Mode.WAITING, Seen(Journal.WAL)) is Mode.STREAMED


def test_trouble_makes_litestream_let_go_once_in_a_run() -> None:
    assert wal_rules.following(Mode.STREAMED, Seen(Journal.WAL)) is Mode.STREAMED
    assert wal_rules.following(Mode.STREAMED, Seen(Journal.WAL, trouble=True)) is Mode.PROBED
    assert wal_rules.following(Mode.STREAMED, Seen(Journal.WAL, trouble=True, probed=True)) is Mode.STREAMED


def test_a_probe_ends_when_the_app_has_written_in_wal_mode_or_nothing_happens_for_long() -> None:
    quiet = Seen(Journal.WAL, since=PROBE + 1)
    assert wal_rules.following(Mode.PROBED, quiet) is Mode.PROBED
    assert wal_rules.following(Mode.PROBED, Seen(Journal.WAL, since=PROBE - 1, written=True)) is Mode.PROBED
    assert wal_rules.following(Mode.PROBED, Seen(Journal.WAL, since=PROBE + 1, written=True)) is Mode.STREAMED
    again = Seen(Journal.WAL, since=PROBE + 1, written=True, trouble=True)
    assert wal_rules.following(Mode.PROBED, again) is Mode.PROBED
    assert wal_rules.following(Mode.PROBED, Seen(Journal.WAL, since=LONGEST_PROBE + 1)) is Mode.STREAMED
