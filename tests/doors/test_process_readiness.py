"""Real sockets: what counts as a response, and what is polled again."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
import uvloop

from flyatc.kit import tasks
from flyatc.process.ports import PortPool
from flyatc.process.readiness import answering
from slowness import SLOWNESS

Answer = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def app(answer: Answer) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Its port, and the heads that it was asked; ``answer`` is reported how many there were before."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head)
            await answer(len(asked) - 1, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"401 Unauthorized", b"404 Not Found"])
async def test_any_status_below_500_is_a_response(status: bytes) -> None:
    async def answer(_: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    async with app(answer) as (port, asked):
        await answering(port, "/up")
        assert asked[0].startswith(b"GET /up HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: flyatc-readiness\r\n")
        assert len(asked) == 1


class LoopWithoutLookups(uvloop.Loop):
    async def getaddrinfo(self, *address: object, **options: object) -> NoReturn:
        raise AssertionError(address)


def test_a_try_looks_up_no_address_and_waits_for_a_connection_that_is_not_made_at_once() -> None:
    """uvloop looks up addresses in threads. The backlog is full: a second later the kernel tries again."""

    async def wait(server: socket.socket) -> None:
        trying = tasks.start(answering(server.getsockname()[1], None, one_try=30 * SLOWNESS), "a try")
        await asyncio.sleep(0.05)
        assert not trying.done()
        server.accept()[0].close()
        await trying

    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.create_connection(server.getsockname()),
        asyncio.Runner(loop_factory=LoopWithoutLookups) as runner,
    ):
        runner.run(wait(server))


async def fail_in_each_way(times: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A fault, silence, garbage, a closed connection; then the app is ready."""
    if times == 0:
        writer.write(b"HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\n\r\n")
    elif times == 1:
        await reader.read()  # silent until the other side gives up
    elif times == 2:
        writer.write(b"\x00\xff garbage\r\n" * 10)
    elif times > 3:
        writer.write(b"HTTP/1.0 204 No Content\r\n\r\n")


async def test_a_fault_silence_garbage_and_a_closed_connection_are_polled_again() -> None:
    async with app(fail_in_each_way) as (port, asked):
        await answering(port, "/up", one_try=0.1)
        assert len(asked) >= 5


async def test_each_failed_try_says_what_it_saw() -> None:
    seen: list[str] = []
    async with app(fail_in_each_way) as (port, asked):
        await answering(port, "/up", one_try=0.1 * SLOWNESS, host="example.com", tell=seen.append)
        assert asked[0].startswith(b"GET /up HTTP/1.1\r\nHost: example.com\r\n")
    assert seen[0] == "HTTP 503"
    assert seen[1].startswith("no response within 0.")
    assert seen[2:] == ["the response is not HTTP/1", "the response has no complete head"]


async def test_a_response_in_pieces_after_an_interim_one_is_understood() -> None:
    async def answer(times: int, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = b"500" if times == 0 else b"200"
        pieces = (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n", b"\r\nHTT", b"P/1.1 " + status, b" Status\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with app(answer) as (port, asked):
        await answering(port, "/up")
        assert len(asked) == 2


async def test_without_a_path_a_connection_is_enough() -> None:
    async def answer(_: int, __: asyncio.StreamReader, ___: asyncio.StreamWriter) -> None: ...

    async with app(answer) as (port, asked):
        await answering(port, None)
        assert asked == []


async def test_a_closed_port_is_waited_for() -> None:
    seen: list[str] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await answering(PortPool().take(), None, tell=seen.append)
    assert seen
    assert set(seen) == {"nothing listens there; an app must listen on 127.0.0.1, at the port $PORT"}
