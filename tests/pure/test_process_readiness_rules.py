"""The readiness poll: the request, its pauses, and what counts as a response."""

import pytest

from flyatc.kit import local_http
from flyatc.process import readiness
from flyatc.process.listening_sockets import Listener


def test_the_pause_costs_a_start_at_most_five_percent() -> None:
    assert readiness.pause(0) == 0.001
    assert readiness.pause(0.1) == pytest.approx(0.005)
    assert readiness.pause(0.3) == pytest.approx(0.015)
    assert readiness.pause(60) == 0.05


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/up", b"/up"),
        ("up", b"/up"),
        ("/up?a=1&b=%20", b"/up?a=1&b=%20"),
        ("/a b\r\nX: 1", b"/a%20b%0D%0AX:%201"),
        ("/smörgås", b"/sm%C3%B6rg%C3%A5s"),
    ],
)
def test_nothing_can_be_added_to_the_request_by_its_path(path: str, target: bytes) -> None:
    lines = readiness.request(path).split(b"\r\n")
    assert lines[0] == b"GET " + target + b" HTTP/1.1"
    assert lines[1:] == [
        b"Host: 127.0.0.1",
        b"User-Agent: flyatc-readiness",
        b"Accept: */*",
        b"Connection: close",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", None),
        (b"HTTP/1.1 20", None),
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 404\r\n", 404),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n", None),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP", 103),
    ],
)
def test_a_status_is_read_as_soon_as_it_is_there(data: bytes, status: int | None) -> None:
    assert local_http.status_of(data) == status


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"HTTP/2 200\r\n", b"\n", b"HTTP/1.1 2x0 OK\r\n"])
def test_what_is_not_http_is_no_response(data: bytes) -> None:
    with pytest.raises(local_http.InvalidResponse):
        local_http.status_of(data)


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        ([], None),
        ([("0.0.0.0", 8000)], "0.0.0.0:8000 instead: use {port} in the command, or have the app read $PORT"),
        ([("::1", 4000)], "[::1]:4000 instead: have it listen on 127.0.0.1"),
        ([("10.0.0.5", 4000), ("127.0.0.1", 9)], "10.0.0.5:4000, 127.0.0.1:9 instead: have it listen on 127.0.0.1"),
        ([("127.0.0.1", port) for port in range(1, 6)], "127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3 … instead: use {port} "),
    ],
)
def test_for_an_app_that_listens_elsewhere_the_sentence_says_what_to_change(
    listening: list[tuple[str, int]], expected: str | None
) -> None:
    sockets = [Listener(address, port, inode, 0) for inode, (address, port) in enumerate(listening)]
    said = readiness.elsewhere(sockets, 4000)
    if expected is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(f"nothing listens there; it listens on {expected}")
