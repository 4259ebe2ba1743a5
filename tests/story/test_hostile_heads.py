"""Heads made to be slow cost linear work, and heads that differ leave nothing behind."""

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from fakes import hostile_heads
from fakes.request_path import STORED, RequestPath, deliver
from flyatc.delivery.cache.state import Coalescing, Key
from flyatc.wire import head_parser
from flyatc.wire.connection import TURN

BODY = b"x" * 2000


@pytest.fixture
async def here(tmp_path: Path) -> Any:
    path = RequestPath(tmp_path, header=1 << 20)
    yield path
    path.close()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> Any:
    path = RequestPath(tmp_path, elsewhere=True, header=1 << 20)
    yield path
    path.close()


def calls(what: Callable[[], object]) -> int:
    """How many calls it makes, into Python and into C."""
    number = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        what()
    finally:
        sys.setprofile(None)
    return number


def linear(heads: Callable[[int], Iterator[tuple[str, bytes]]], send: Callable[[bytes], object]) -> list[str]:
    """The kinds of heads for which four times the octets make much more than four times the calls."""
    small, large = dict(heads(5_000)), dict(heads(20_000))
    assert len(large) >= 448
    worse = []
    for what, one in small.items():
        few, many = calls(lambda one=one: send(one)), calls(lambda other=large[what]: send(other))  # type: ignore[misc]
        if many > 6 * few + 300:
            worse.append(f"{what}: {few} and {many} calls")
    return worse


