"""Each decision about leases, with its reason."""

import dataclasses
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.owners import FakeLease
from flyatc.ownership import record, release_rules
from flyatc.ownership.lease import PreviousLease
from flyatc.ownership.record import Data, Holder, Me, Owner, Process, Session, State, Successor, Unreadable
from flyatc.ownership.rules import (
    Ask,
    Begin,
    Break,
    Elsewhere,
    Found,
    Landed,
    Promised,
    Refused,
    ReplaceMissingSession,
    Rules,
    Take,
    Terms,
    Unsure,
    Wait,
)

RULES = Rules(Terms())
DEAD = 38.0
HERE = Process(kernel="k2", pid=10, started=5)
ME = Me("m1", "app", "waw", "b2", HERE, frozenset({"b1"}))
FLY = Me("m1", "app", "waw", "b2", HERE, platform=True)
US, THEM = ME.holder, Holder(app="app", machine="m2", region="", boot="x")


def owner(holder: Holder = THEM, state: State = State.HELD, *, fence: bool = False, since: int = 3) -> Owner:
    data = Data(line=2, since=since, fence=fence)
    return Owner(epoch=7, state=state, holder=holder, nonce="n", ttl=30, data=data, why="why")


def session(boot: str = "x", *, kernel: str = "k2", broken: str | None = None, ttl: float = 30) -> Session:
    process = Process(kernel=kernel, pid=9, started=4)
    return Session(
        machine="m2", app="app", region="", boot=boot, seq=1, nonce="n", ttl=ttl, process=process, broken=broken
    )


# --- what is written is read, and nothing else is ---


def test_records_are_read_as_they_were_written() -> None:
    assert record.read(record.write(owner()), Owner, "k") == owner()
    assert record.read(record.write(session(broken="m1")), Session, "k") == session(broken="m1")


def test_a_later_release_may_add_fields_within_a_version() -> None:
    body = msgspec.json.encode(msgspec.to_builtins(owner()) | {"since": "2027-01-01"})
    assert record.read(body, Owner, "k") == owner()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", 0),
        ("epoch", "7"),
        ("state", "free"),
        ("nonce", ""),
        ("ttl", 0),
        ("ttl", 1e9),
        ("data", {"line": 0, "since": 1}),
        ("holder", {"app": "a", "machine": "../owner", "region": "", "boot": "b"}),
        ("holder", {"app": "a", "machine": "m 1\r\n", "region": "", "boot": "b"}),
        ("v", 2),
    ],
)
def test_a_record_that_makes_no_sense_is_not_read(field: str, value: object) -> None:
    body = msgspec.json.encode(msgspec.to_builtins(owner()) | {field: value})
    with pytest.raises(Unreadable, match=r"^users/u/owner.json (was written by a newer|cannot be understood)"):
        record.read(body, Owner, "users/u/owner.json")


@given(st.binary(max_size=200))
def test_whatever_the_store_holds_is_read_or_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        record.read(body, Owner, "k")
    with pytest.raises(Unreadable):
        record.read(body, Session, "k")


@given(st.integers(0, 400))
def test_a_truncated_record_is_refused(length: int) -> None:
    whole = record.write(owner())
    if length < len(whole):
        with pytest.raises(Unreadable):
            record.read(whole[:length], Owner, "k")


# --- time ---


def test_we_stop_before_others_may_begin() -> None:
    terms = Terms()
    terms.check()
    sent = 1000.0
    assert RULES.may_write(sent + 24.9, RULES.deadline(sent), suspected=False, leaving=False)
    assert not RULES.may_write(sent + 25, RULES.deadline(sent), suspected=False, leaving=False)
    assert not RULES.may_write(sent, RULES.deadline(sent), suspected=True, leaving=False)
    assert not RULES.may_write(sent, RULES.deadline(sent), suspected=False, leaving=True)
    assert RULES.dead(session(), DEAD - 0.1) is None
    assert RULES.dead(session(), DEAD) == "its session has not been renewed for 38 s"
    assert RULES.dead(session(ttl=60), DEAD) is None
    assert RULES.dead(session(broken="m3"), 0) == "its session is broken"
    assert RULES.dead(session(broken="m2"), 0) == "its session has ended"


