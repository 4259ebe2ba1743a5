"""The torture test in its short form; ``make torture`` is the long one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torture.plan import short
from torture.run import MODES, torture


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_never_do_two_machines_serve_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda mode: torture(short(mode), tmp_path / mode), MODES))
    for outcome in outcomes:
        print(outcome, *outcome.done, sep="\n")
    assert [fault for outcome in outcomes for fault in outcome.verdict.faults] == []
    assert all(outcome.stolen for outcome in outcomes)
    assert all(outcome.verdict.rows > 20 for outcome in outcomes), "fewer show nothing"
