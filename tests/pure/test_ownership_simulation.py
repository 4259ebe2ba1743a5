"""The lease rules in a hostile world; and each rule is needed: without it the world goes wrong."""

from collections.abc import Collection

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fakes.ownership_world import World, chaos
from flyatc.ownership.record import Owner, Session
from flyatc.ownership.rules import Break, Elsewhere, Found, Landed, Outcome, ReplaceMissingSession, Rules, Take, Terms

TRUE = Rules(Terms())
MACHINES = st.integers(0, 2)
RUNS = 60  # histories of 50 minutes; most mutants are found in the first few


def history(seed: int, rules: Rules, *, stamps: bool = True, shy: float = 0.0, supervised: bool = True) -> World:
    world = World(seed, rules, stamps=stamps, shy=shy, supervised=supervised)
    chaos(world)
    world.advance(3000)
    return world


def found(rules: Rules, *, stamps: bool = True, shy: float = 0.0, supervised: bool = True) -> str:
    """The first violation; empty: none."""
    for seed in range(RUNS):
        violations = history(seed, rules, stamps=stamps, shy=shy, supervised=supervised).violations
        if violations:
            return violations[0]
    return ""


class HostileWorld(RuleBasedStateMachine):
    """At most one machine may write; no confirmed save is undone; who has lost writes nothing any more."""

    @initialize(seed=st.integers(0, 10**6))
    def begin(self, seed: int) -> None:
        self.world = World(seed, TRUE, shy=0.9)

    @rule(seconds=st.floats(1, 120))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(machine=MACHINES, seconds=st.floats(1, 120))
    def a_process_is_paused(self, machine: int, seconds: float) -> None:
        self.world.machines[machine].pause(seconds)

    @rule(machine=MACHINES, seconds=st.floats(1, 120))
    def a_machine_is_suspended(self, machine: int, seconds: float) -> None:
        self.world.machines[machine].suspend(seconds)

    @rule(machine=MACHINES, down=st.floats(0, 60))
    def a_daemon_is_killed(self, machine: int, down: float) -> None:
        self.world.machines[machine].crash(down)

    @rule(machine=MACHINES, down=st.floats(0, 60))
    def a_disk_is_lost(self, machine: int, down: float) -> None:
        self.world.machines[machine].wipe(down)

    @rule(lost=st.sampled_from([0.0, 0.05, 0.5, 1.0]), late=st.sampled_from([0.0, 0.03, 0.3]))
    def the_network_changes(self, lost: float, late: float) -> None:
        self.world.weather.lost, self.world.weather.late = lost, late

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert not hasattr(self, "world") or self.world.violations == []


TestHostileWorld = HostileWorld.TestCase
TestHostileWorld.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_long_histories_with_the_rules_as_they_are() -> None:
    """T8, T9, T10 of litefs §6 among them: own files kept after a kill, set aside after another's turn, one of many."""
    worlds = [history(seed, TRUE) for seed in range(20)]
    assert [world.violations for world in worlds] == [[]] * 20
    for what in ("stolen", "resumed", "lost", "saved", "released", "directed", "declined", "kept"):
        assert sum(world.counts[what] for world in worlds) > 20, what


class _DoesNotBreakTheSession(Rules):
    def steal(
        self, owner: Owner, session: Session | None, age: float, known: int, *, ended: bool = False
    ) -> Take | Break | ReplaceMissingSession | Elsewhere:
        decision = super().steal(owner, session, age, known, ended=ended)
        return decision.take if isinstance(decision, Break) else decision


class _TakesWhatIsReadBackForItsOwn(Rules):
    def concluded(self, ours: Collection[str], matched: str | None, found: Found | None) -> Outcome:
        if found is not None:
            return Landed(found.etag, next(iter(ours)))
        return super().concluded(ours, matched, found)


class _WritesUntilReleasedIsConfirmed(Rules):
    def may_write(self, now: float, deadline: float, *, suspected: bool, leaving: bool) -> bool:
        return super().may_write(now, deadline, suspected=suspected, leaving=False)


class _TrustsItsClockAfterSleep(Rules):
    def may_write(self, now: float, deadline: float, *, suspected: bool, leaving: bool) -> bool:
        return super().may_write(now, deadline, suspected=False, leaving=leaving)


def test_without_breaking_the_session_two_may_write() -> None:
    assert found(_DoesNotBreakTheSession(Terms()))


def test_without_margin_and_grace_two_may_write() -> None:
    assert found(Rules(Terms(margin=0, grace=0)))


def test_without_the_stamp_a_late_save_lands_behind_a_restore() -> None:
    assert found(TRUE, stamps=False)


def test_without_comparing_the_nonce_two_may_write() -> None:
    assert found(_TakesWhatIsReadBackForItsOwn(Terms()))


def test_a_write_while_the_release_is_on_its_way_is_a_second_writer() -> None:
    assert found(_WritesUntilReleasedIsConfirmed(Terms()))


def test_a_machine_that_trusts_a_stopped_clock_is_a_second_writer() -> None:
    assert found(_TrustsItsClockAfterSleep(Terms()))


def test_users_without_any_write_are_forgotten_and_nothing_goes_wrong() -> None:
    worlds = [history(seed, TRUE, shy=shy) for seed in range(20) for shy in (0.9, 0.99)]
    assert [world.violations for world in worlds] == [[]] * 40
    for what in ("forgotten", "stolen", "saved", "kept"):
        assert sum(world.counts[what] for world in worlds) > 20, what


def test_where_only_the_daemon_kills_an_app_writes_on_while_the_daemon_stands_still() -> None:
    assert "the apps of" in found(TRUE, supervised=False)