@pytest.mark.parametrize(
    ("terms", "about"),
    [
        (Terms(margin=0.5), "margin"),
        (Terms(grace=3), "grace"),
        (Terms(ttl=15, margin=3), "ttl"),
        (Terms(patience=5), "ttl"),
        (Terms(doubt=0), "above 0"),
    ],
)
def test_terms_that_are_too_tight_are_refused(terms: Terms, about: str) -> None:
    with pytest.raises(ValueError, match=about):
        terms.check()


# --- what became of a write ---


def test_a_write_is_ours_if_the_nonce_is() -> None:
    assert RULES.concluded({"a", "b"}, "1", Found("2", 0, "b")) == Landed("2", "b")
    assert RULES.concluded({"a"}, None, Found("2", 0, "a")) == Landed("2", "a")
    assert isinstance(RULES.concluded({"a"}, "1", Found("1", 0, "z")), Unsure)
    assert isinstance(RULES.concluded({"a"}, None, None), Unsure)
    assert isinstance(RULES.concluded({"a"}, "1", Found("2", 0, "z")), Refused)
    assert isinstance(RULES.concluded({"a"}, None, Found("2", 0, "z")), Refused)
    assert RULES.concluded({"a"}, "1", None) == Refused("it has vanished from the store")


# --- our own session ---


@pytest.mark.parametrize(
    ("me", "there", "age", "lives", "expected"),
    [
        (ME, session("b2"), 0, False, Begin("it is ours")),
        (ME, session("b1"), 0, True, Begin("it is of an earlier run on this data folder")),
        (ME, session("b0"), DEAD, True, Begin("its session has not been renewed for 38 s")),
        (ME, session("b0", broken="m3"), 0, True, Begin("its session is broken")),
        (ME, session("b0", kernel="k1"), 0, False, Wait),  # a machine's name alone proves nothing
        (FLY, session("b1", kernel="k1"), 0, True, Begin("the machine has been restarted since")),
        (FLY, session("b1"), 0, False, Begin("its process has ended")),
        (FLY, session("b1"), 0, True, Wait),
        (FLY, session("b1", kernel=""), 0, False, Wait),
    ],
)
def test_a_session_under_our_name_is_ours_only_if_its_process_is_surely_dead(
    me: Me, there: Session, age: float, lives: bool, expected: Begin | type
) -> None:
    decision = RULES.begin(there, age, me, lives=lives)
    assert decision == expected if isinstance(expected, Begin) else isinstance(decision, expected)


# --- a user ---


def test_a_user_without_holder_is_acquired_with_an_epoch_above_all_known_ones() -> None:
    assert RULES.take(None, ME, 0) == Take(1, Data(line=1, since=1), True, "no machine has owned it")
    assert RULES.take(None, ME, 16) == Take(17, Data(line=17, since=16), True, "no machine has owned it")


@pytest.mark.parametrize(
    ("found", "known", "epoch", "data", "clean"),
    [
        # released by another: its line goes on, our old files do not count
        (owner(THEM, State.RELEASED), 0, 8, Data(line=2, since=8), True),
        (owner(THEM, State.RELEASED), 9, 10, Data(line=2, since=10), True),
        # released by us: no new epoch for the same run, one for another run
        (owner(US, State.RELEASED), 7, 7, Data(line=2, since=3), True),
        (owner(US, State.RELEASED), 0, 8, Data(line=2, since=8), True),
        (owner(msgspec.structs.replace(US, boot="b1"), State.RELEASED), 7, 8, Data(line=2, since=3), True),
        # freed by an operator: not clean, and a new line
        (owner(THEM, State.RELEASED, fence=True), 0, 8, Data(line=8, since=8), False),
        (owner(US, State.RELEASED, fence=True), 7, 8, Data(line=8, since=3), False),
        # held or dirty, by an earlier run of ours
        (owner(US), 7, 8, Data(line=2, since=3), False),
        (owner(US), 3, 8, Data(line=2, since=3), False),
        (owner(US), 2, 8, Data(line=8, since=8), False),
        (owner(US, State.DIRTY), 7, 8, Data(line=2, since=3), False),
        (owner(US, State.DIRTY), 0, 8, Data(line=8, since=8), False),
        (owner(US), 9, 10, Data(line=10, since=10), False),
    ],
)
def test_what_is_free_or_ours_is_taken(found: Owner, known: int, epoch: int, data: Data, clean: bool) -> None:
    decision = RULES.take(found, ME, known)
    assert isinstance(decision, Take)
    assert (decision.epoch, decision.data, decision.clean) == (epoch, data, clean)


