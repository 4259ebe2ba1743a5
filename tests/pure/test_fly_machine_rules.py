"""Machines by user as the API lists them, and the config of a new one."""

from flyatc.fly.api_types import Config, Machine
from flyatc.fly.machines_by_user import LEAST, MOST, listing, oldest_first
from flyatc.fly.new_machine import Budget, clone, mounted, name_of

OWN = {
    "image": "registry.fly.io/shop:deployment-1",
    "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512},
    "env": {"RAILS_ENV": "production"},
    "services": [{"internal_port": 8080, "autostart": True}],
    "metadata": {"fly_platform_version": "v2", "customer_id": "100"},
    "mounts": [{"volume": "vol_1", "path": "/data", "size_gb": 3}],
    "standbys": ["148e21dad76789"],
}


def machine(identity: str, user: str | None, state: str = "started", made: str = "2026-01-01T00:00:00Z") -> Machine:
    metadata = None if user is None else {"customer_id": user}
    return Machine(id=identity, state=state, created_at=made, config=Config(metadata=metadata))


def test_machines_are_known_by_user_in_any_state_but_on_their_way_out() -> None:
    found = listing(
        [
            machine("148e21dad76789", "100"),
            machine("3d8dd15c1ed778", "200", "suspended"),
            machine("e28650ce7d1d68", "300", "destroyed"),
            machine("9185340f4d1d83", None),
            machine("../../volumes1", "400"),
            machine("4d8d974f0d6587", "No User"),
        ],
        "customer_id",
        1.0,
    )
    assert found.users == {"100": ("148e21dad76789",), "200": ("3d8dd15c1ed778",)}
    assert found.states["9185340f4d1d83"] == "started"
    assert "e28650ce7d1d68" not in found.states
    assert "../../volumes1" not in found.states


def test_a_machine_which_is_gone_is_struck_off() -> None:
    found = listing([machine("148e21dad76789", "1"), machine("3d8dd15c1ed778", "1"), machine("e28650ce7d1d68", "2")],
                    "customer_id", 0)  # fmt: skip
    for one in ("148e21dad76789", "e28650ce7d1d68", "9185340f4d1d83"):
        found.strike(one)
    assert found.users == {"1": ("3d8dd15c1ed778",)}
    assert list(found.states) == ["3d8dd15c1ed778"]


def test_the_more_machines_run_the_longer_a_list_is_good() -> None:
    def good_for(running: int, asleep: int) -> float:
        states = ["started"] * running + ["stopped"] * asleep
        made = [machine(f"148e21dad{number:05}", None, state) for number, state in enumerate(states)]
        return listing(made, "customer_id", 0).good_for

    assert [good_for(1, 100), good_for(10, 0), good_for(100, 0)] == [LEAST, 10, MOST]


def test_all_agree_which_of_a_users_machines_was_first() -> None:
    early, late = machine("zzzzzzzz1", "1", made="2026-01-01T00:00:00Z"), machine("aaaaaaaa1", "1", made="2026-01-02")
    twin = machine("aaaaaaaa2", "1", made="2026-01-01T00:00:00Z")
    assert oldest_first([late, early, twin]) == oldest_first([twin, late, early]) == [twin, early, late]


def test_a_clone_is_the_same_machine_for_another_user_with_a_volume_of_its_own() -> None:
    made = clone(OWN, "customer_id", "300", ["vol_2"])
    assert made == {
        **{name: OWN[name] for name in ("image", "guest", "env", "services")},
        "metadata": {"fly_platform_version": "v2", "customer_id": "300"},
        "mounts": [{"volume": "vol_2", "path": "/data", "size_gb": 3}],
    }
    assert OWN["metadata"] == {"fly_platform_version": "v2", "customer_id": "100"}
    env = {"CUSTOMER_ID": "100", "A": "1"}
    assert clone({"env": env}, "customer_id", "300", [])["env"] == {"CUSTOMER_ID": "300", "A": "1"}
    assert clone({"image": "x", "metadata": None}, "customer_id", "300", [])["metadata"] == {"customer_id": "300"}
    assert (mounted(OWN), mounted({"mounts": None})) == (["vol_1"], [])


def test_each_user_has_one_name_and_no_two_have_the_same() -> None:
    users = ["100", "a-b", "a_b", "-", "a-", "-a", "0" * 40, "0" * 41, "0" * 63]
    names = [name_of(user) for user in users]
    assert names[:2] == ["user-100", "user-a-b"]
    assert len(set(names)) == len(users)
    assert max(map(len, names)) <= 63
    assert all("_" not in name for name in names)


def test_a_budget_is_so_many_in_any_minute() -> None:
    budget = Budget(2)
    assert [budget.take(now) for now in (0.0, 30.0, 59.0, 60.0, 61.0, 90.0)] == [True, True, False, True, False, True]
