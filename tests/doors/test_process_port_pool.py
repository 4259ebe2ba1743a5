"""Real ports: free, ours alone, and outside of the kernel's range."""

import socket
from pathlib import Path

import pytest

from flyatc.kit.errors import StartFailed
from flyatc.process.ports import CONTESTED, PortPool

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def some_ports(count: int) -> tuple[int, int]:
    """A range in which no one listens now."""
    first = PortPool().take()
    return first, first + count


def test_a_port_is_never_handed_out_twice_and_is_outside_the_kernels_range() -> None:
    ports = PortPool()
    taken = [ports.take() for _ in range(50)]
    assert len(set(taken)) == 50
    low, high = (int(word) for word in EPHEMERAL.read_text().split())
    assert not any(low <= port <= high for port in taken)


def test_a_port_that_was_given_back_rests_until_its_turn_comes() -> None:
    ports = PortPool()
    first = ports.take()
    ports.give_back(first)
    assert ports.take() != first


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("listening", [True, False])
def test_a_port_in_use_is_passed_over(address: str, listening: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((address, PortPool().take()))
        if listening and address == "127.0.0.1":
            other.listen()
        used: int = other.getsockname()[1]
        with pytest.raises(StartFailed, match=rf"no port between {used} and {used} is free"):
            PortPool(used, used + 1).take()


def test_when_all_are_taken_the_start_fails_until_one_is_given_back() -> None:
    first = PortPool().take()
    ports = PortPool(first, first + 1)
    assert ports.take() == first
    with pytest.raises(StartFailed, match=r"lower limits\.running"):
        ports.take()
    ports.give_back(first)
    assert ports.take() == first


def test_a_port_that_a_stranger_has_taken_is_set_aside_for_a_while() -> None:
    now, first = 0.0, PortPool().take()
    ports = PortPool(first, first + 1, clock=lambda: now)
    ports.give_back(ports.take(), contested=True)
    now = CONTESTED - 0.1
    with pytest.raises(StartFailed):
        ports.take()
    now = CONTESTED
    assert ports.take() == first
