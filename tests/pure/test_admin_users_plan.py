"""Plans for users and machines: the steps from what there is; and a plan made again continues."""

import pytest

from flyatc.admin import users_plan, users_view
from flyatc.admin.store_access import Owner
from flyatc.admin.users_plan import Impossible, Seen
from flyatc.admin.users_steps import (
    Cordon,
    Destroy,
    Make,
    Mark,
    Plan,
    Release,
    Remove,
    Restore,
    Settle,
    Step,
    Stop,
    Unmark,
    Wake,
)
from flyatc.config.schema import Pin
from flyatc.fly.api_types import Config, Machine, Mount
from flyatc.fly.new_machine import LEFT

KEY = "customer_id"
ONE, TWO, NEW = "148e21dad76789", "3d8dd15c1ed778", "e28650ce7d1d68"


def machine(
    identity: str, user: str | None, region: str = "iad", state: str = "started", name: str = "", **more: str
) -> Machine:
    metadata = {**({KEY: user} if user is not None else {}), **more}
    return Machine(identity, state, name or f"n-{identity[:4]}", region, config=Config(metadata=metadata))


def owner(user: str, holder: str, state: str = "held", to: str = "") -> Owner:
    return Owner(user=user, state=state, machine=holder, to=to)


def seen(*machines: Machine, owners: list[Owner] | None = None, known: bool = True) -> Seen:
    return Seen("shop", KEY, machines, {one.user: one for one in owners or []} if known else None)


def moved(what: Seen, to: str | None = None, region: str | None = None, destroy: bool = False) -> tuple[Step, ...]:
    return users_plan.move(what, "100", to=to, region=region, pin=None, destroy=destroy).steps


HERE, THERE = machine(ONE, "100"), machine(TWO, None, "ams")


# --- add ---


def test_a_user_without_a_machine_gets_a_copy_of_anothers_in_the_same_region_by_default() -> None:
    spare, other = machine(ONE, None, "iad"), machine(TWO, "200", "ams")
    assert users_plan.add(seen(spare, other), "400", None, None).steps == (Make("user-400", "ams", TWO),)
    assert users_plan.add(seen(spare, other), "400", "waw", None).steps == (Make("user-400", "waw", TWO),)
    assert users_plan.add(seen(spare, other), "400", None, "n-148e").steps == (Make("user-400", "iad", ONE),)
    with pytest.raises(Impossible, match="fly deploy"):
        users_plan.add(seen(), "400", None, None)
    with pytest.raises(Impossible, match="flyatc machines lists them"):
        users_plan.add(seen(spare), "400", None, "nonesuch")


def test_a_user_with_a_machine_keeps_it_and_a_half_made_one_is_finished() -> None:
    plan = users_plan.add(seen(HERE), "100", "waw", None)
    assert plan.steps == ()
    assert "users move 100 --region waw" in " ".join(plan.notes)
    half = machine(NEW, None, state="stopped", name="user-400")
    assert users_plan.add(seen(half), "400", None, None).steps == (Wake(NEW), Mark(NEW, KEY, "400"))
    with pytest.raises(Impossible, match="not that of"):
        users_plan.add(seen(machine(NEW, "7", name="user-400")), "400", None, None)


def test_a_user_of_another_machine_is_reported_with_the_command_that_moves_it() -> None:
    [note] = users_plan.add(seen(HERE, owners=[owner("400", ONE)]), "400", None, None).notes
    assert "flyatc users move 400 --to user-400" in note
    [note] = users_plan.add(seen(HERE, owners=[owner("400", ONE, "released")]), "400", None, None).notes
    assert "in the store" in note


# --- move ---


def test_a_user_moves_to_a_machine_marked_first_handed_over_then_and_unmarked_last() -> None:
    there = seen(HERE, THERE, owners=[owner("100", ONE)])
    expected = (Mark(TWO, KEY, "100"), Release(ONE, "100", TWO), Unmark(ONE, KEY, "100"))
    assert moved(there, TWO) == moved(there, THERE.name) == expected