def test_there_are_many_kinds_of_hostile_heads_of_60_kb() -> None:
    for heads in (dict(hostile_heads.requests()), dict(hostile_heads.responses())):
        assert len(set(heads.values())) == len(heads) >= 448
        assert max(map(len, heads.values())) <= hostile_heads.OCTETS
        assert sorted(map(len, heads.values()))[len(heads) // 10] > 50_000, "all but a few are of about that size"


async def test_the_work_for_a_request_is_linear_in_its_head(here: RequestPath) -> None:
    assert linear(hostile_heads.requests, here.request) == []


async def test_so_it_is_where_the_cache_answers(here: RequestPath) -> None:
    here.request(b"GET /u/page HTTP/1.1\r\nHost: example.com\r\n\r\n", STORED)
    assert here.cache.entries == 1
    assert linear(hostile_heads.requests, here.request) == []


async def test_so_it_is_where_another_machine_serves_the_user(elsewhere: RequestPath) -> None:
    assert b"fly-replay" in elsewhere.request(b"GET /u/page HTTP/1.1\r\nHost: example.com\r\n\r\n")[1].lower()
    assert linear(hostile_heads.requests, elsewhere.request) == []


async def test_the_work_for_a_response_is_linear_in_its_head(here: RequestPath) -> None:
    numbers = count()

    def answer(response: bytes) -> None:
        asked = b"GET /u/%d HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n" % next(numbers)
        assert here.request(asked, response + BODY)[1]

    assert linear(hostile_heads.responses, answer) == []


async def test_a_head_of_too_many_lines_is_refused_whatever_its_size(here: RequestPath) -> None:
    begin = b"GET /u/page HTTP/1.1\r\nHost: example.com\r\n"
    most = head_parser.MOST_LINES - begin.count(b"\n") - 1
    assert here.request(begin + b"Xx-Yy: 1\r\n" * most + b"\r\n")[1].startswith(b"HTTP/1.1 200 ")
    for lines in (most + 1, 50 * most):
        assert here.request(begin + b"Xx-Yy: 1\r\n" * lines + b"\r\n")[1].startswith(b"HTTP/1.1 431 ")
    response = b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: a\r\n" * head_parser.MOST_LINES + b"\r\n"
    assert here.request(begin + b"\r\n", response)[1].startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("kind", ["path", "query", "host", "agent", "cookie", "encoding", "control", "type"])
async def test_what_is_remembered_of_clients_texts_is_bounded_in_octets(kind: str, here: RequestPath) -> None:
    def send(number: int) -> None:
        texts = dict.fromkeys(["path", "query", "host", "agent", "cookie", "encoding", "control", "type"], b"1")
        texts[kind] = b"%d" % number + b"x" * 63_000
        asked = (
            b"GET /u/%(path)b?%(query)b HTTP/1.1\r\nHost: %(host)b\r\nUser-Agent: %(agent)b\r\nCookie: %(cookie)b\r\n"
            b"Accept-Encoding: %(encoding)b\r\nCache-Control: max-age=%(control)b\r\nContent-Type: %(type)b\r\n\r\n"
        ) % {name.encode(): value for name, value in texts.items()}
        stored = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nContent-Type: %(type)b\r\nCache-Control: %(control)b\r\n"
        assert here.request(asked, stored % {b"type": texts["type"], b"control": texts["control"]} + b"\r\n" + BODY)[1]

    bound = 8 << 20  # the cache's bound is 1 MB, the journal's 4
    for number in range(20):
        send(number)
    tracemalloc.start()
    try:
        for number in range(20, 420):  # 25 MB
            send(number)
        here.log.settle()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < bound
    finally:
        tracemalloc.stop()


async def test_what_is_logged_of_a_text_is_cut_and_says_so(here: RequestPath) -> None:
    asked = b"GET /u/%b?%b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\n\r\n" % tuple(
        letter * 15_000 for letter in (b"p", b"q", b"h", b"a")
    )
    here.request(asked)
    line = here.log.journal.since(0)[-1][2]
    assert len(line) < 5 * 8192
    for letter, octets in ((b"p", 15_003), (b"q", 15_000), (b"h", 15_000), (b"a", 15_000)):
        assert letter * 8000 in line
        assert b"... (cut: %d bytes in all)" % octets in line
    here.request(b"GET /u/%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"p" * 8100))
    assert b"cut:" not in here.log.journal.since(0)[-1][2]


async def test_requests_sent_ahead_are_handled_a_few_in_each_turn_of_the_loop(here: RequestPath) -> None:
    visitor, transport = here.connect()
    visitor.data_received(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
    turns = 0
    while (answered := len(transport.written)) < 1000:
        turns += 1
        assert answered <= (turns + 1) * TURN
        if turns == 3:
            visitor.data_received(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\nGET /last HTTP/1.1\r\nHost:")  # meanwhile
        await asyncio.sleep(0)
    assert turns >= 1000 // TURN - 1
    while len(transport.written) < 1001:
        await asyncio.sleep(0)
    visitor.data_received(b" b\r\n\r\n")
    await asyncio.sleep(0)
    assert [data[:12] for data in transport.written] == [b"HTTP/1.1 200"] * 1001 + [b"HTTP/1.1 404"]
    visitor.data_received(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
    visitor.connection_lost(None)  # nothing is left to do, and nothing raises
    await asyncio.sleep(0)


def _seconds(feed: Callable[[bytes], None], data: bytes) -> float:
    pieces = [data[at : at + 1] for at in range(len(data))]
    began = time.thread_time()
    for piece in pieces:
        feed(piece)
    return time.thread_time() - began


async def test_a_head_that_comes_octet_by_octet_is_copied_and_searched_once(here: RequestPath) -> None:
    """Four times the octets cost about four times the CPU; where each octet copied all before it, sixteen times."""

    def request(octets: int) -> float:
        visitor, transport = here.connect()
        taken = _seconds(visitor.data_received, b"GET /up HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * octets + b"\r\n\r\n")
        assert transport.written[0].startswith(b"HTTP/1.1 200 ")
        visitor.connection_lost(None)
        return taken

    def response(octets: int) -> float:
        visitor, transport = here.connect()
        visitor.data_received(b"GET /u/a HTTP/1.1\r\nHost: a\r\n\r\n")
        app = here.app
        assert app is not None
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: " + b"a" * octets + b"\r\n\r\n"
        taken = _seconds(partial(deliver, app), head)
        assert transport.written[0].startswith(b"HTTP/1.1 200 ")
        visitor.connection_lost(None)
        return taken

    for of in (request, response):
        assert min(of(240_000) for _ in range(2)) < 9 * min(of(60_000) for _ in range(3))


async def test_a_waiter_leaves_at_the_same_cost_however_many_wait() -> None:
    flights = Coalescing()
    key: Key = (("t", b"h", b"/", None), (b"GET", (), (), ()))
    assert flights.begin(key)
    few = [flights.join(key, lambda again: None) for _ in range(100)]
    cost = calls(few[50].leave)
    many = [flights.join(key, lambda again: None) for _ in range(10_000)]
    assert calls(many[5000].leave) == cost
    landed: list[bool] = []
    last = flights.join(key, landed.append)
    flights.land(key, again=True)
    assert landed == [True]
    last.leave()  # it may come late
