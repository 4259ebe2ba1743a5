"""The kernel's socket tables: what is parsed, and what is refused."""

import socket

import pytest

from flyatc.process.listening_sockets import Listener, messages, parse_proc

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
V4 = "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0\n"
V6 = "   0: 00000000000000000000000001000000:1F90 " + "0" * 32 + ":0000 0A 0:0 00:0 0  0        0 4712 1 0 100 0\n"


def listener(address: str, *, v6only: bool = False) -> Listener:
    return Listener(address, 1, 1, 0, v6only)


def test_a_line_of_the_table_names_address_port_inode_and_user() -> None:
    assert list(parse_proc(socket.AF_INET, [HEAD, V4.format(state="0A")])) == [Listener("127.0.0.1", 8080, 4711, 1000)]
    assert list(parse_proc(socket.AF_INET6, [HEAD, V6])) == [Listener("::1", 8080, 4712, 0)]
    assert list(parse_proc(socket.AF_INET, [])) == []


def test_reading_ends_with_the_first_socket_that_does_not_listen() -> None:
    lines = iter([HEAD, V4.format(state="0A"), V4.format(state="01"), "never read"])
    assert len(list(parse_proc(socket.AF_INET, lines))) == 1
    assert next(lines) == "never read"


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("127.0.0.2", []),
        ("10.0.0.1", []),
        ("::1", ["::1"]),
        ("::", ["127.0.0.1", "::1"]),
        ("::ffff:127.0.0.1", ["127.0.0.1"]),
        ("fdaa::3", []),
    ],
)
def test_only_sockets_to_which_a_connection_may_come_count(address: str, hosts: list[str]) -> None:
    assert [host for host in ("127.0.0.1", "::1") if listener(address).receives(host)] == hosts


def test_a_socket_for_ipv6_only_takes_no_ipv4() -> None:
    assert not listener("::", v6only=True).receives("127.0.0.1")
    assert listener("::", v6only=True).receives("::1")


@pytest.mark.parametrize("length", [0, 15, 33, 0xFFFFFFFF])
def test_a_message_of_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(OSError, match="cut"):
        messages(length.to_bytes(4, "little") + bytes(28))


def test_messages_are_split_at_four_octets() -> None:
    one = (17).to_bytes(4, "little") + (3).to_bytes(2, "little") + bytes(10) + b"x" + bytes(3)
    assert messages(one + one) == [(3, b"x"), (3, b"x")]
