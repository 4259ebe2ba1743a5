"""Tests of what the torture test counts as a loss, and as two writers at once."""

import pytest

from torture.judge import Commit, Evidence, Hindered, Row, Stolen, Verdict, Wiped, judge


def row(number: int, tenant: str = "one") -> Row:
    return (tenant, "c", number)


def commits(*at: float, machine: str = "m0", life: str = "a", tenant: str = "one") -> list[Commit]:
    """A row each, numbered by its time."""
    return [Commit(row(round(moment * 10), tenant), machine, life, moment) for moment in at]


def verdict(*reported: Commit, final: tuple[int, ...] = (), mode: str = "snapshot", **more: object) -> Verdict:
    """All are acknowledged; ``final``: the numbers that are in the final database."""
    evidence = Evidence(mode, {commit.row for commit in reported}, list(reported), {row(number) for number in final})
    for name, value in more.items():
        setattr(evidence, name, value)
    return judge(evidence)


def test_what_is_in_the_final_database_is_not_lost() -> None:
    found = verdict(*commits(1, 2), final=(10, 20))
    assert (found.rows, found.faults, found.aside, found.wiped) == (2, (), {}, 0)


def test_a_row_which_is_nowhere_is_a_loss() -> None:
    (fault,) = verdict(*commits(1, 2), final=(10,)).faults
    assert "lost: one c 20" in fault
    assert "never wiped" in fault


def test_unacknowledged_writes_may_be_lost() -> None:
    evidence = Evidence("snapshot", set(), commits(1, 2), set())
    assert judge(evidence).faults == ()


def test_an_orphaned_copy_is_reported_with_its_place() -> None:
    found = verdict(*commits(1), aside={"m0: x": {row(10)}}, stolen=[Stolen("m1", 2, 3.0)])
    assert (found.faults, found.aside) == ((), {"m0: x": 1})


def test_nothing_may_be_set_aside_without_a_takeover_since() -> None:
    (fault,) = verdict(*commits(5), aside={"m0: x": {row(50)}}, stolen=[Stolen("m1", 2, 3.0)]).faults
    assert "no one had taken over" in fault


def test_a_wiped_disk_may_take_the_newest_rows_with_it() -> None:
    found = verdict(*commits(1), wiped=[Wiped("m0", 3.0)])
    assert (found.faults, found.wiped) == ((), 1)


@pytest.mark.parametrize("wiped", [Wiped("m0", 0.5), Wiped("m1", 3.0)])
def test_another_disk_or_an_earlier_wipe_is_no_excuse(wiped: Wiped) -> None:
    assert "never wiped" in verdict(*commits(1), wiped=[wiped]).faults[0]


def test_what_was_published_may_neither_go_with_a_disk_nor_be_set_aside() -> None:
    assert "a published version" in verdict(*commits(1), wiped=[Wiped("m0", 3.0)], published={row(10)}).faults[0]
    aside, stolen = {"m0: x": {row(10)}}, [Stolen("m1", 2, 3.0)]
    assert "a published version" in verdict(*commits(1), aside=aside, stolen=stolen, published={row(10)}).faults[0]


def test_a_wiped_disk_may_not_take_old_rows() -> None:
    assert "29.0 s" in verdict(*commits(1), wiped=[Wiped("m0", 30.0)]).faults[0]


def test_what_could_long_have_been_saved_may_not_be_set_aside() -> None:
    aside, stolen = {"m0: x": {row(10)}}, [Stolen("m1", 2, 30.0)]
    assert "for 29.0 s" in verdict(*commits(1), aside=aside, stolen=stolen).faults[0]


def test_time_after_another_has_taken_over_does_not_count() -> None:
    assert verdict(*commits(1), wiped=[Wiped("m0", 30.0)], stolen=[Stolen("m1", 2, 3.0)]).faults == ()


def test_time_in_which_the_machine_could_not_save_does_not_count() -> None:
    hindered = [Hindered("m0", 0.0, 10.0), Hindered("m0", 8.0, 15.0), Hindered("m1", 0.0, 40.0)]
    assert verdict(*commits(1), wiped=[Wiped("m0", 30.0)], hindered=hindered).faults == ()
    assert verdict(*commits(1), wiped=[Wiped("m0", 60.0)], hindered=hindered).faults != ()


def test_machines_which_serve_one_after_the_other_are_right() -> None:
    reported = (*commits(1, 2, life="a"), *commits(3, 4, machine="m1", life="b"), *commits(5, 6, life="c"))
    assert verdict(*reported, final=(10, 20, 30, 40, 50, 60)).faults == ()


def test_two_which_serve_at_once_are_found() -> None:
    reported = (*commits(1, 3), *commits(2, 4, machine="m1", life="b"))
    (fault,) = verdict(*reported, final=(10, 20, 30, 40)).faults
    assert fault.startswith("two served at once: m0 (app a) until 3.000, m1 (app b) from 2.000")


def test_the_tenants_of_a_user_may_not_be_served_by_two_either() -> None:
    reported = (*commits(1, 3), *commits(2, 4, machine="m1", life="b", tenant="two"))
    evidence = Evidence("snapshot", {c.row for c in reported}, list(reported), {c.row for c in reported})
    assert len(judge(evidence).faults) == 1


def test_an_app_that_commits_what_it_had_read_before_it_was_stopped_serves_no_client() -> None:
    late = commits(9.0)
    reported = (*commits(1), *commits(5, 8, machine="m1", life="b"))
    evidence = Evidence("snapshot", {c.row for c in reported}, [*reported, *late], {c.row for c in reported})
    assert judge(evidence).faults == ()


def test_an_epoch_is_of_one_machine() -> None:
    assert verdict(owners=[(1, "m0"), (1, "m0"), (2, "m1")]).faults == ()
    assert verdict(owners=[(1, "m0"), (1, "m1")]).faults == ("epoch 1 was of m0 and of m1",)


def test_what_was_acknowledged_and_no_app_has_written_is_a_fault() -> None:
    assert "knows nothing" in judge(Evidence("snapshot", {row(1)}, [], set())).faults[0]


def test_many_faults_of_one_sort_are_folded() -> None:
    found = verdict(*commits(*range(1, 30)))
    assert len(found.faults) == 6
    assert found.faults[-1] == "lost: 29 in all"