def test_what_another_holds_depends_on_its_session_and_what_it_left_unsaved_is_never_taken() -> None:
    assert RULES.take(owner(), ME, 0) == Ask("m2")
    assert RULES.take(owner(state=State.DIRTY), ME, 0) == Elsewhere(True, "why")


def test_what_was_released_to_a_machine_is_its_own_unless_it_never_comes() -> None:
    for former in (THEM, US):
        found = msgspec.structs.replace(owner(former, State.RELEASED), to=Successor("app", "m9"))
        assert RULES.take(found, ME, 7) == Promised(Successor("app", "m9"))
        undirected = RULES.take(msgspec.structs.replace(found, to=None), ME, 7)
        assert RULES.take(found, ME, 7, declined=True) == undirected
        assert RULES.take(msgspec.structs.replace(found, to=Successor("app", ME.machine)), ME, 7) == undirected


def test_only_a_long_silent_holder_is_replaced_and_its_session_is_broken_first() -> None:
    taken = Data(line=8, since=8)
    assert isinstance(RULES.steal(owner(), session(), 37, 0), Elsewhere)
    assert isinstance(RULES.steal(owner(), None, 0, 0), ReplaceMissingSession)
    silent = RULES.steal(owner(), session(), DEAD, 0)
    assert isinstance(silent, Break)
    assert (silent.take.epoch, silent.take.data, silent.take.clean) == (8, taken, False)
    broken = RULES.steal(owner(), session(broken="m3"), 0, 0)
    assert isinstance(broken, Take)
    assert (broken.epoch, broken.data) == (8, taken)
    other_run = RULES.steal(owner(), session("y"), 5, 0)
    assert isinstance(other_run, Elsewhere)


@given(st.integers(0, 50), st.sampled_from(State), st.sampled_from([US, THEM]), st.booleans())
def test_the_epoch_never_decreases_and_increases_with_each_holder_and_run(
    known: int, state: State, holder: Holder, fence: bool
) -> None:
    found = owner(holder, state, fence=fence)
    taken = RULES.take(found, ME, known)
    decision = RULES.steal(found, session(broken="m3"), 0, known) if isinstance(taken, Ask) else taken
    if isinstance(decision, Take):
        same = state is State.RELEASED and holder == US and decision.clean
        assert decision.epoch >= found.epoch if same else decision.epoch > max(found.epoch, known)
        assert decision.data.line <= decision.epoch
        assert decision.data.since <= decision.epoch
        assert not decision.data.fence


def test_local_files_count_if_no_other_machine_can_have_written_since() -> None:
    lease = FakeLease(8, PreviousLease(epoch=7, clean=False, line_epoch=2, since=5))
    assert [epoch for epoch in range(10) if lease.last_writer(epoch)] == [5, 6, 7, 8]


# --- what an operator may do ---


