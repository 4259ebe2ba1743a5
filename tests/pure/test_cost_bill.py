"""A month's cost of each user: prices, sharing out of the machine, what is assumed."""

from pathlib import Path

import pytest
from msgspec import structs

from flyatc.cost import bill, prices
from flyatc.cost.prices import GB, MONTH, Prices
from flyatc.cost.usage import Machine, Usage, Use, UserUse
from flyatc.kit.errors import FlyatcError

TABLE = Prices()
DAY = 86400.0
ONE_GB = Machine(
    app="shop", id="1857705b4d4908", region="iad", kind="shared", cpus=1, memory_mb=1024, volume_gb=10, rootfs=0
)


def use(memory: float, seconds: float, *, disk: int = 0, stored: int | None = 0, **counts: int) -> UserUse:
    """``memory``: bytes on average."""
    return UserUse(seconds=seconds, memory=memory * seconds, disk=disk, stored=stored, **counts)


def observed(users: dict[str, UserUse], *, days: float = 30, up: float = 1.0, shared: Use | None = None) -> Usage:
    return Usage(
        since="2026-10-01T00:00:00Z", observed=days * DAY, up=days * DAY * up, users=users, shared=shared or Use(),
        machine=ONE_GB,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "cpus", "memory_gb", "dollars"),
    [
        ("shared", 1, 0.25, 2.19),
        ("shared", 1, 0.5, 3.69),
        ("shared", 1, 1, 6.70),
        ("shared", 2, 2, 13.39),
        ("performance", 1, 2, 33.00),
        ("performance", 2, 4, 66.00),
    ],
)
def test_the_table_gives_the_prices_of_a_month_that_fly_lists(
    kind: str, cpus: int, memory_gb: float, dollars: float
) -> None:
    assert TABLE.machine(kind, cpus, memory_gb, "iad") * MONTH == pytest.approx(dollars, abs=0.006)


@pytest.mark.parametrize(("region", "dollars"), [("fra", 7.73), ("sin", 8.50)])
def test_a_running_machine_costs_what_its_region_does(region: str, dollars: float) -> None:
    assert TABLE.machine("shared", 1, 1, region) * MONTH == pytest.approx(dollars, abs=0.006)


def test_a_machine_is_shared_out_by_memory_and_time_and_the_rest_is_idle() -> None:
    found = bill.bill(
        observed({"ann": use(GB / 2, 15 * DAY), "bob": use(GB / 4, 30 * DAY), "eve": use(0, 0)}), ONE_GB, TABLE
    )
    machine = TABLE.machine("shared", 1, 1, "iad") * MONTH
    assert found.users["ann"].costs.machine == pytest.approx(machine / 4)
    assert found.users["bob"].costs.machine == pytest.approx(machine / 4)
    assert found.users["eve"].total == 0
    assert found.shared.costs.machine == pytest.approx(machine / 2)
    assert found.total == pytest.approx(machine + 10 * TABLE.volume_gb)
    assert (found.users["ann"].hours, found.users["ann"].memory) == (360, GB / 2)


def test_more_memory_than_there_is_costs_no_more_than_the_machine() -> None:
    found = bill.bill(observed({"ann": use(3 * GB, 30 * DAY), "bob": use(GB, 30 * DAY)}), ONE_GB, TABLE)
    machine = TABLE.machine("shared", 1, 1, "iad") * MONTH
    assert found.users["ann"].costs.machine == pytest.approx(machine * 3 / 4)
    assert found.shared.costs.machine == pytest.approx(0, abs=1e-9)


def test_a_short_period_is_extrapolated_but_what_is_stored_is_not() -> None:
    counts = {"requests": 1000, "sent": GB, "uploaded": GB, "writes": 1000, "reads": 10_000}
    one = use(GB / 2, DAY, disk=GB, stored=5 * GB, **counts)
    found = bill.bill(observed({"ann": one}, days=3), ONE_GB, TABLE)
    ann = found.users["ann"]
    assert (ann.hours, ann.requests, ann.calls, ann.egress) == pytest.approx((240, 10_000, 110_000, 20 * GB))
    assert ann.costs.store == pytest.approx(5 * 0.02)
    assert ann.costs.disk == pytest.approx(0.15)
    assert ann.costs.calls == pytest.approx(10 * 0.005 + 100 * 0.0005)
    assert ann.costs.egress == pytest.approx(20 * 0.02)
    assert ann.total == pytest.approx(sum(structs.astuple(ann.costs)))
    assert found.total == pytest.approx(ann.total + found.shared.total)


def test_a_machine_that_is_stopped_half_of_the_time_costs_half_and_its_root_file_system() -> None:
    machine = structs.replace(ONE_GB, rootfs=2 * GB)
    found = bill.bill(observed({}, up=0.5), machine, TABLE)
    assert found.shared.costs.machine == pytest.approx(TABLE.machine("shared", 1, 1, "iad") * MONTH / 2)
    assert found.shared.costs.disk == pytest.approx(10 * 0.15 + 2 * 0.15 / 2)


