"""The simulator's proxy follows https://fly.io/docs/networking/dynamic-request-routing/, with machines on a string."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fakes.fly import Fly, small_fly
from flyatc.sim.machine import AGAIN_SECONDS
from flyatc.sim.proxy_leg import RETRY_SECONDS
from slowness import SLOWNESS

MEGABYTE = 1 << 20


@pytest_asyncio.fixture
async def fly(tmp_path: Path) -> AsyncIterator[Fly]:
    async with small_fly(tmp_path) as one:
        yield one


def to(machine: str, more: str = "") -> dict[str, str]:
    return {"Fly-Replay": f"instance={machine}{more}"}


async def test_a_request_goes_to_a_machine_of_the_clients_region_with_flys_headers(fly: Fly) -> None:
    reported = await fly.visit("/a?b=c", X_Forwarded_For="9.9.9.9", Fly_Client_IP="6.6.6.6", Via="1.1 cdn")
    seen = reported.json
    assert (seen["machine"], seen["path"]) == (fly.id("m1"), "/a?b=c")
    headers = seen["headers"]
    assert headers["fly-client-ip"] == "127.0.0.1"
    assert headers["x-forwarded-for"] == "9.9.9.9, 127.0.0.1, 66.241.124.1"
    assert (headers["fly-region"], headers["x-forwarded-proto"]) == ("iad", "http")
    assert headers["via"] == "1.1 cdn, 1.1 fly.io"
    assert reported.headers["Fly-Request-Id"] == headers["fly-request-id"].removesuffix("-iad")
    assert "fly-replay-src" not in headers


async def test_a_replay_by_instance_reaches_that_machine_with_its_source_and_state(fly: Fly) -> None:
    reported = await fly.visit("/x", {"m1": to(fly.id("m2"), ";state=abc")}, method="POST", body=b"hello")
    seen = reported.json
    assert (seen["machine"], seen["body"]) == (fly.id("m2"), "hello")
    source = dict(part.split("=") for part in seen["headers"]["fly-replay-src"].split(";"))
    assert (source["instance"], source["region"], source["state"]) == (fly.id("m1"), "iad", "abc")
    assert len(source["t"]) == 16
    assert "Fly-Replay" not in reported.headers
    assert any("m1 replays" in line and "m2 200" in line for line in fly.hops)


@pytest.mark.parametrize(
    "value", ["region=ams", 'region="gru,ams"', "region=eu", "elsewhere=true", "region=ams;app=sim"]
)
async def test_a_replay_may_name_regions_or_anything_else(fly: Fly, value: str) -> None:
    assert (await fly.visit("/", {"m1": {"Fly-Replay": value}})).json["machine"] == fly.id("m2")


async def test_an_unavailable_preferred_machine_is_named_to_the_machine_that_gets_the_request(fly: Fly) -> None:
    seen = (await fly.visit("/", {"m1": {"Fly-Replay": "prefer_instance=gone;region=ams"}})).json
    assert seen["machine"] == fly.id("m2")
    assert seen["headers"]["fly-preferred-instance-unavailable"] == "gone"


async def test_the_json_form_may_rewrite_path_and_headers(fly: Fly) -> None:
    replay = {
        "instance": fly.id("m2"),
        "transform": {
            "path": "/new?q=1",
            "delete_headers": ["x-a"],
            "set_headers": [{"name": "X-B", "value": "2"}],
        },
    }
    lines = {"Content-Type": "application/vnd.fly.replay+json", "body": json.dumps(replay)}
    seen = (await fly.visit("/old", {"m1": lines}, X_A="1", X_B="1")).json
    assert (seen["machine"], seen["path"], seen["headers"]["x-b"]) == (fly.id("m2"), "/new?q=1", "2")
    assert "x-a" not in seen["headers"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("instance=nonesuch", "PR02"),
        ("app=other", "PA04"),
        ("region=gru", "PR01"),
        ("instance=x;timeout=1500", "PA03"),
        ("wrong=1", "PA03"),
    ],
)
async def test_a_replay_that_cannot_be_followed_is_an_empty_502_and_only_the_log_says_why(
    fly: Fly, value: str, code: str
) -> None:
    reported = await fly.visit("/", {"m1": {"Fly-Replay": value}})
    assert (reported.status, reported.body, reported.headers["Content-Length"]) == (502, b"", "0")
    assert code in fly.hops[-1]


async def test_a_loop_ends_after_ten_replays(fly: Fly) -> None:
    reported = await fly.visit("/", {"m1": to(fly.id("m2")), "m2": to(fly.id("m1"))})
    assert reported.status == 502
    assert fly.hops[-1].count("replays:") == 11
    assert "PA02" in fly.hops[-1]


@pytest.mark.parametrize("rest", ["stop", "suspend"])
async def test_a_sleeping_machine_is_woken_by_a_replay(fly: Fly, rest: str) -> None:
    await (fly["m2"].stop() if rest == "stop" else fly["m2"].suspend())
    assert (await fly.visit("/", {"m1": to(fly.id("m2"))})).json["machine"] == fly.id("m2")
    assert fly["m2"].state == "started"


async def test_without_autostart_a_sleeper_is_no_candidate_and_the_fallback_comes_home(fly: Fly) -> None:
    await fly["m2"].stop()
    fly["m2"].record.autostart = False
    seen = (await fly.visit("/", {"m1": to(fly.id("m2"), ";timeout=2s;fallback=force_self"), "failed": {
        "status": "503 Busy", "Retry-After": "1"}}))  # fmt: skip
    assert (seen.status, seen.headers["Retry-After"]) == (503, "1")
    assert "PR01 no_candidate  →  m1 503" in fly.hops[-1]


async def test_a_fallback_names_what_failed_and_may_not_replay_again(fly: Fly) -> None:
    await fly["m2"].kill()
    asked = {"m1": to(fly.id("m2"), ";timeout=200ms;fallback=force_self"), "failed": to(fly.id("m2"))}
    reported = await fly.visit("/", asked)
    assert reported.status == 502
    assert "PR04 timeout  →  m1 replays" in fly.hops[-1]
    assert "502 PA03" in fly.hops[-1]


async def test_a_dead_target_without_a_timeout_is_an_empty_502_after_the_retries(tmp_path: Path) -> None:
    async with small_fly(tmp_path, give_up=6 * RETRY_SECONDS) as fly:
        await fly["m2"].kill()
        reported = await fly.visit("/", {"m1": to(fly.id("m2"), ";fallback=prefer_self"), "failed": {"body": "home"}})
        assert reported.body == b"home"
        reported = await fly.visit("/", {"m1": to(fly.id("m2"))})
        assert (reported.status, reported.body) == (502, b"")
        assert "PR03" in fly.hops[-1]


async def test_an_app_that_took_the_request_and_failed_is_no_reason_for_a_fallback(fly: Fly) -> None:
    reported = await fly.visit("/vanish", {"m1": to(fly.id("m2"), ";timeout=5s;fallback=force_self")})
    assert reported.status == 502
    assert "PU02" in fly.hops[-1]


async def test_a_machine_just_stopped_is_taken_for_running_for_a_while(tmp_path: Path) -> None:
    async with small_fly(tmp_path, stale=1.5) as fly:
        await fly["m2"].stop()
        assert fly["m2"].seen().state == "started"
        reported = await fly.visit("/", {"m1": to(fly.id("m2"), ";timeout=100ms;fallback=force_self"), "failed": {}})
        assert "PR04 timeout" in fly.hops[-1]
        reported = await fly.visit("/", {"m1": to(fly.id("m2"))})  # retried, until the truth is known
        assert reported.json["machine"] == fly.id("m2")


@pytest.mark.parametrize(("size", "status"), [(MEGABYTE, 200), (MEGABYTE + 1, 502)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_one_megabyte_is_not_replayed(fly: Fly, size: int, status: int, chunked: bool) -> None:
    body = bytes(size)
    asked = {"m1": to(fly.id("m2"))}
    if chunked:
        reported = await fly.visit("/", asked, method="POST", body=iter([body[:1000], body[1000:]]))  # type: ignore[arg-type]
    else:
        reported = await fly.visit("/", asked, method="POST", body=body)
    if status == 200:
        assert (reported.json["machine"], reported.json["length"]) == (fly.id("m2"), size)
    else:
        assert reported.status == 502
        assert "PA01" in fly.hops[-1]


async def test_a_machine_that_replays_need_not_read_the_body(fly: Fly) -> None:
    asked = {"m1": to(fly.id("m2")) | {"deaf": "1"}}
    reported = await fly.visit("/", asked, method="POST", body=bytes(MEGABYTE))
    assert (reported.json["machine"], reported.json["length"]) == (fly.id("m2"), MEGABYTE)


async def test_a_larger_body_passes_where_nothing_is_replayed(fly: Fly) -> None:
    reported = await fly.visit("/", method="POST", body=bytes(3 * MEGABYTE))
    assert (reported.status, reported.json["length"]) == (200, 3 * MEGABYTE)


async def test_both_bodies_stream_while_they_come(fly: Fly) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fly.simulator.port)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"one", b"two!!"):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert piece in await reader.readuntil(piece)
    writer.write(b"0\r\n\r\n")
    assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")
    writer.close()


async def test_an_upgrade_is_replayed_before_it_is_accepted_and_then_a_tunnel(fly: Fly) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fly.simulator.port)
    script = json.dumps({fly.id("m1"): to(fly.id("m2"))})
    head = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Script: {script}\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    writer.close()
    await writer.wait_closed()
    await fly.until_reported("m1 replays")
    assert "m2 101" in fly.hops[-1]


async def test_a_replay_is_cached_by_path_and_forgotten_by_the_target(fly: Fly) -> None:
    one, two = fly.id("m1"), fly.id("m2")
    cache = {"Fly-Replay-Cache": "/100/*", "Fly-Replay-Cache-TTL-Secs": "10", "Fly-Replay-Cache-Allow-Bypass": "yes"}
    first = (await fly.visit("/100/a", {"m1": to(two) | cache})).json["headers"]
    assert first["fly-replay-cache-status"] == "miss"
    hit = (await fly.visit("/100/b")).json
    assert (hit["machine"], hit["headers"]["fly-replay-cache-status"]) == (two, "hit")
    assert "fly-replay-src" not in hit["headers"]
    skipped = (await fly.visit("/100/b", Fly_Replay_Cache_Control="skip")).json
    assert (skipped["machine"], skipped["headers"]["fly-replay-cache-status"]) == (one, "bypass")
    assert (await fly.visit("/200/b")).json["machine"] == one
    home = (await fly.visit("/100/b", {"m2": to(one) | {"Fly-Replay-Cache": "invalidate"}})).json
    assert home["machine"] == one
    assert (await fly.visit("/100/b")).json["machine"] == one


async def test_a_cached_replay_may_not_carry_a_state(fly: Fly) -> None:
    cache = {"Fly-Replay-Cache": "/*", "Fly-Replay-Cache-TTL-Secs": "10"}
    assert (await fly.visit("/", {"m1": to(fly.id("m2"), ";state=a") | cache})).status == 502
    assert "PA03" in fly.hops[-1]


async def test_the_target_of_a_cached_replay_may_have_none_cached_itself(fly: Fly) -> None:
    cache = {"Fly-Replay-Cache": "/*", "Fly-Replay-Cache-TTL-Secs": "10"}
    both = {"m1": to(fly.id("m2")) | cache, "m2": to(fly.id("m1")) | cache}
    for _ in ("miss", "hit"):
        assert (await fly.visit("/", both)).status == 502
        assert "PA03" in fly.hops[-1]


async def test_a_replay_in_json_is_cached_and_invalidated_as_well(fly: Fly) -> None:
    def said(**words: object) -> dict[str, str]:
        return {"Content-Type": "application/vnd.fly.replay+json", "body": json.dumps(words)}

    there = said(instance=fly.id("m2"), cache={"prefix": "/7", "ttl": 10})
    assert (await fly.visit("/7/", {"m1": there})).json["machine"] == fly.id("m2")
    assert (await fly.visit("/7/")).json["headers"]["fly-replay-cache-status"] == "hit"
    back = said(instance=fly.id("m1"), cache={"invalidate": True}, state="x")
    home = (await fly.visit("/7/", {"m2": back})).json
    assert (home["machine"], home["headers"]["fly-replay-cache-status"]) == (fly.id("m1"), "miss")
    assert (await fly.visit("/7/")).json["machine"] == fly.id("m1")


async def test_clients_may_aim_at_machines_themselves(fly: Fly) -> None:
    assert (await fly.visit("/", fly_force_instance_id=fly.id("m2"))).json["machine"] == fly.id("m2")
    assert (await fly.visit("/", fly_force_instance_id="nonesuch")).status == 502
    assert (await fly.visit("/", fly_prefer_instance_id=fly.id("m2"))).json["machine"] == fly.id("m2")
    seen = (await fly.visit("/", fly_prefer_instance_id="nonesuch")).json
    assert seen["headers"]["fly-preferred-instance-unavailable"] == "nonesuch"
    assert (await fly.visit("/", fly_prefer_region="ams")).json["machine"] == fly.id("m2")
    assert (await fly.visit("/", fly_force_region="gru")).status == 502


async def test_what_a_client_forged_reaches_the_app_but_not_the_target_of_a_replay(fly: Fly) -> None:
    forged = "instance=evil;region=iad;t=1;state=x"
    assert (await fly.visit("/", fly_replay_src=forged)).json["headers"]["fly-replay-src"] == forged
    seen = (await fly.visit("/", {"m1": to(fly.id("m2"))}, fly_replay_src=forged)).json
    assert "evil" not in seen["headers"]["fly-replay-src"]


async def test_an_app_that_fails_is_started_again_and_one_that_ends_well_stays_down(fly: Fly) -> None:
    before = fly["m1"].updated
    await fly.visit("/exit?3")
    async with asyncio.timeout(10 * SLOWNESS):
        while fly["m1"].updated < before + 3:  # stopped, starting, started
            await asyncio.sleep(0.01)
    assert (await fly.visit("/", fly_force_instance_id=fly.id("m1"))).json["machine"] == fly.id("m1")
    await fly.visit("/exit?0")
    assert await fly["m1"].until("stopped", 5)
    assert (await fly.visit("/")).json["machine"] == fly.id("m2")


async def test_a_machine_that_is_stopped_between_two_starts_stays_down(fly: Fly) -> None:
    await fly.visit("/exit?3")
    assert await fly["m1"].until("stopped", 5)
    await fly["m1"].stop()
    assert not await fly["m1"].until("started", 2 * AGAIN_SECONDS)


async def test_a_client_that_leaves_ends_its_own_request_only(fly: Fly) -> None:
    await fly["m2"].kill()
    _, writer = await asyncio.open_connection("127.0.0.1", fly.simulator.port)
    writer.write(f"GET /left HTTP/1.1\r\nHost: a\r\nfly-force-instance-id: {fly.id('m2')}\r\n\r\n".encode())
    await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    await fly.until_reported("the client left")
    assert (await fly.visit("/")).status == 200
