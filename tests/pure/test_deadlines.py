"""Deadlines of calls."""

import math

from flyatc.kit.timing import CallProgress, Moving, Within


def test_a_total_time_includes_the_wait_for_a_thread() -> None:
    assert Within(40).due(CallProgress(asked=100)) == 140
    assert Within(40).due(CallProgress(asked=100, begun=130, moved=139, total=1 << 40)) == 140


def test_a_transfer_that_waits_for_a_thread_is_not_given_up() -> None:
    assert Moving(60, 60, 1000).due(CallProgress(asked=100)) == math.inf


def test_a_transfer_that_makes_no_progress_is_given_up() -> None:
    moving = Moving(60, 60, 1000)
    assert moving.due(CallProgress(asked=0, begun=100, total=1 << 30)) == 160
    assert moving.due(CallProgress(asked=0, begun=100, moved=150, total=1 << 30)) == 210


def test_a_transfer_that_makes_progress_has_a_total_bound_by_its_size() -> None:
    assert Moving(60, 60, 1000).due(CallProgress(asked=0, begun=100, moved=150, total=10_000)) == 170