def test_whatever_a_broken_off_move_has_done_is_not_done_again() -> None:
    both = HERE, machine(TWO, "100", "ams")
    assert moved(seen(*both, owners=[owner("100", ONE)]), TWO) == (
        Release(ONE, "100", TWO),
        Unmark(ONE, KEY, "100"),
    )
    for after in (owner("100", ONE, "released", TWO), owner("100", TWO)):
        assert moved(seen(*both, owners=[after]), TWO) == (Unmark(ONE, KEY, "100"),)
        assert moved(seen(machine(ONE, None), both[1], owners=[after]), TWO) == ()
    released = owner("100", ONE, "released")  # and no record says for which machine
    assert moved(seen(*both, owners=[released]), TWO) == (Release(ONE, "100", TWO), Unmark(ONE, KEY, "100"))
    sleeping = machine(ONE, "100", state="suspended"), both[1]
    assert moved(seen(*sleeping, owners=[released]), TWO) == (Release(TWO, "100", TWO), Unmark(ONE, KEY, "100"))


def test_a_sleeping_machine_is_woken_only_if_it_may_have_unsaved_data() -> None:
    asleep = machine(ONE, "100", state="suspended")
    assert moved(seen(asleep, THERE, owners=[owner("100", ONE)]), TWO)[1:3] == (Wake(ONE), Release(ONE, "100", TWO))
    assert Wake(ONE) in moved(seen(asleep, THERE, known=False), TWO)
    assert Wake(ONE) not in moved(seen(asleep, THERE, owners=[owner("100", ONE, "released")]), TWO)
    assert moved(seen(asleep, THERE), TWO) == (Mark(TWO, KEY, "100"), Unmark(ONE, KEY, "100")), (
        "the user was never served there"
    )
    gone = seen(THERE, owners=[owner("100", "9080e6f3a12345")])
    assert moved(gone, TWO) == (Mark(TWO, KEY, "100"), Release(TWO, "100", TWO))
    sleeper = machine(TWO, None, "ams", "stopped")
    assert moved(seen(HERE, sleeper), TWO)[0] == Wake(TWO)
    assert moved(seen(machine(TWO, "100", "ams", "stopped")), TWO) == ()


def test_in_a_region_a_user_gets_the_machine_made_for_it_there_or_a_new_one() -> None:
    assert moved(seen(HERE, owners=[owner("100", ONE)]), region="ams") == (
        Make("user-100", "ams", ONE),
        Release(ONE, "100", "user-100"),
        Unmark(ONE, KEY, "100"),
    )
    named = machine(ONE, "100", name="user-100")
    assert moved(seen(named), region="ams")[0] == Make("user-100-ams", "ams", ONE)
    made = machine(NEW, None, "ams", name="user-100-ams")
    assert moved(seen(named, made), region="ams")[0] == Mark(NEW, KEY, "100")
    assert moved(seen(HERE), region="iad") == ()
    with pytest.raises(Impossible, match="users add 100 --region ams"):
        moved(seen(THERE), region="ams")


def test_a_machine_of_another_user_is_no_target_and_a_pin_must_agree() -> None:
    with pytest.raises(Impossible, match="200's"):
        moved(seen(HERE, machine(TWO, "200")), TWO)
    for pin in (Pin(machine=ONE), Pin(region="iad")):
        with pytest.raises(Impossible, match="change that first"):
            users_plan.move(seen(HERE, THERE), "100", to=TWO, region=None, pin=pin, destroy=False)
    assert users_plan.move(seen(HERE, THERE), "100", to=TWO, region=None, pin=Pin(region="ams"), destroy=False).steps


def test_the_old_machine_is_destroyed_only_on_request_and_if_no_other_user_is_on_it() -> None:
    last = (Settle(users_plan.SETTLE), Stop(ONE), Destroy(ONE, "100"))
    assert moved(seen(HERE, THERE), TWO, destroy=True)[-4:] == (Unmark(ONE, KEY, "100"), *last)
    left = machine(ONE, None, **{LEFT: "100"})
    after = seen(left, machine(TWO, "100", "ams"), owners=[owner("100", TWO)])
    assert moved(after, TWO, destroy=True) == last, "also later"
    assert moved(after, TWO) == ()
    with pytest.raises(Impossible, match="has 300 too"):
        moved(seen(HERE, THERE, owners=[owner("300", ONE)]), TWO, destroy=True)