@pytest.mark.parametrize(
    ("found", "there", "age", "release", "takeover"),
    [
        (None, None, 0, "no machine has ever owned", "no machine has ever owned"),
        (owner(state=State.RELEASED), None, 0, "free already", "free already"),
        (owner(), session(), 10, "renewed its session 10 s ago.* wait 28 s", "renewed its session"),
        (owner(), None, 0, "try again in 38 s", "try again"),
        (owner(), session(), DEAD, "", ""),
        (owner(), session(broken="m2"), 0, "", ""),
        (owner(state=State.DIRTY), session(), 1, "takeover u", ""),
    ],
)
def test_an_operator_may_free_what_its_owner_surely_does_not_write(
    found: Owner | None, there: Session | None, age: float, release: str, takeover: str
) -> None:
    for accept_loss, refused in ((False, release), (True, takeover)):
        decision = release_rules.decide(RULES, "u", found, there, age, accept_loss=accept_loss)
        if refused:
            settled = found is not None and found.state is State.RELEASED
            assert isinstance(decision, release_rules.Settled if settled else release_rules.Denied)
            assert re.search(refused, decision.reason)
        else:
            assert isinstance(decision, release_rules.Free)
            assert "since its last save" in decision.loses
            assert decision.breaks == (there is not None and there.broken is None and found == owner())


def test_a_release_may_name_a_machine_then_another_then_any() -> None:
    free = owner(state=State.RELEASED)
    given = release_rules.freed(free, "n2", accept_loss=False, to="m9")
    assert given == msgspec.structs.replace(free, nonce="n2", to=Successor(free.holder.app, "m9"))
    decided = {
        to: type(release_rules.decide(RULES, "u", given, None, 0, accept_loss=False, to=to))
        for to in ("m9", "m8", None)
    }
    assert decided == {"m9": release_rules.Settled, "m8": release_rules.Free, None: release_rules.Free}
    assert release_rules.freed(given, "n3", accept_loss=False).to is None
    taken = release_rules.decide(RULES, "u", owner(), session(), 1, accept_loss=False, to=THEM.machine)
    assert isinstance(taken, release_rules.Settled)
    dead = release_rules.freed(owner(), "n2", accept_loss=False, to="m9")
    assert (dead.state, dead.to, dead.data.fence) == (State.RELEASED, Successor("app", "m9"), True)


def test_what_is_freed_keeps_the_epoch_unless_the_loss_is_accepted() -> None:
    kept = release_rules.freed(owner(), "n2", accept_loss=False)
    assert (kept.epoch, kept.state, kept.data) == (7, State.RELEASED, Data(line=2, since=3, fence=True))
    lost = release_rules.freed(owner(state=State.DIRTY), "n2", accept_loss=True)
    assert (lost.epoch, lost.state, lost.data) == (8, State.RELEASED, Data(line=2, since=8, fence=True))
    assert (lost.why, lost.nonce) == ("", "n2")


def test_a_daemon_that_ended_on_our_own_data_folder_need_not_be_waited_for() -> None:
    decision = RULES.steal(owner(), session(), 1, 0, ended=True)
    assert isinstance(decision, Break)
    assert not decision.take.clean
    assert isinstance(RULES.steal(owner(), None, 1, 0, ended=True), ReplaceMissingSession)


def test_only_a_user_that_no_other_machine_has_ever_held_may_be_forgotten() -> None:
    assert RULES.may_forget(owner(US, since=1))
    assert not RULES.may_forget(owner(US, since=2))
    assert not RULES.may_forget(owner(US, State.RELEASED, since=1))


def test_without_that_rule_an_old_disk_would_pass_for_the_newest() -> None:
    """Machine m1 has epoch 7 and unsaved rows on its disk, and was robbed by m2. If m2 deleted the record, the next
    owner would begin with epoch 1, and reach 7 again after some restarts, ``since`` 1."""
    begun = RULES.take(None, dataclasses.replace(ME, machine="m3"), known=0)
    assert isinstance(begun, Take)
    assert (begun.epoch, begun.data.since) == (1, 1)
    restarted = msgspec.structs.replace(
        owner(Holder("app", "m3", "", "y"), State.RELEASED, since=begun.data.since), epoch=8
    )
    before = PreviousLease(restarted.epoch, clean=True, line_epoch=2, since=restarted.data.since)
    again = FakeLease(restarted.epoch, before)
    assert again.last_writer(7), "so the deletion must not happen where another machine may know an epoch"
