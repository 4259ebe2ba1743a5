"""The restless app behaves as documented: all other tests depend on it."""

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from sys import executable

import pytest
import websockets

from flyatc.process.ports import PortPool
from slowness import SLOWNESS

RESTLESS = str(Path(__file__).parents[1] / "apps" / "restless.py")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    port = PortPool().take()
    env = {**os.environ, "PORT": str(port), "DATABASE_PATH": str(tmp_path / "new/rows.sqlite3")}
    with subprocess.Popen([executable, "-I", RESTLESS], env=env, stdout=subprocess.PIPE) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"listening on %d\n" % port
        yield port
        app.terminate()


def raw(port: int, *sent: bytes) -> bytes:
    """All that comes back; each part after the first is sent when something has been answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=20 * SLOWNESS) as sock:
        sock.sendall(sent[0])
        answer = b""
        for part in sent[1:]:
            answer += sock.recv(65536)
            sock.sendall(part)
        while more := sock.recv(65536):
            answer += more
        return answer


def ask(port: int, path: str, method: str = "GET", body: bytes = b"", head: str = "") -> tuple[str, bytes]:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}{length}\r\n".encode() + body
    first, _, rest = raw(port, request).partition(b"\r\n\r\n")
    return first.decode(), rest


def test_it_reports_the_request_it_got(port: int) -> None:
    _, body = ask(port, "/any/prefix/echo?a=1&env=PORT", "PUT", b"hello", "X-One: 1\r\nx-one: 2\r\n")
    seen = json.loads(body)
    assert (seen["method"], seen["path"]) == ("PUT", "/any/prefix/echo?a=1&env=PORT")
    assert seen["query"] == [["a", "1"], ["env", "PORT"]]
    assert [h[0] for h in seen["headers"]] == ["Host", "Connection", "X-One", "x-one", "Content-Length"]
    assert (seen["length"], seen["sha256"]) == (5, hashlib.sha256(b"hello").hexdigest())
    assert seen["env"] == {"PORT": str(port)}


def test_it_counts_the_rows_it_inserts(port: int) -> None:
    assert [ask(port, "/add", "POST")[1], ask(port, "/x/add", "POST")[1]] == [b'{"count": 1}', b'{"count": 2}']
    assert ask(port, "/count")[1] == b'{"count": 2}'


@pytest.mark.parametrize(
    ("path", "first", "last"),
    [
        ("/up", "HTTP/1.1 200 OK", b"up"),
        ("/nothing", "HTTP/1.1 404 Not Found", b"nothing here"),
        ("/slow?s=0.01", "HTTP/1.1 200 OK", b"slow"),
        ("/bytes?n=70000", "HTTP/1.1 200 OK", b"x" * 70000),
        ("/chunked?n=2&size=3&trailers=1", "HTTP/1.1 200 OK", b"3\r\nxxx\r\n3\r\nxxx\r\n0\r\nX-Trailer: last\r\n\r\n"),
        ("/chunked?n=1&size=16", "HTTP/1.1 200 OK", b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"),
        ("/sse?n=1", "HTTP/1.1 200 OK", b"15\r\nid: 0\ndata: event 0\n\n\r\n0\r\n\r\n"),
        ("/close-delimited?n=5", "HTTP/1.1 200 OK", b"xxxxx"),
        ("/die-mid-answer", "HTTP/1.1 200 OK", b"x" * 500),
        ("/status?code=404", "HTTP/1.1 404 Not Found", b"status 404\n"),
        ("/no-content", "HTTP/1.1 204 No Content", b""),
        ("/not-modified", "HTTP/1.1 304 Not Modified", b""),
        ("/upgrade", "HTTP/1.1 426 Status", b"only WebSockets here"),
        ("/upgrade?refuse=1", "HTTP/1.1 403 Status", b"refused"),
        ("/bad-framing?kind=short", "HTTP/1.1 200 OK", b"hello"),
        ("/die", "", b""),
    ],
)
def test_its_responses_are_as_promised(port: int, path: str, first: str, last: bytes) -> None:
    head, body = ask(port, path)
    assert head.split("\r\n")[0] == first
    assert body == last


def test_it_sets_the_headers_of_the_request(port: int) -> None:
    head, _ = ask(port, "/headers?set=X-A:1&set=X-A:%202&set=Cache-Control:no-store")
    assert head.split("\r\n")[3:] == ["X-A: 1", "X-A: 2", "Cache-Control: no-store", "Connection: close"]


def test_hints_come_before_the_response(port: int) -> None:
    head, rest = ask(port, "/early-hints")
    assert head.startswith("HTTP/1.1 103 Early Hints\r\nLink: ")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_connection_is_kept_and_requests_may_follow_each_other_at_once(port: int) -> None:
    answer = raw(
        port,
        b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n"
        b"HEAD /bytes?n=9 HTTP/1.1\r\n\r\nGET /up HTTP/1.1\r\nConnection: close\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert b"Content-Length: 9\r\n\r\nHTTP/1.1" in answer


def test_a_body_is_asked_for_or_refused_unread(port: int) -> None:
    head = b"POST /continue?early=%s HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    answer = raw(port, head % b"", b"hello")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b'"length": 5' in answer
    refused = raw(port, head % b"417")
    assert refused.startswith(b"HTTP/1.1 417 ")
    assert b"100 Continue" not in refused


def test_an_upload_is_read_and_weighed(port: int) -> None:
    data = os.urandom(50_000)
    assert json.loads(ask(port, "/upload?rate=500000", "POST", data)[1]) == {
        "length": 50_000,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ("both", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("lengths", b"Content-Length: 5\r\nContent-Length: 6"),
        ("chunk", b"XYZ"),
        ("fold", b"one\r\n two"),
        ("status", b"HTTP/1.1 2x0"),
    ],
)
def test_its_bad_responses_are_bad(port: int, kind: str, sign: bytes) -> None:
    assert sign in raw(port, f"GET /bad-framing?kind={kind} HTTP/1.1\r\n\r\n".encode())


async def test_it_speaks_with_a_real_websocket_client(port: int) -> None:
    address = f"ws://127.0.0.1:{port}/u/a/upgrade?frames=1"
    async with websockets.connect(address, subprotocols=[websockets.Subprotocol("chat")], proxy=None) as socket_:
        assert socket_.subprotocol == "chat"
        for message in ("short", "x" * 1000, b"\x00" * 70_000):
            await socket_.send(message)
            assert await socket_.recv() == message
        await (await socket_.ping())


def test_after_an_upgrade_bytes_come_back_as_they_are(port: int) -> None:
    head = b"GET /upgrade HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20 * SLOWNESS) as sock:
        sock.sendall(head)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(65536)
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer  # the example of RFC 6455 1.3
        sock.sendall(b"\x00\xff any bytes")
        assert sock.recv(100) == b"\x00\xff any bytes"


def test_its_help_lists_all_its_paths() -> None:
    reported = subprocess.run([executable, "-I", RESTLESS, "--help"], capture_output=True, text=True, check=True).stdout
    assert "/die-mid-answer" in reported
    assert "--fork-child" in reported
