"""Alarms about a database's WAL and its stream, and when everything is sent again."""

import itertools

from flyatc.databases.decisions.alarms import LARGE_WAL, LONGEST_PAUSE, RENEW, STUCK, Watch


def see(
    watch: Watch, now: float, *, wal: int = 0, at: int = 1, behind: bool = True, patience: float = 0.0
) -> list[str]:
    return [level for level, _ in watch.see(now, wal, at, behind=behind, patience=patience)]


def test_a_wal_which_grows_is_reported_once_and_until_it_is_small_again() -> None:
    watch = Watch()
    assert see(watch, 0, wal=LARGE_WAL, behind=False) == []
    assert see(watch, 1, wal=LARGE_WAL + 1, behind=False) == ["warning"]
    assert see(watch, 2, wal=2 * LARGE_WAL, behind=False) == []
    assert "256.0 MB" in watch.sentences[0]
    assert see(watch, 3, wal=LARGE_WAL - 1, behind=False) == []
    assert watch.sentences
    assert see(watch, 4, wal=1000, behind=False) == ["info"]
    assert watch.sentences == []


def test_a_position_which_moves_is_no_alarm_however_long_it_is_behind() -> None:
    watch = Watch()
    for second in range(1000):
        assert see(watch, second, at=second // 20) == []


def test_a_database_without_writes_is_no_alarm() -> None:
    watch = Watch()
    for second in range(1000):
        assert see(watch, second, behind=False) == []


def test_changes_without_a_step_are_an_error_and_then_all_is_sent_anew() -> None:
    watch, reported = Watch(), []
    for second in range(int(RENEW) + 5):
        reported += see(watch, second)
        due = watch.renewal_due(second)
        assert due == (second == RENEW + 1), second
    assert reported == ["error"]
    assert watch.stuck > STUCK
    assert "got nothing" in watch.sentences[0]
    assert see(watch, 100, at=2) == ["info"]
    assert (watch.stuck, watch.sentences) == (0.0, [])


def test_renewals_become_rare() -> None:
    watch = Watch()
    times = [second for second in range(40_000) if see(watch, second) is not None and watch.renewal_due(second)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] == 2 * RENEW
    assert all(later >= earlier for earlier, later in itertools.pairwise(pauses))
    assert pauses[-1] == LONGEST_PAUSE


def test_a_large_database_may_take_its_time() -> None:
    watch = Watch()
    for second in range(500):
        assert see(watch, second, patience=500.0) == []
    assert see(watch, 502, patience=500.0) == ["error"]
