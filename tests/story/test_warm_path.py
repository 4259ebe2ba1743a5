"""A warm request costs few calls and few objects: counted, not timed."""

import asyncio
import gc
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import flyatc
from fakes.warm_path import REQUEST, RESPONSE, ReplayPath, WarmPath
from flyatc.edge.maintenance_rules import EVERYTHING
from flyatc.routing.placement_rules import There
from flyatc.routing.replay import Target

CALLS, OBJECTS = 40, 3
HOME = os.path.dirname(flyatc.__file__)  # noqa: PTH120


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[WarmPath]:
    one = WarmPath(tmp_path)
    yield one
    await one.close()


def calls(what: Callable[[], object]) -> Counter[str]:
    """Return the Python functions that it calls: flyatc's, and the standard library's but for the loop's clock, which
    is compiled in uvloop."""
    found: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and f"{os.sep}tests{os.sep}" not in code.co_filename and code.co_name != "time":
            found[f"{code.co_filename.removeprefix(HOME)}:{code.co_qualname}"] += 1

    gc.collect()  # a collection amid the measurement would run finalizers, such as that of a closed loop
    gc.disable()
    sys.setprofile(profile)
    try:
        what()
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


def objects(what: Callable[[], object]) -> Counter[str]:
    """Return the objects of flyatc's classes that it makes. They are kept until its end, so that none is missed. What
    was there before stays excluded from garbage collection, as the tests themselves are (tests/conftest.py)."""
    gc.collect()
    gc.disable()
    gc.freeze()
    kept: dict[int, object] = {}

    def profile(frame: FrameType, event: str, argument: object) -> None:
        for one in gc.get_objects():
            if type(one).__module__.startswith("flyatc."):
                kept[id(one)] = one

    sys.setprofile(profile)
    try:
        what()
    finally:
        sys.setprofile(None)
        gc.enable()
    return Counter(type(one).__name__ for one in kept.values())


def served(path: WarmPath, user: bytes) -> None:
    path.request(REQUEST % user)
    path.respond(RESPONSE)


@pytest.mark.parametrize("user", ["u", "bare"])
async def test_a_warm_request_takes_at_most_forty_calls_and_three_objects(user: str, path: WarmPath) -> None:
    await path.start(user)
    for _ in range(3):  # the first one shows that responses of this path are not to be stored
        served(path, user.encode())
    assert path.client.last.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nX-Request-Id: " in path.client.last
    assert path.app.last.startswith(b"GET /" + user.encode() + b"/page HTTP/1.1\r\n")
    found = calls(lambda: served(path, user.encode()))
    assert found.total() <= CALLS, found
    made = objects(lambda: served(path, user.encode()))
    assert made.total() <= OBJECTS, made
    assert b'"start":"warm"' in path.log.journal.since(0)[-1][2]
    assert sum(path.records.counters.times[user]) == 5, "each response is timed"


async def test_the_app_sees_no_cookie_of_the_dashboard(path: WarmPath) -> None:
    await path.start("u")
    asked = REQUEST.replace(b"theme=dark", b"flyatc_dashboard=1.2.3;flyatc_dashboard_notice=x; theme=dark")
    path.request(asked % b"u")
    assert b"\r\nCookie: session=nW3vTq0yJp8aZ1cXeR5uLk7mB2dG9hF4sQ6oI0wEtYvNzKj; theme=dark\r\n" in path.app.last
    assert path.app.last.count(b"X-Request-Id") == 1
    path.respond(RESPONSE.replace(b"Set-Cookie: ", b"Set-Cookie: flyatc_dashboard=x\r\nSet-Cookie: "))
    assert b"flyatc_dashboard" not in path.client.last
    asked = REQUEST.replace(b"session=", b"flyatc_dashboard=").replace(b"; theme=dark", b"")
    path.request(asked % b"u")
    assert b"Cookie" not in path.app.last
    path.respond(RESPONSE)


async def test_a_lease_in_doubt_or_lost_is_noticed_by_the_next_request_and_the_next_response(path: WarmPath) -> None:
    await path.start("u")
    served(path, b"u")
    assert path.lease is not None
    path.request(REQUEST % b"u")
    path.lease.end("for the test", lost=False)
    path.respond(RESPONSE)
    assert path.client.last.startswith(b"HTTP/1.1 503 ")
    tenant: Any = path.fleet.find("u", "")
    assert tenant.warm() is None


STORED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok"
ASSET = b"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 10000\r\nCache-Control: max-age=60\r\n\r\n%b" % (
    b"x" * 10_000
)


async def test_a_response_that_may_be_stored_after_all_is_stored(path: WarmPath) -> None:
    await path.start("u")
    asked = (REQUEST % b"u").replace(b"Cache-Control: max-age=0\r\n", b"")
    for _ in range(3):
        served(path, b"u")
    path.request(asked)  # passes by: earlier responses of this path were private
    path.respond(STORED)
    assert path.cache.entries == 1
    path.request(asked)
    assert b"\r\nX-Cache: hit\r\n" in path.client.last


