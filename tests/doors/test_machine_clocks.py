"""The real clocks of this machine, and the scheduler's account of this thread."""

import time
from pathlib import Path

import pytest

from flyatc.kit import machine_clocks
from flyatc.kit.machine_clocks import Clock


def test_a_thread_that_works_has_run_and_one_that_sleeps_has_neither_run_nor_waited() -> None:
    scheduled = Clock().scheduled
    (ran, waited), began = scheduled(), time.monotonic()
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    ran, waited = scheduled()[0] - ran, scheduled()[1] - waited
    assert ran >= 0.19
    assert ran + waited <= time.monotonic() - began + 0.02
    before = scheduled()
    time.sleep(0.2)  # noqa: TID251 - the sleep is the fact
    assert scheduled()[0] - before[0] < 0.05


def test_without_the_schedulers_account_its_own_cpu_time_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_clocks, "SCHEDSTAT", Path("/nowhere"))
    ran, waited = Clock().scheduled()
    assert 0 < ran <= time.thread_time()
    assert waited == 0


def test_a_machine_that_is_awake_has_both_clocks_run_alike() -> None:
    one = Clock()
    before = one.boottime() - one.monotonic()
    time.sleep(0.05)  # noqa: TID251
    assert abs(one.boottime() - one.monotonic() - before) < 0.01
