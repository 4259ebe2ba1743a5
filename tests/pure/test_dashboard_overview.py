from msgspec import structs

from flyatc.admin.machines_view import GONE, RUNNING, SILENT, MachineView
from flyatc.admin.store_access import Orphan, Owner
from flyatc.control.types import Bad, Daemon, MachineStatus, Verified
from flyatc.dashboard import overview_page
from flyatc.dashboard.machines import Found
from flyatc.tenants.state import State, Status

DAEMON = Daemon(version="1", pid=1, started="2026-11-30T10:00:00Z", listen="*:3000", config="/f", running=1, limit=9)
OTHER = MachineStatus(machine="b", region="syd", daemon=DAEMON)


def kinds(*machines: MachineView, dirty: tuple[Owner, ...] = ()) -> list[tuple[str, str | None]]:
    return [(one.kind, one.tenant) for one in overview_page.of_machines(Found([*machines], [*dirty]))]


def answered(status: MachineStatus) -> MachineView:
    return MachineView(machine=status.machine, region=status.region, state=RUNNING, status=status)


def test_machines_that_sleep_or_run_well_are_no_problem() -> None:
    assert kinds(answered(OTHER), MachineView(machine="c", state="stopped")) == []


def test_a_machine_without_an_answer_and_one_that_is_gone_are_problems_with_their_reason() -> None:
    silent = MachineView(machine="c", region="ams", state=SILENT, note="it has not answered")
    (problem,) = overview_page.of_machines(Found([silent]))
    assert (problem.kind, problem.text) == ("machine no answer", "c in ams: it has not answered")
    assert kinds(MachineView(machine="c", state=GONE)) == [("machine gone", None)]


def test_the_problems_of_tenants_of_other_machines_are_shown_with_their_addresses() -> None:
    failed = Status(tenant="u/a", user="u", state=State.FAILED, since="", reason="no")
    bad = Bad(tenant="u/b", database="d", state="damaged", version=None, why="w", at="2026-11-30T10:00:00Z")
    verified = Verified(databases=1, bad=[bad], first=None, last=None)
    other = structs.replace(OTHER, tenants=[failed], verified=verified)
    assert kinds(answered(other)) == [("damaged copy", "u/b"), ("failed", "u/a")]


def test_what_is_the_same_on_all_machines_is_shown_once() -> None:
    away = structs.replace(OTHER, daemon=structs.replace(DAEMON, store="no such bucket", not_separated=["can"]))
    assert kinds(answered(away)) == []
    own = structs.replace(answered(away), here=True)
    assert kinds(own) == []


def test_a_user_that_another_machine_could_not_save_is_a_problem() -> None:
    dirty = Owner(user="ann", state="dirty", machine="b", note="it could not save all")
    (problem,) = overview_page.of_machines(Found([], [dirty]))
    assert (problem.kind, problem.text) == ("unsaved", "ann on machine b: it could not save all")


def test_orphans_are_counted_and_can_wait() -> None:
    one = Orphan(tenant="u/a", database="d", name="n", at=None)
    assert list(overview_page.of_orphans([])) == []
    (single,), (several,) = overview_page.of_orphans([one]), overview_page.of_orphans([one, one])
    assert single.text.startswith("one local copy was replaced")
    assert several.text.startswith("2 local copies were replaced")
    assert not single.bad
