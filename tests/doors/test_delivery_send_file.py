"""Sending files to clients: real sockets, both loops, real files (large ones are sparse)."""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import time

import pytest
import uvloop

from flyatc.config.schema import Limits
from flyatc.delivery.files import file_response, send_file
from flyatc.delivery.files.open_file import Roots, open_below
from flyatc.kit import tasks
from flyatc.wire import server
from flyatc.wire.connection import Connection
from slowness import SLOWNESS

MB = 1 << 20
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
both_loops = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])


def run(loop: Callable[[], asyncio.AbstractEventLoop], story: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story)


class House:
    """Answers every request with a file. ``ends``: what became of each answer; ``before``: sent ahead of each."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.path, self.timeout = path, timeout
        self.before = b""
        self.ends: asyncio.Queue[str | None] = asyncio.Queue()
        self.requests: list[server.Request] = []
        self.server = server.Server(self.handle, lambda *_: b"", Limits())
        self.address: tuple[str, int] = ("", 0)

    def handle(self, request: server.Request) -> None:
        self.requests.append(request)
        file = open_below(bytes(self.path), Roots([bytes(self.path.parent)]))
        answer = file_response.build(file, request.head, [], status=200, now=time())
        start = b"HTTP/1.1 %d Fine" % answer.status
        if self.before:
            request.send_interim(self.before)

        def ended(reason: str | None) -> None:
            if reason is None:
                request.end_response()
            self.ends.put_nowait(reason)

        transport = request.transport
        head = b"".join([start, *answer.lines, b"\r\n\r\n"])
        send_file.send(request, transport, head, answer, timeout=self.timeout, ended=ended)

    async def ended(self) -> str | None:
        return await asyncio.wait_for(self.ends.get(), 20 * SLOWNESS)


@asynccontextmanager
async def house(path: Path, timeout: float = 0.0) -> AsyncIterator[House]:
    """While it stands; at its end, no descriptor may be left."""
    one = House(path, timeout)
    before = descriptors()
    listening = await asyncio.get_running_loop().create_server(partial(Connection, one.server), "127.0.0.1", 0)
    one.address = listening.sockets[0].getsockname()
    try:
        yield one
    finally:
        one.server.abort()
        listening.close()
        await listening.wait_closed()
        await until(lambda: descriptors() == before)


def descriptors() -> int:
    """Open sockets and files of ours; a loop opens others when it likes."""
    links = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are enough
        with suppress(FileNotFoundError):  # the folder's own
            links.append(os.readlink(f"/proc/self/fd/{name}"))  # noqa: PTH115
    return sum(link.startswith("socket:") or "file.bin" in link for link in links)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5 * SLOWNESS):
        while not check():
            await asyncio.sleep(0.005)


def sparse(place: Path, size: int, marks: dict[int, bytes] | None = None) -> Path:
    path = place / "file.bin"
    with path.open("wb") as file:
        file.truncate(size)
        for at, mark in (marks or {}).items():
            file.seek(at)
            file.write(mark)
    return path


async def visitor(address: tuple[str, int], room: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """``room``: octets of the receive buffer."""
    sock = socket.socket()
    if room:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    return await asyncio.open_connection(sock=sock, limit=room or MB)


def ask(*lines: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode()


async def head_of(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Status and Content-Length."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20 * SLOWNESS)
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    return int(head[9:12]), int(length[1])


async def rest(reader: asyncio.StreamReader) -> int:
    """How much comes until the end, which may be a hard one."""
    count = 0
    with suppress(ConnectionResetError):
        while data := await asyncio.wait_for(reader.read(MB), 20 * SLOWNESS):
            count += len(data)
    return count


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@both_loops
@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3 * MB + 1])
def test_a_connection_goes_on_after_a_file_of_any_size(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, size: int
) -> None:
    body = os.urandom(size)
    (tmp_path / "file.bin").write_bytes(body)

    async def story() -> None:
        async with house(tmp_path / "file.bin") as one:
            reader, writer = await visitor(one.address)
            for _ in range(3):
                writer.write(ask())
                assert await head_of(reader) == (200, size)
                assert await reader.readexactly(size) == body
                assert await one.ended() is None
            assert len(one.server.connections) == 1
            assert all(request.sent > size for request in one.requests)
            await leave(writer)

    run(loop, story())


@both_loops
def test_requests_sent_ahead_are_answered_in_their_order(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    path = sparse(tmp_path, 2 * MB, {0: b"first", 2 * MB - 4: b"last"})
    ranges = ["bytes=0-4", "bytes=0-", "bytes=-4", "bytes=1-1000000, 1048576-"]

    async def story() -> None:
        async with house(path) as one:
            reader, writer = await visitor(one.address)
            writer.write(b"".join(ask(f"Range: {value}") for value in ranges))
            bodies = [await reader.readexactly((await head_of(reader))[1]) for _ in ranges]
            whole = path.read_bytes()
            assert bodies[:3] == [b"first", whole, b"last"]
            pieces = bodies[3].split(b"\r\n\r\n")
            assert pieces[1].startswith(whole[1:1000001] + b"\r\n--")
            assert pieces[2].startswith(whole[1048576:] + b"\r\n--")
            await leave(writer)

    run(loop, story())


@both_loops
def test_what_the_transport_still_holds_goes_first(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    path = sparse(tmp_path, MB, {0: b"first"})

    async def story() -> None:
        async with house(path) as one:
            one.before = b"x" * (8 * MB)
            reader, writer = await visitor(one.address)
            for _ in range(2):
                writer.write(ask())
                assert await reader.readexactly(8 * MB) == one.before
                assert await head_of(reader) == (200, MB)
                assert (await reader.readexactly(MB))[:6] == b"first\0"
                assert await one.ended() is None
            await leave(writer)

    run(loop, story())


@both_loops
def test_a_fast_client_gets_no_more_than_its_turn_at_once(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """Others are served between two turns, and no turn is larger than it should be."""
    path = sparse(tmp_path, 200 * MB)

    async def story() -> None:
        async with house(path) as one:
            reader, writer = await visitor(one.address)
            steps: list[int] = []

            async def watch() -> None:
                while one.ends.empty():
                    if one.requests:
                        steps.append(one.requests[0].sent)
                    await asyncio.sleep(0)

            watching = tasks.start(watch(), "watch")
            writer.write(ask())
            _, left = await head_of(reader)
            assert left == 200 * MB
            while left:
                left -= len(await reader.read(MB))
            await watching
            assert await one.ended() is None
            assert max(after - before for before, after in pairwise(steps)) <= send_file.TURN + 1024
            await leave(writer)

    run(loop, story())


@both_loops
def test_a_slow_client_costs_no_memory(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    path = sparse(tmp_path, 200 * MB)

    async def story() -> None:
        async with house(path, timeout=10) as one:
            before = memory()
            crowd = [await visitor(one.address, 4096) for _ in range(20)]
            for _, writer in crowd:
                writer.write(ask())
            await until(lambda: len(one.requests) == 20 and all(request.sent for request in one.requests))
            for reader, _ in crowd:
                assert (await head_of(reader))[1] == 200 * MB
                await reader.readexactly(20000)
            assert memory() - before < 16 * MB
            assert one.ends.empty()
            for _, writer in crowd:
                await leave(writer)
            assert {await one.ended() for _ in crowd} == {"the client left"}

    run(loop, story())


def memory() -> int:
    """Octets that are ours alone: pages of files do not count."""
    match = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


@both_loops
@pytest.mark.parametrize("how", ["orderly", "reset"])
def test_a_client_that_leaves_ends_it(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, how: str) -> None:
    path = sparse(tmp_path, 50 * MB)

    async def story() -> None:
        async with house(path) as one:
            reader, writer = await visitor(one.address, 4096)
            writer.write(ask())
            await head_of(reader)
            if how == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
            assert await one.ended() == "the client left"
            await until(lambda: not one.server.connections)
            assert one.ends.empty()

    run(loop, story())


@both_loops
def test_a_client_that_takes_nothing_is_given_up(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    path = sparse(tmp_path, 50 * MB)

    async def story() -> None:
        async with house(path, timeout=0.1) as one:
            reader, writer = await visitor(one.address, 4096)
            writer.write(ask())
            assert await one.ended() == "the client took nothing for 0.1 s"
            await until(lambda: not one.server.connections)
            assert await rest(reader) < 50 * MB
            await leave(writer)

    run(loop, story())


@both_loops
def test_a_client_that_takes_a_little_now_and_then_is_not_given_up(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """Long before a full socket takes anything again, its queue gets shorter."""
    path = sparse(tmp_path, 50 * MB)

    async def story() -> None:
        async with house(path, timeout=0.5) as one:
            reader, writer = await visitor(one.address, 65536)
            writer.write(ask())
            loop_ = asyncio.get_running_loop()
            end = loop_.time() + 1.3  # well beyond two limits
            await until(lambda: bool(one.requests))
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20 * SLOWNESS)
            while loop_.time() < end:
                await reader.read(16384)
                await asyncio.sleep(0.01)
            assert one.ends.empty()
            await leave(writer)

    run(loop, story())


@both_loops
@pytest.mark.parametrize("left", [0, 30 * MB])
def test_a_file_which_shrinks_on_the_way_is_cut_and_never_passed_for_whole(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, left: int
) -> None:
    path = sparse(tmp_path, 50 * MB)

    async def story() -> None:
        async with house(path) as one:
            reader, writer = await visitor(one.address, 4096)
            writer.write(ask())
            _, length = await head_of(reader)
            os.truncate(path, left)
            assert await rest(reader) < length
            assert await one.ended() == "the file has shrunk while it was sent"
            await leave(writer)

    run(loop, story())


@both_loops
def test_a_file_which_is_replaced_on_the_way_is_sent_as_it_was(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    path = sparse(tmp_path, 20 * MB, {20 * MB - 3: b"end"})

    async def story() -> None:
        async with house(path) as one:
            reader, writer = await visitor(one.address, 65536)
            writer.write(ask())
            _, length = await head_of(reader)
            (tmp_path / "new").write_bytes(b"new")
            (tmp_path / "new").rename(path)
            left, tail = length, b""
            while left:
                data = await reader.read(MB)
                left, tail = left - len(data), data
            assert tail.endswith(b"end")
            writer.write(ask())
            assert await head_of(reader) == (200, 3)
            assert await reader.readexactly(3) == b"new"
            await leave(writer)

    run(loop, story())


@both_loops
def test_the_end_of_the_daemon_ends_it(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    path = sparse(tmp_path, 50 * MB)

    async def story() -> None:
        async with house(path) as one:
            reader, writer = await visitor(one.address, 4096)
            writer.write(ask())
            await head_of(reader)
            one.server.close_idle()
            assert one.ends.empty()
            one.server.abort()
            assert await one.ended() == "the client left"
            await leave(writer)

    run(loop, story())
