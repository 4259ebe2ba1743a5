"""Buffers of all connections together are bounded."""

import os
import socket
import time
from typing import Any, cast

import pytest

from flyatc.wire import splice
from flyatc.wire.buffers import FEW, READ, Buffers, Reading

BOUND = 1000


class Client:
    """A connection that holds ``octets``, and whose client has been still for ``seconds``."""

    def __init__(self, octets: int, seconds: float = 1.0) -> None:
        self.octets, self._since = octets, time.monotonic() - seconds

    def held(self) -> int:
        return self.octets

    def still_since(self) -> float:
        return self._since

    def shed(self) -> None:
        self.octets = 0


def buffers(clients: list[Client], warnings: list[str]) -> Buffers:
    return Buffers(clients, lambda: BOUND, warnings.append)


def test_those_that_hold_most_for_longest_are_closed_until_there_is_room() -> None:
    warnings: list[str] = []
    small, slow, stuck, other = Client(100, 20), Client(400, 0.0), Client(400, 20), Client(400, 10)
    buffers([small, slow, stuck, other], warnings).check()
    assert [one.octets for one in (small, slow, stuck, other)] == [100, 400, 0, 0]
    assert warnings == [
        "clients hold too much memory by requests that they do not finish and responses that they do not read: "
        "2 connections were closed (limits.buffers)"
    ]


def test_within_the_bound_nothing_is_closed() -> None:
    clients = [Client(250, 1000) for _ in range(4)]
    buffers(clients, []).check()
    assert all(one.octets for one in clients)


def test_it_is_summed_up_only_if_so_much_was_added_that_it_may_be_too_much() -> None:
    clients = [Client(500), Client(100)]
    one = buffers(clients, [])
    one.check()
    clients[0].octets = 5000
    one.grown(400, clients[1])  # 600 + 400
    assert clients[0].octets == 5000
    one.grown(1, clients[1])
    assert clients[0].octets == 0


def test_the_one_that_adds_is_not_closed_amid_its_own_call() -> None:
    warnings: list[str] = []
    large, other = Client(2000, 100), Client(300, 1)
    one = buffers([large, other], warnings)
    one.grown(2000, large)
    assert (large.octets, other.octets) == (2000, 0)
    one.check()
    assert large.octets == 0
    assert len(warnings) == 1, "one a minute"


def test_a_fault_of_one_connection_does_not_end_the_watch() -> None:
    class Broken(Client):
        def shed(self) -> None:
            raise OSError

    clients: list[Client] = [Broken(2000, 1000)]
    one = buffers(clients, [])
    with pytest.raises(OSError):  # noqa: PT011
        one.check()
    clients[0] = Client(2000)
    one.check()
    assert not clients[0].octets


def test_tunnels_count_too() -> None:
    warnings: list[str] = []
    one, tunnel = buffers([], warnings), Client(2000)
    one.tunnels.add(tunnel)
    one.check()
    assert not tunnel.octets


def test_less_is_read_at_once_while_memory_is_short() -> None:
    """All that is ready is read before the memory of a closed connection is free."""
    client = Client(0)
    one = buffers([client], [])
    one.check()
    assert len(Reading.room) == READ
    one.grown(501, client)
    assert len(Reading.room) == FEW
    one.check()
    assert len(Reading.room) == READ
    client.octets = 501
    one.check()
    assert len(Reading.room) == FEW
    client.octets = 0
    one.check()
    assert len(Reading.room) == READ


class _Transport:
    def __init__(self) -> None:
        self.ends = socket.socketpair()

    def get_extra_info(self, name: str) -> socket.socket:
        return self.ends[0]

    def pause_reading(self) -> None:
        """It does."""


@pytest.mark.skipif(not splice.POSSIBLE, reason="Linux only")
async def test_pipes_become_small_and_then_none_are_left() -> None:
    source, target = _Transport(), _Transport()

    def opened() -> splice.Splice:
        return splice.Splice(
            cast(Any, source), cast(Any, target), b"", 1, patience=0, most=4 << 20, moved=print, ended=print
        )

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    found = [opened() for _ in range(2 + 32)]
    assert splice.Splice.octets == 4 << 20
    with pytest.raises(OSError, match="buffer space"):
        opened()
    for one in found:
        one.stop()
    assert splice.Splice.octets == 0
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    opened().stop()
    for end in (*source.ends, *target.ends):
        end.close()
