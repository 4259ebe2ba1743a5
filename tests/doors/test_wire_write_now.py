"""Write to a socket at once: the memory may be used again afterwards, whether the socket accepted the bytes or not."""

import asyncio
import socket

import pytest

from flyatc.wire.server import write_now

BODY = bytes(range(256)) * 4096  # a megabyte: more than a socket accepts


async def _read(from_: socket.socket, octets: int) -> bytes:
    loop, found = asyncio.get_running_loop(), bytearray()
    while len(found) < octets:
        found += await loop.sock_recv(from_, 1 << 16)
    return bytes(found)


@pytest.mark.parametrize("before", [b"", b"waits " * 100_000])
async def test_parts_may_change_as_soon_as_they_are_written(before: bytes) -> None:
    """``before``: fills the socket first, so that it accepts no more."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    memory = bytearray(BODY)
    with theirs:
        transport.write(before)
        write_now(transport, b"head ", memoryview(memory))
        assert transport.get_write_buffer_size() > 0, "the socket has accepted all: the test shows nothing"
        memory[:] = bytes(len(memory))
        assert await _read(theirs, len(before) + 5 + len(BODY)) == before + b"head " + BODY
        transport.abort()


async def test_nothing_is_written_to_a_closing_transport() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    with theirs:
        transport.close()
        write_now(transport, b"late", memoryview(BODY))
        assert await asyncio.get_running_loop().sock_recv(theirs, 10) == b""