async def test_a_request_held_by_a_pause_is_looked_up_anew(path: WarmPath) -> None:
    await path.start("u")
    for _ in range(3):
        served(path, b"u")
    path.maintenance.pause(EVERYTHING, 10.0)
    path.request((REQUEST % b"u").replace(b"Cache-Control: max-age=0\r\n", b""))
    path.cache.clear()
    flights = path.cache._books.flights
    flights.alone[:] = type(flights.alone)("q", bytes(8 * len(flights.alone)))  # as if others had asked meanwhile
    path.maintenance.resume(EVERYTHING)
    await asyncio.sleep(0.01)
    path.respond(STORED)
    assert path.client.last.endswith(b"\r\n\r\nok")
    assert path.cache.entries == 1, "recorded once, by the look-up after the pause"
    assert not flights._open, "no request waits for it"


# --- a replay, and a hit: both are prepared anew once a second, so the least of three counts ---

REPLAY_CALLS, HIT_CALLS, OBJECTS_OF_THEM = 28, 23, 2


def least(count: Callable[[Callable[[], object]], Counter[str]], what: Callable[[], object]) -> Counter[str]:
    return min((count(what) for _ in range(3)), key=Counter.total)


@pytest.fixture
async def on_fly(tmp_path: Path) -> AsyncIterator[ReplayPath]:
    one = ReplayPath(tmp_path)
    yield one
    await one.close()


@pytest.mark.parametrize("user", ["far", "far_bare", "pinned", "pinned_bare"])
async def test_a_replay_takes_few_calls_and_two_objects(user: str, on_fly: ReplayPath) -> None:
    asked = REQUEST % user.encode()
    await on_fly.placement.find(user)  # cached for two seconds
    on_fly.request(asked)
    machine = b"3d8dd15c1ed778" if user.startswith("pinned") else b"e28650ce7d1d68"
    found = least(calls, lambda: on_fly.request(asked))
    assert b"\r\nFly-Replay: instance=%b;timeout=30000ms;" % machine in on_fly.client.last
    assert found.total() <= REPLAY_CALLS, found
    await on_fly.placement.find(user)
    made = least(objects, lambda: on_fly.request(asked))
    assert made.total() <= OBJECTS_OF_THEM, made


@pytest.mark.parametrize("coding", [b"", b"gzip"])
async def test_a_hit_takes_few_calls_and_two_objects(coding: bytes, path: WarmPath) -> None:
    await path.start("u")
    asked = (REQUEST % b"u").replace(b"Cache-Control: max-age=0\r\n", b"")
    asked = asked.replace(b"gzip, deflate, br, zstd", coding)
    path.request(asked)
    path.respond(ASSET)
    path.request(asked)  # encoded, and rendered
    found = least(calls, lambda: path.request(asked))
    assert b"\r\nX-Cache: hit\r\n" in path.client.last
    assert (b"\r\nContent-Encoding: gzip\r\n" in path.client.last) is bool(coding)
    assert found.total() <= HIT_CALLS, found
    made = least(objects, lambda: path.request(asked))
    assert made.total() <= OBJECTS_OF_THEM, made


_OF_THE_SECOND = re.compile(rb"(?<=\r\nDate: )[^\r]*|(?<=;state=flyatc\.1\.)[0-9a-fm.]*")


def replayed(path: ReplayPath, method: bytes = b"GET", line: bytes = b"Accept: a/b") -> bytes:
    """Return the response, without what differs from one second to the next."""
    asked = method + REQUEST[3:] % b"pinned"
    path.request(asked.replace(b"\r\nAccept: ", b"\r\nX-Request-Id: mine\r\n%b\r\nAccept: " % line, 1))
    return _OF_THE_SECOND.sub(b"", path.client.last)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Accept: a/b", 409),
        (b"Connection: close", 409),
        (b"Content-Length: 1000000", 409),
        (b"Content-Length: 1000001", 413),
        (b"Transfer-Encoding: chunked", 411),
        (b"Fly-Replay-Src: instance=a;region=iad;t=1;state=flyatc.1.1.m." + b"0" * 32, 409),
        (b"Fly-Replay-Failed: reason=timeout;elapsed_ms=30000", 503),
        (b"Fly-Replay-Cache-Status: hit", 409),
    ],
)
async def test_a_replay_that_was_prepared_is_as_one_that_is_made(
    method: bytes, line: bytes, status: int, tmp_path: Path
) -> None:
    seen = []
    for earlier in (0, 2):
        path = ReplayPath(tmp_path)
        for _ in range(earlier):
            replayed(path)
        seen.append(replayed(path, method, line))
        await path.close()
    assert seen[0] == seen[1]
    assert seen[0].startswith(b"HTTP/1.1 %d " % status)


async def test_a_replay_that_was_prepared_is_not_sent_after_the_user_has_moved_or_is_held_here(
    on_fly: ReplayPath,
) -> None:
    await on_fly.placement.find("far")
    for machine in (b"e28650ce7d1d68", b"e28650ce7d1d68", b"3d8dd15c1ed778"):
        on_fly.placement.learn("far", There(Target("app", id=machine.decode()), "for the test"))
        on_fly.request(REQUEST % b"far")
        assert b"\r\nFly-Replay: instance=%b;" % machine in on_fly.client.last
    on_fly.client.last = b""
    async with on_fly.leases.hold("far"):
        on_fly.request(REQUEST % b"far")
        assert on_fly.client.last == b""
