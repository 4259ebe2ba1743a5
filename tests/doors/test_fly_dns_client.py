"""A real client and a small real server: the responses that Fly's private DNS may send."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.dns import DnsServer
from flyatc.config.schema_sections import Listen
from flyatc.fly import dns_answers, dns_client, user_lookup
from flyatc.fly.environment import Machine
from flyatc.fly.user_lookup import UserLookup
from flyatc.kit import tasks
from flyatc.observe.log import Log

ME = Machine("shop", "148e21dad76789", "bos", "fdaa:0:1:a7b:1::2")
OTHER, THIRD = "3d8dd15c1ed778", "e28650ce7d1d68"
THERE = "fdaa:0:1:a7b:2::2"
NAME = "ann.customer.kv._metadata.shop.internal"
LIST = f"instance={OTHER},app=shop,ip={THERE},region=iad;instance={THIRD},app=other,ip=fdaa::7,region=iad"


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer().serving() as one:
        yield one


@pytest.fixture
def client(server: DnsServer) -> dns_client.Dns:
    return dns_client.Dns(Listen("127.0.0.1", server.port))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log").open("wb") as out:
        yield Log(text=False, level="info", out=out)


@pytest.fixture
def asked(client: dns_client.Dns, log: Log) -> UserLookup:
    return UserLookup(client, ME, "customer", log)


async def test_absent_empty_late_and_failed_are_different_things(server: DnsServer, client: dns_client.Dns) -> None:
    server.add("here.internal", "TXT", "a")
    assert await client.texts("here.internal") == ["a"]
    with pytest.raises(dns_answers.NoSuchName, match="NXDOMAIN"):
        await client.addresses("gone.internal")
    with pytest.raises(dns_answers.NoRecords, match=r"here\.internal has no AAAA"):
        await client.addresses("here.internal")
    server.failing = True
    with pytest.raises(dns_answers.ServerFailed):
        await client.addresses("here.internal")
    server.mute = True
    with pytest.raises(dns_answers.TimedOut, match="within 2 s"):
        await client.addresses("here.internal")


async def test_of_the_queries_to_an_absent_server_one_waits_for_it(
    server: DnsServer, client: dns_client.Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_client, "AWAY", 0.05)
    server.mute = True
    with pytest.raises(dns_answers.TimedOut, match="within 2 s"):
        await client.addresses("here.internal")
    await asyncio.sleep(0.06)  # it was left alone
    one = tasks.start(client.addresses("here.internal"), "the one who waits")
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(dns_answers.TimedOut, match="does not answer"):
            await client.addresses("here.internal")
    server.mute = False
    with pytest.raises(dns_answers.NoSuchName):  # the next packet arrives
        await one
    with pytest.raises(dns_answers.NoSuchName):
        await client.addresses("here.internal")


async def test_a_user_is_found_by_metadata_and_pointer(server: DnsServer, asked: UserLookup) -> None:
    server.add(NAME, "AAAA", THERE)
    server.add_pointer(THERE, f"{OTHER}.vm.shop.internal.")
    found = await asked.machine_of("ann")
    assert isinstance(found, dns_answers.Found)
    assert found.machine == OTHER
    assert await asked.machine_of("ann") is found
    assert [kind for _, kind in server.asked] == ["AAAA", "PTR"]


async def test_without_a_pointer_the_list_of_instances_decides_and_the_pointer_is_not_queried_again(
    server: DnsServer, asked: UserLookup
) -> None:
    server.add(NAME, "AAAA", THERE)
    server.add(NAME.replace("ann", "bob"), "AAAA", THERE)
    server.add("_instances.internal", "TXT", LIST)
    for user in ("ann", "bob"):
        found = await asked.machine_of(user)
        assert isinstance(found, dns_answers.Found)
        assert found.machine == OTHER
    assert [kind for _, kind in server.asked] == ["AAAA", "PTR", "TXT", "AAAA"]


async def test_our_own_address_needs_no_pointer_and_of_several_machines_we_take_ours(
    server: DnsServer, asked: UserLookup
) -> None:
    server.add(NAME, "AAAA", THERE, str(ME.address))
    server.add_pointer(THERE, f"{OTHER}.vm.shop.internal.")
    found = await asked.machine_of("ann")
    assert isinstance(found, dns_answers.Found)
    assert found.machine == ME.id


async def test_an_address_without_a_name_is_unknown_rather_than_absent(server: DnsServer, asked: UserLookup) -> None:
    server.add(NAME, "AAAA", THERE)
    server.add_pointer(THERE, f"{THIRD}.vm.other.internal.")
    found = await asked.machine_of("ann")
    assert isinstance(found, dns_answers.Unknown)
    assert THERE in found.why


async def test_an_unknown_name_is_absent_and_a_failing_server_leaves_it_open(
    server: DnsServer, asked: UserLookup
) -> None:
    assert isinstance(await asked.machine_of("gone"), dns_answers.Absent)
    server.failing = True
    assert isinstance(await asked.machine_of("ann"), dns_answers.Unknown)


async def test_while_the_server_is_away_its_last_response_has_to_do(
    server: DnsServer, asked: UserLookup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log
) -> None:
    monkeypatch.setattr(user_lookup, "FOUND", 0.0)
    server.add(NAME, "AAAA", str(ME.address))
    assert isinstance(await asked.machine_of("ann"), dns_answers.Found)
    server.failing = True
    found = await asked.machine_of("ann")
    assert isinstance(found, dns_answers.Found)
    assert found.stale
    log.close()
    assert "DNS lookup failed: the last result is used" in (tmp_path / "log").read_text()


async def test_a_server_which_is_silent_is_not_asked_for_each_user(server: DnsServer, asked: UserLookup) -> None:
    server.mute = True
    assert isinstance(await asked.machine_of("ann"), dns_answers.Unknown)
    before = len(server.asked)
    for user in ("bob", "cid", "dan"):
        assert isinstance(await asked.machine_of(user), dns_answers.Unknown)
    assert len(server.asked) == before


async def test_a_sleeping_machine_is_distinguished_from_one_that_is_gone(server: DnsServer, asked: UserLookup) -> None:
    server.add("all.vms.shop.internal", "TXT", f"{OTHER} iad,{ME.id} bos")
    assert await asked.deployed("shop", OTHER) is True
    assert await asked.deployed("shop", THIRD) is False
    assert await asked.deployed("other", OTHER) is False
    assert [name for name, _ in server.asked] == ["all.vms.shop.internal", "all.vms.other.internal"]
    server.failing = True
    assert await asked.deployed("third", OTHER) is None


async def test_a_storm_of_queries_shares_a_port_and_each_gets_its_own_response(
    server: DnsServer, client: dns_client.Dns
) -> None:
    users = range(50)
    for user in users:
        server.add(f"{user}.shop.internal", "AAAA", f"fdaa::{user + 1:x}")
    found = await asyncio.gather(*(client.addresses(f"{user}.shop.internal") for user in users))
    assert found == [[f"fdaa::{user + 1:x}"] for user in users]
    assert len({port for _, port in server.askers}) < 10


async def test_unusual_responses_are_queried_again_with_dnspython(server: DnsServer, client: dns_client.Dns) -> None:
    server.add("other.internal", "AAAA", THERE)
    server.aliases["here.internal"] = "other.internal"
    assert await client.addresses("here.internal") == [THERE]


async def test_an_unreachable_resolver_is_not_an_absent_name() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        client = dns_client.Dns(Listen("127.0.0.1", gone.getsockname()[1]))
    with pytest.raises(dns_answers.Unanswered):
        await client.addresses("here.internal")


async def test_machines_are_asked_for_by_address_once_for_all_their_users(server: DnsServer, asked: UserLookup) -> None:
    server.add_pointer(THERE, f"{OTHER}.vm.shop.internal.")
    for user in ("ann", "bob"):
        server.add(NAME.replace("ann", user), "AAAA", THERE)
        assert isinstance(await asked.machine_of(user), dns_answers.Found)
    assert [kind for _, kind in server.asked] == ["AAAA", "PTR", "AAAA"]


async def test_a_list_of_machines_which_has_not_even_us_says_nothing_of_others(
    server: DnsServer, asked: UserLookup
) -> None:
    assert await asked.deployed("shop", OTHER) is None
