"""The machine of a user, looked up with a real DNS client: the queries, and their order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.dns import DnsServer
from flyatc.config import load
from flyatc.config.schema import Config
from flyatc.config.schema_sections import Listen
from flyatc.daemon import user_placement
from flyatc.daemon.user_placement import UserPlacement
from flyatc.fly import user_lookup as names_module
from flyatc.fly.dns_client import Dns
from flyatc.fly.environment import Machine
from flyatc.fly.user_lookup import UserLookup
from flyatc.kit.errors import OwnershipUnknown
from flyatc.observe.log import Log
from flyatc.ownership.record import Data, Holder, Owner, State
from flyatc.routing import placement_rules, replay_cache
from flyatc.routing.placement_rules import Here, Nowhere, There
from flyatc.routing.replay import Target

ME = Machine("shop", "148e21dad76789", "bos", "fdaa:0:1:a7b:1::2")
OTHER = "3d8dd15c1ed778"
THERE = Target("shop", id=OTHER)


class Owners:
    """Records what the store says of a user's owner. Writes down who is looked up."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.known: dict[str, Owner] = {}
        self.away = False
        self.looked: list[str] = []

    def held(self, user: str) -> bool:
        return user in self.here

    async def look(self, user: str) -> Owner | None:
        self.looked.append(user)
        if self.away:
            raise OwnershipUnknown("the store is away")
        return self.known.get(user)

    def had(self, user: str, machine: str, state: State = State.HELD) -> None:
        holder = Holder(app="shop", machine=machine, region="iad", boot="b")
        self.known[user] = Owner(epoch=3, state=state, holder=holder, nonce="n", ttl=30.0, data=Data(line=1, since=1))


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer().serving() as one:
        one.add("all.vms.shop.internal", "TXT", f"{ME.id} bos,{OTHER} iad")
        yield one


@pytest.fixture
def owners() -> Owners:
    return Owners()


def configured(folder: Path, users: str) -> Config:
    (folder / "tenants.yaml").write_text(f"app: {{command: [x]}}\nusers: {users}")
    return load.load(folder / "tenants.yaml", {})


@pytest.fixture
def placing(
    server: DnsServer, owners: Owners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UserPlacement]:
    monkeypatch.setattr("flyatc.daemon.user_placement.KEPT", 0.0)
    monkeypatch.setattr(names_module, "ABSENT", 0.0)
    with (tmp_path / "log").open("wb") as out:
        names = UserLookup(Dns(Listen("127.0.0.1", server.port)), ME, "customer", Log(out))
        config = configured(tmp_path, "{ann: , pat: {region: iad}, '*': {match: '[0-9]+'}}")
        yield UserPlacement(config, ME, owners, names)


def where(place: placement_rules.Place | None) -> object:
    return place.target if isinstance(place, There) else type(place)


async def test_a_user_held_here_is_not_looked_up(placing: UserPlacement, server: DnsServer, owners: Owners) -> None:
    owners.here.add("pat")
    assert placing.known("pat") is None
    assert where(await placing.find("pat")) is Here
    assert (server.asked, owners.looked) == ([], [])


async def test_a_pin_needs_no_look_up_either(placing: UserPlacement, server: DnsServer, owners: Owners) -> None:
    assert where(placing.known("pat")) == where(await placing.find("pat")) == Target("shop", region="iad")
    assert (server.asked, owners.looked) == ([], [])


async def test_a_name_comes_before_the_record(placing: UserPlacement, server: DnsServer, owners: Owners) -> None:
    server.add("7.customer.kv._metadata.shop.internal", "AAAA", str(ME.address))
    owners.had("7", OTHER)
    assert where(await placing.find("7")) is Here
    assert owners.looked == []
    assert where(await placing.find("8")) is Nowhere
    assert owners.looked == ["8"]


async def test_after_a_sleep_all_is_asked_anew(placing: UserPlacement, server: DnsServer) -> None:
    server.add("7.customer.kv._metadata.shop.internal", "AAAA", "fdaa:0:1:a7b:9::2")
    server.add_pointer("fdaa:0:1:a7b:9::2", f"{OTHER}.vm.shop.internal.")
    for _ in range(2):
        assert where(await placing.find("7")) == THERE
    assert [kind for _, kind in server.asked] == ["AAAA", "PTR"]
    server.records["7.customer.kv._metadata.shop.internal", "AAAA"] = [str(ME.address)]
    placing.forget()
    assert where(await placing.find("7")) is Here


async def test_without_the_store_no_request_is_sent_anywhere(placing: UserPlacement, owners: Owners) -> None:
    owners.away = True
    place = await placing.find("ann")
    assert isinstance(place, Nowhere)
    assert (place.status, place.reason) == (503, "the store is away")


@pytest.mark.parametrize("by", ["record", "name"])
async def test_a_machine_which_cannot_be_reached_is_given_up_when_we_have_tried(
    placing: UserPlacement, server: DnsServer, owners: Owners, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(replay_cache, "PATIENCE", 0.0)
    owners.had("ann", OTHER)
    if by == "name":  # to the DNS a machine whose host was lost may look as before
        server.add("ann.customer.kv._metadata.shop.internal", "AAAA", "fdaa::9")
        server.add_pointer("fdaa::9", f"{OTHER}.vm.shop.internal.")
    placing.failed("ann", 30)
    assert where(await placing.find("ann")) == THERE, "we have not even tried"
    placing.sent("ann", THERE)
    placing.failed("ann", 30)
    assert placing.unreachable("ann", THERE)
    place = await placing.find("ann")
    assert isinstance(place, Here)
    assert place.reason == f"machine {OTHER} in iad had the user last, and it cannot be reached"


async def test_a_record_read_once_is_known_to_all_requests_for_a_while(
    placing: UserPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyatc.daemon.user_placement.KEPT", 60.0)
    assert placing.known("ann") is None
    placing.learn("ann", There(THERE, "ann is served there"))
    assert where(placing.known("ann")) == where(await placing.find("ann")) == THERE


async def test_a_reload_counts_at_once(placing: UserPlacement, owners: Owners, tmp_path: Path) -> None:
    owners.had("ann", OTHER)
    assert where(await placing.find("ann")) == THERE
    placing.use(configured(tmp_path, f"{{ann: {{machine: {ME.id}}}}}"))
    assert where(await placing.find("ann")) is Here


async def test_in_a_storm_of_unknown_users_only_some_are_looked_up_and_known_or_listed_ones_are_served(
    server: DnsServer, owners: Owners, placing: UserPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_placement, "AT_ONCE", 20.0)
    monkeypatch.setattr(user_placement, "A_SECOND", 0.0)
    monkeypatch.setattr(placing, "_lookup_limit", user_placement.LookupLimit())
    owners.had("700", OTHER)
    assert where(await placing.find("700")) == THERE
    found = [await placing.find(str(number)) for number in range(1000, 1040)]
    assert [one.status for one in found if isinstance(one, Nowhere)] == [404] * 20 + [503] * 20
    assert found[-1] is placement_rules.CROWDED is placing.known("999")
    assert len({name for name, kind in server.asked if kind == "AAAA"}) == 21
    assert where(await placing.find("700")) == THERE
    assert where(await placing.find("ann")) is Here