def test_what_belongs_to_no_user_is_in_the_total() -> None:
    found = bill.bill(observed({}, shared=Use(sent=50 * GB, writes=1_000_000)), ONE_GB, TABLE)
    assert found.shared.costs.egress == pytest.approx(1.0)
    assert found.shared.costs.calls == pytest.approx(5.0)
    assert found.total == found.shared.total


def test_traffic_costs_what_the_region_does() -> None:
    for region, dollars in (("iad", 0.02), ("sin", 0.04), ("jnb", 0.12), ("xyz", 0.02)):
        found = bill.bill(observed({"ann": use(0, 0, sent=GB)}), structs.replace(ONE_GB, region=region), TABLE)
        assert found.users["ann"].costs.egress == pytest.approx(dollars), region


def test_nothing_observed_costs_only_what_is_stored() -> None:
    nothing = Usage(since="2026-10-01T00:00:00Z", observed=0, up=0, users={}, shared=Use(), machine=None)
    found = bill.bill(nothing, bill.supposed(nothing), TABLE)
    assert found.total == pytest.approx(0.15)
    assert found.rough


def test_less_than_a_day_is_a_rough_figure() -> None:
    rough, solid = (bill.bill(observed({}, days=days), ONE_GB, TABLE) for days in (0.9, 1.1))
    assert (rough.rough, solid.rough) == (True, False)
    assert "rough" in rough.assumptions[0]
    assert "rough" not in solid.assumptions[0]


def test_what_is_assumed_is_said() -> None:
    usage = observed({"ann": use(0, 9), "bob": use(0, 0, sent=1)}, up=0.25)
    usage = structs.replace(usage, streams=True, notes=["The store is away."])
    said = " ".join(bill.bill(usage, structs.replace(ONE_GB, region="xyz"), TABLE).assumptions)
    for text in (
        "25% of the time", "shared-cpu-1x with 1024 MB in xyz with a volume of 10 GB", "no region xyz", "October 2026",
        "https://fly.io/docs/about/pricing/", "ann is the only user", "The store is away.", "$12.96 a month",
    ):  # fmt: skip
        assert text in said
    said = " ".join(bill.bill(observed({}), structs.replace(ONE_GB, volume_gb=0), TABLE).assumptions)
    assert "in iad with no volume" in said
    for text in ("only user", "litestream", "no region"):
        assert text not in said


def test_what_is_not_on_fly_is_priced_as_a_small_machine_with_room_for_the_data() -> None:
    usage = structs.replace(observed({"ann": use(0, 0, disk=3 * GB // 2)}), machine=None)
    machine = bill.supposed(usage)
    assert (machine.memory_mb, machine.region, machine.volume_gb) == (1024, "iad", 2)
    assert "not Fly" in " ".join(bill.bill(usage, machine, TABLE).assumptions)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shared-cpu-1x", ("shared", 1, 256)),
        ("shared-cpu-4x:2048", ("shared", 4, 2048)),
        ("performance-2x", ("performance", 2, 4096)),
    ],
)
def test_a_size_is_written_as_fly_names_it(text: str, expected: tuple[str, int, int]) -> None:
    found = bill.size(text, "fra", ONE_GB)
    assert (found.kind, found.cpus, found.memory_mb) == expected
    assert (found.region, found.volume_gb) == ("fra", 10)


def test_without_a_size_only_the_region_changes() -> None:
    assert bill.size(None, None, ONE_GB) == ONE_GB
    assert bill.size(None, "syd", ONE_GB) == structs.replace(ONE_GB, region="syd")


@pytest.mark.parametrize("text", ["", "shared", "shared-cpu-0x", "shared-cpu-1x:", "performance-1x:2 GB", "a10"])
def test_another_size_is_refused(text: str) -> None:
    with pytest.raises(FlyatcError, match="no size of a machine: write shared-cpu-1x"):
        bill.size(text, None, ONE_GB)


def test_given_prices_replace_those_of_the_table() -> None:
    found = prices.read(b'{"store_gb": 0.023, "egress_gb": 0}', "mine.json")
    assert (found.store_gb, found.egress_gb, found.volume_gb) == (0.023, 0, TABLE.volume_gb)
    assert (found.date, found.sources) == ("no date given", ("mine.json", prices.FLY, prices.TIGRIS))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"store": 1}',
        b'{"store_gb": "1"}',
        b'{"store_gb": -1}',
        b'{"regions": {"iad": -1}}',
        b'{"a": "\xff"}',
    ],
)
def test_prices_that_cannot_be_meant_are_refused_with_the_name_of_the_file(body: bytes) -> None:
    with pytest.raises(FlyatcError, match=r"mine\.json"):
        prices.read(body, "mine.json")


def test_the_document_names_each_price_that_can_be_replaced() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert [name for name in Prices.__struct_fields__ if f"`{name}`" not in text] == []
