"""The simulator's DNS, queried by real clients: dnspython, and dig where it is installed."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import dns.reversename
import pytest
import pytest_asyncio

from fakes.fly import Fly, small_fly
from flyatc.sim.types import Faults


@pytest_asyncio.fixture
async def fly(tmp_path: Path) -> AsyncIterator[Fly]:
    async with small_fly(tmp_path) as one:
        yield one


def resolver(fly: Fly) -> dns.asyncresolver.Resolver:
    one = dns.asyncresolver.Resolver(configure=False)
    one.nameservers, one.port = ["127.0.0.1"], fly.simulator.dns_port
    one.lifetime = 5.0
    return one


async def texts(fly: Fly, name: str, kind: str = "AAAA", *, tcp: bool = False) -> list[str]:
    found = await resolver(fly).resolve(name, kind, tcp=tcp)
    if kind == "TXT":
        return ["".join(piece.decode() for piece in one.strings) for one in found]
    return [one.to_text() for one in found]


@pytest.mark.parametrize("tcp", [False, True])
async def test_metadata_name_the_machine_and_its_address_names_it_back(fly: Fly, tcp: bool) -> None:
    address = fly["m2"].record.address
    assert await texts(fly, "200.customer_id.kv._metadata.sim.internal", tcp=tcp) == [address]
    found = await texts(fly, str(dns.reversename.from_address(address)), "PTR", tcp=tcp)
    assert found == [f"{fly.id('m2')}.vm.sim.internal."]
    assert await texts(fly, found[0]) == [address]


async def test_a_name_has_all_its_machines_and_txt_records_list_them(fly: Fly) -> None:
    one, two = fly["m1"].record, fly["m2"].record
    assert sorted(await texts(fly, "sim.internal")) == sorted([one.address, two.address])
    assert await texts(fly, "ams.sim.internal") == [two.address]
    assert await texts(fly, "top1.nearest.of.sim.internal") == [one.address]
    assert await texts(fly, "regions.sim.internal", "TXT") == ["ams,iad"]
    assert await texts(fly, "_apps.internal", "TXT") == ["sim"]
    assert await texts(fly, "vms.sim.internal", "TXT") == [f"{one.id} iad,{two.id} ams"]
    (reported,) = await texts(fly, "_instances.internal", "TXT")
    assert reported.split(";")[1] == f"instance={two.id},app=sim,ip={two.address},region=ams"


async def test_a_machine_at_rest_is_in_no_response_but_that_of_all(fly: Fly) -> None:
    await fly["m2"].suspend()
    for name in ("200.customer_id.kv._metadata.sim.internal", f"{fly.id('m2')}.vm.sim.internal"):
        with pytest.raises(dns.resolver.NoAnswer):
            await texts(fly, name)
    with pytest.raises(dns.resolver.NXDOMAIN):
        await texts(fly, str(dns.reversename.from_address(fly["m2"].record.address)), "PTR")
    assert fly.id("m2") not in (await texts(fly, "_instances.internal", "TXT"))[0]
    assert fly.id("m2") in (await texts(fly, "all._instances.internal", "TXT"))[0]
    with pytest.raises(dns.resolver.NXDOMAIN):
        await texts(fly, "300.customer_id.kv._metadata.sim.internal")


async def test_new_metadata_count_at_once(fly: Fly) -> None:
    await fly.api("POST", f"/{fly.id('m1')}/metadata/customer_id", {"value": "400"})
    assert await texts(fly, "400.customer_id.kv._metadata.sim.internal") == [fly["m1"].record.address]


async def test_the_dns_can_be_made_to_fail(fly: Fly) -> None:
    name = "sim.internal"
    query, port = dns.message.make_query(name, "AAAA"), fly.simulator.dns_port
    for fault, code in (("servfail", dns.rcode.SERVFAIL), ("nxdomain", dns.rcode.NXDOMAIN), ("", dns.rcode.NOERROR)):
        fly.simulator.break_things(Faults(dns=fault))
        answer = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 5, port)
        assert answer.rcode() == code
    fly.simulator.break_things(Faults(dns="silent"))
    with pytest.raises(dns.exception.Timeout):
        await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 0.1, port)


async def test_ptr_can_be_switched_off_and_long_texts_come_by_tcp(tmp_path: Path) -> None:
    async with small_fly(tmp_path, 1, ptr=False) as fly:
        for number in range(25):
            fly.simulator.machines.create("sim", "ams", {}, f"more{number}")
        with pytest.raises(dns.resolver.NXDOMAIN):
            await texts(fly, str(dns.reversename.from_address(fly["m1"].record.address)), "PTR")
        (reported,) = await texts(fly, "all._instances.internal", "TXT")
        assert reported.count("instance=") == 26


async def test_what_is_no_question_is_not_answered(fly: Fly) -> None:
    server = fly.simulator.dns
    assert server.answer(b"") is None
    assert server.answer(b"\x00" * 11) is None
    response = dns.message.make_response(dns.message.make_query("sim.internal", "AAAA"))
    assert server.answer(response.to_wire()) is None


@pytest.mark.needs("dig")
async def test_dig_reads_the_names(fly: Fly) -> None:
    command = ["dig", "+short", "-p", str(fly.simulator.dns_port), "@127.0.0.1", "AAAA",
               "100.customer_id.kv._metadata.sim.internal"]  # fmt: skip
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == fly["m1"].record.address
