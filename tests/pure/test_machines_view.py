import msgspec
from msgspec import structs

from flyatc.admin import machines_view
from flyatc.admin.machines_view import GONE, NOT_ASKED, RUNNING, SILENT, Known, MachineView, Session
from flyatc.admin.store_access import Owner
from flyatc.control.types import Daemon, MachineStatus, Overview, Verified
from flyatc.fly.api_types import Config, Guest, Machine
from flyatc.tenants.state import State, Status

DAEMON = Daemon(version="1", pid=1, started="2026-11-30T10:00:00Z", listen="*:3000", config="/f", running=1, limit=9)


def status(machine: str, region: str = "iad", *users: str) -> MachineStatus:
    return MachineStatus(machine=machine, region=region, daemon=DAEMON, memory=1, memory_total=2, users=list(users))


def listed(machine: str, state: str = "started", region: str = "ams", **metadata: str) -> Machine:
    config = Config(metadata=metadata, guest=Guest("shared", 1, 512))
    return Machine(id=machine, state=state, name=f"m-{machine}", region=region, config=config)


OWN = status("a", "iad", "ann")


def only(known: Known) -> MachineView:
    """The one machine beside this one."""
    own, other = machines_view.views(known)
    assert own.here
    return other


def test_a_machine_alone_is_all_machines() -> None:
    (own,) = machines_view.views(Known(OWN))
    assert (own.machine, own.region, own.state, own.here, own.users) == ("a", "iad", RUNNING, True, ["ann"])


def test_a_machine_that_answers_is_shown_by_its_own_words() -> None:
    other = only(Known(OWN, {"b": status("b", "syd", "bob")}, [listed("a"), listed("b")]))
    assert (other.machine, other.name, other.region, other.state) == ("b", "m-b", "syd", RUNNING)
    assert (other.users, other.memory, other.memory_total, other.note) == (["bob"], 1, 2, "")


def test_a_started_machine_without_an_answer_is_shown_with_the_reason_and_its_users_by_the_records() -> None:
    owners = [Owner(user="bob", state="held", machine="b"), Owner(user="cid", state="released", machine="b")]
    known = Known(OWN, {"b": "it has not answered"}, [listed("a"), listed("b", user="zoe")], "user", {}, owners)
    other = only(known)
    assert (other.state, other.note, other.users) == (SILENT, "it has not answered", ["bob", "zoe"])
    assert other.memory_total == 512 << 20


def test_a_stopped_machine_is_no_problem() -> None:
    other = only(Known(OWN, {}, [listed("a"), listed("b", "stopped", user="bob")], "user"))
    assert (other.state, other.note, other.users) == ("stopped", "", ["bob"])


def test_a_machine_of_the_past_is_shown_only_while_a_user_needs_it() -> None:
    known = Known(OWN, {}, [listed("a")], None, {"b": Session(region="iad", sign=900.0, dead="long ago")})
    assert len(machines_view.views(known)) == 1
    left = Known(OWN, {}, [listed("a")], None, known.sessions, [Owner(user="bob", state="dirty", machine="b")])
    assert (only(left).state, only(left).users) == (GONE, ["bob"])


def test_without_the_machines_api_the_heartbeats_say_which_machines_there_are() -> None:
    alive, dead, ended = (
        Session(region="syd", sign=3.0),
        Session(sign=99.0, dead="its session has not been renewed for 99 s"),
        Session(sign=99.0, dead="its session has ended", ended=True),
    )
    other = only(Known(OWN, sessions={"b": alive}))
    assert (other.region, other.state) == ("syd", SILENT)
    assert other.note == f"{NOT_ASKED}; its last heartbeat in the store was 3 s ago"
    assert only(Known(OWN, sessions={"b": dead})).note == "its session has not been renewed for 99 s"
    assert len(machines_view.views(Known(OWN, sessions={"b": ended}))) == 1


def test_where_machines_cannot_be_asked_a_heartbeat_is_enough() -> None:
    other = only(Known(OWN, sessions={"b": Session(sign=3.0)}, network=False))
    assert (other.state, other.note) == (RUNNING, "its last heartbeat in the store was 3 s ago")
    assert only(Known(OWN, {}, [listed("a"), listed("b")], network=False)).state == "started"


def test_this_machine_comes_first_then_those_that_run_by_region() -> None:
    answers: dict[str, MachineStatus | str] = {"b": status("b", "syd"), "c": "no", "d": status("d", "ams")}
    found = machines_view.views(Known(OWN, answers, [listed(one) for one in "abcd"]))
    assert [one.machine for one in found] == ["a", "d", "b", "c"]


def test_a_store_that_is_away_is_noted_at_the_machine() -> None:
    away = structs.replace(OWN, daemon=structs.replace(DAEMON, store="no such bucket"))
    assert machines_view.views(Known(away))[0].note == "no such bucket"


# --- what a machine reports of itself ---


def one(tenant: str, state: State = State.STOPPED, *, unsaved: bool = False, reason: str | None = None) -> Status:
    return Status(tenant=tenant, user="u", state=state, since="", unsaved=unsaved, reason=reason)


def test_a_machine_reports_the_tenants_that_run_or_need_attention_these_first() -> None:
    tenants = [one("u/a"), one("u/b", State.READY), one("u/c", unsaved=True), one("u/d", State.FAILED, reason="no")]
    found = machines_view.report("a", "iad", Overview(tenants=tenants, daemon=DAEMON), ["u"], "")
    assert [each.tenant for each in found.tenants] == ["u/c", "u/d", "u/b"]
    assert (found.machine, found.region, found.omitted, found.users) == ("a", "iad", 0, ["u"])


def test_a_report_is_small_however_many_tenants_and_users_there_are() -> None:
    tenants = [one(f"u{number}/{'t' * 60}", State.READY, reason="r" * 100) for number in range(5000)]
    overview = Overview(tenants=tenants, daemon=DAEMON, verified=Verified(databases=1, bad=[], first=None, last=None))
    found = machines_view.report("a", "iad", overview, [f"u{number}" for number in range(5000)], "")
    assert len(msgspec.json.encode(found)) < 300_000
    assert (found.omitted, len(found.users)) == (5000 - machines_view.MOST_TENANTS, machines_view.MOST_USERS)


def test_memory_is_what_the_kernel_cannot_give_to_others() -> None:
    text = "MemTotal:  2048 kB\nMemFree:   100 kB\nMemAvailable: 512 kB\n"
    assert machines_view.memory(text) == (1536 << 10, 2048 << 10)
    assert machines_view.memory("MemTotal: 2048 kB\n") == (0, 0)
    assert machines_view.memory("MemTotal: x kB\nMemAvailable: 1 kB\n") == (0, 0)
