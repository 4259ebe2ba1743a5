"""Tests of which work keeps an app running without requests."""

import math

from hypothesis import given
from hypothesis import strategies as st

from flyatc.kit.types import Work
from flyatc.tenants import background_work, idle
from flyatc.tenants.background_work import Facts, last_background_work
from flyatc.tenants.idle import Look, Seen, Snapshot, Stop
from flyatc.tenants.state import State

ALL = ["requests", "cpu", "writes", "sleeps"]
NOTHING = Work({}, {})


def facts(at: float, work: Work = NOTHING, written: float | None = None) -> Facts:
    return Facts(at, work, None if written is None else ("a.sqlite3", written))


def test_cpu_time_above_the_floor_is_work() -> None:
    before, now = Work({(1, 7): 1.0}, {}), Work({(1, 7): 2.6}, {})
    found = last_background_work(ALL, facts(150, before), facts(300, now), 0)
    assert found == background_work.Active(300, "its processes use 1% of a core")
    assert last_background_work(["requests", "writes", "sleeps"], facts(150, before), facts(300, now), 0) is None


def test_the_noise_of_an_idle_server_is_not() -> None:
    """0.14% of a core is the most that was measured of uvicorn."""
    before, now = Work({(1, 7): 1.0}, {}), Work({(1, 7): 1.0 + 0.0014 * 150}, {})
    assert last_background_work(ALL, facts(150, before), facts(300, now), 0) is None


def test_a_few_ticks_in_a_short_time_are_not_work() -> None:
    assert last_background_work(ALL, facts(1, Work({(1, 7): 0.1}, {})), facts(1.1, Work({(1, 7): 0.14}, {})), 0) is None


def test_a_process_that_began_meanwhile_counts_in_full_and_a_pid_used_again_is_another_one() -> None:
    before, now = Work({(1, 7): 9.0}, {}), Work({(1, 8): 3.0}, {})
    assert last_background_work(ALL, facts(0, before), facts(100, now), 0) is not None


def test_a_process_that_ended_takes_nothing_from_the_others() -> None:
    before, now = Work({(1, 7): 9.0, (2, 7): 0.0}, {}), Work({(2, 7): 3.0}, {})
    assert last_background_work(ALL, facts(0, before), facts(100, now), 0) is not None


def test_a_write_counts_from_its_own_time() -> None:
    found = last_background_work(ALL, facts(150), facts(300, written=220.0), 0)
    assert found == background_work.Active(220.0, "a.sqlite3 was written 1 min 20 s before the last look")
    assert last_background_work(ALL, facts(150), facts(300, written=220.0), 220.0) is None, "by the last request"
    assert last_background_work(["requests", "cpu"], facts(150), facts(300, written=220.0), 0) is None


def test_a_thread_that_goes_on_sleeping_is_a_job_and_one_that_woke_is_a_loop() -> None:
    before = Work({}, {(5, 7): 1000, (6, 7): 1000})
    found = last_background_work(ALL, facts(150, before), facts(300, Work({}, {(5, 7): 1000, (6, 7): 1001})), 0)
    assert found == background_work.Active(300, "a thread begun by a request waits for a time")
    assert last_background_work(ALL, facts(150, before), facts(300, Work({}, {(6, 7): 1001, (7, 7): 1000})), 0) is None


# --- when it is looked at ---


def snapshot(seen: Seen, quiet_since: float = 0.0, visitors: int = 0, changed: bool = False) -> Snapshot:
    return Snapshot("a", State.READY, visitors, quiet_since, 300.0, changed, seen=seen)


def test_it_is_looked_at_after_half_of_the_time_and_at_its_end_and_stopped_then() -> None:
    assert idle.sweep([snapshot(Seen(True))], 149) == ([], 150)
    assert idle.sweep([snapshot(Seen(True))], 150) == ([Look("a")], math.inf)
    assert idle.sweep([snapshot(Seen(True, looking=True))], 400) == ([], math.inf)
    assert idle.sweep([snapshot(Seen(True, first_at=150))], 299) == ([], 300)
    assert idle.sweep([snapshot(Seen(True, first_at=150))], 300) == ([Look("a")], math.inf)
    stop = Stop("a", "no request for 5 min", again=False)
    assert idle.sweep([snapshot(Seen(True, first_at=150, quiet_at=300))], 300) == ([stop], math.inf)


def test_work_moves_the_stop_and_the_looks() -> None:
    seen = Seen(True, active_at=300, first_at=300, reason="it works")
    assert idle.sweep([snapshot(seen)], 300) == ([], 600)
    assert snapshot(seen).idle_at == 600
    written = Seen(True, active_at=250, first_at=150, reason="it works")
    assert idle.sweep([snapshot(written)], 300) == ([], 400), "compared anew from after the write"


def test_a_request_makes_the_first_look_worthless() -> None:
    assert idle.sweep([snapshot(Seen(True, first_at=150, quiet_at=300), quiet_since=200)], 340) == ([], 350)


def test_a_late_first_look_is_followed_by_another_half() -> None:
    assert idle.sweep([snapshot(Seen(True, first_at=290))], 300) == ([], 440)


def test_after_idle_most_it_is_stopped_whatever_it_does() -> None:
    seen = Seen(True, most=1000, active_at=900, first_at=900, reason="its processes use 99% of a core")
    assert idle.sweep([snapshot(seen)], 999) == ([], 1000)
    steps, _ = idle.sweep([snapshot(seen)], 1000)
    why = "no request for 16 min (idle_most); its processes use 99% of a core"
    assert steps == [Stop("a", why, again=False)]


def test_a_most_below_idle_does_not_shorten_it() -> None:
    assert idle.sweep([snapshot(Seen(True, most=10, first_at=150))], 299) == ([], 300)


def test_a_changed_tenant_restarts_although_it_works() -> None:
    steps, _ = idle.sweep([snapshot(Seen(True, active_at=5, first_at=5, reason="x"), changed=True)], 6)
    assert steps == [Stop("a", "its configuration has changed", again=True)]


def test_who_works_is_evicted_last() -> None:
    works = Snapshot("works", State.READY, 0, 0.0, 300.0, False, seen=Seen(True, reason="x"))
    rests = Snapshot("rests", State.READY, 0, 9.0, 300.0, False, seen=Seen(True))
    assert idle.tenant_to_evict([works, rests], newcomer=False) == "rests"
    assert idle.tenant_to_evict([works], newcomer=False) == "works"


times = st.floats(0, 2000)


@given(st.builds(Seen, st.just(True), times, times, times, times), times, st.booleans(), times)
def test_looking_again_when_due_finds_something_to_do(seen: Seen, quiet: float, changed: bool, now: float) -> None:
    one = snapshot(seen, quiet, changed=changed)
    steps, later = idle.sweep([one], now)
    assert later > now
    assert steps or later < math.inf, "it is never forgotten"
    if later < math.inf:
        assert idle.sweep([one], later)[0]