def test_a_user_that_moves_back_is_no_longer_recorded_as_moved_away() -> None:
    left = machine(ONE, None, **{LEFT: "100"})
    assert Mark(ONE, KEY, "100") in moved(seen(left, machine(TWO, "100", "ams")), ONE)


# --- remove ---


def removed(what: Seen) -> Plan:
    return users_plan.remove(what, "100")


def test_a_machine_is_emptied_before_it_is_destroyed_and_one_with_another_user_is_not() -> None:
    end = (Stop(ONE), Destroy(ONE, "100"))
    assert removed(seen(HERE, owners=[owner("100", ONE)])).steps == (Cordon(ONE), Remove(ONE, "100"), *end)
    assert removed(seen(HERE)).steps == (Cordon(ONE), Remove(ONE, "100"), *end), "it never came, and must not now"
    asleep = machine(ONE, "100", state="stopped")
    released = [owner("100", ONE, "released")]
    woken = (Cordon(ONE), Wake(ONE), Remove(ONE, "100"), *end)
    assert removed(seen(asleep, owners=released)).steps == woken, "someone must write it down"
    assert removed(seen(asleep, THERE, owners=released)).steps == (Remove(TWO, "100"), Cordon(ONE), end[1])
    for unsaved in (seen(asleep, owners=[owner("100", ONE, "dirty")]), seen(asleep, known=False)):
        assert removed(unsaved).steps == woken
    with pytest.raises(Impossible, match="has 300 too"):
        removed(seen(HERE, owners=[owner("300", ONE, "dirty")]))
    assert removed(seen()).steps == ()


def test_a_user_without_a_machine_is_removed_where_it_is_held_or_on_any_machine() -> None:
    assert removed(seen(THERE)).steps == (Remove(TWO, "100"),)
    asleep = machine(ONE, "7", state="stopped")
    assert removed(seen(THERE, asleep, owners=[owner("100", ONE)])).steps == (Wake(ONE), Remove(ONE, "100"))


def test_a_removal_that_was_broken_off_goes_on_and_is_not_recorded_twice() -> None:
    assert removed(seen(HERE, owners=[owner("100", ONE, "removed")])).steps == (
        Cordon(ONE),
        Stop(ONE),
        Destroy(ONE, "100"),
    )
    assert removed(seen(THERE, owners=[owner("100", ONE, "removed")])).steps == ()


def test_a_removed_user_that_is_added_is_served_again_only_once_its_machine_is_there() -> None:
    gone = [owner("100", ONE, "removed")]
    assert users_plan.add(seen(THERE, owners=gone), "100", None, None).steps == (
        Make("user-100", "ams", TWO),
        Restore("user-100", "100"),
    )
    assert users_plan.add(seen(HERE, owners=gone), "100", None, None).steps == (Restore(ONE, "100"),)
    half = machine(NEW, None, state="stopped", name="user-100")
    assert users_plan.add(seen(half, known=False), "100", None, None).steps == (
        Wake(NEW),
        Mark(NEW, KEY, "100"),
        Restore(NEW, "100"),
    )


def test_a_volume_which_stays_is_named() -> None:
    config = Config(metadata={KEY: "100"}, mounts=[Mount("vol_123456", "/data")])
    [note] = removed(seen(Machine(ONE, "stopped", config=config))).notes
    assert "fly volumes destroy vol_123456" in note


# --- listing ---


def test_machines_report_the_users_they_hold_and_have_released() -> None:
    one, two = users_view.machines(
        seen(
            HERE,
            machine(TWO, None, **{LEFT: "7"}),
            owners=[owner("100", ONE), owner("300", ONE), owner("7", TWO, "released")],
        )
    )
    assert (one.user, one.holds, two.user, two.holds) == ("100", ["100", "300"], "", [])
    assert "7 was moved away" in two.note
