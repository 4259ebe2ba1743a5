"""Real servers behind the wrapper: Puma and gunicorn, started as a container would: ``flyatc CMD``."""

import gzip
import hashlib
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from whole.daemon import SLOWNESS, eventually
from whole.visits import Line, request
from whole.wrapped import Wrapped, wrapping

APPS = Path(__file__).parent.parent / "apps"
FILE = b"".join(b"line %d of a file\n" % n for n in range(10_000))
COMMANDS = {
    "puma": ("puma", "-C", f"{APPS}/rack/config/puma.rb", f"{APPS}/rack/config.ru"),
    "gunicorn": (
        *(sys.executable, "-m", "gunicorn", "--chdir", str(APPS), "wsgi_app:app"),
        *("--workers", "1", "--threads", "4"),  # one: it counts what it was asked
    ),
}
FAREWELL = {"puma": 143, "gunicorn": 0}  # after SIGTERM: Puma raises the signal again, gunicorn just ends
PUMA = pytest.param("puma", marks=pytest.mark.needs("puma"))


def begun(one: Wrapped, server: str) -> Wrapped:
    (one.folder / "file.txt").write_bytes(FILE)
    one.env["FILES"] = str(one.folder)
    one.env["GUNICORN_CMD_ARGS"] = f"--bind=127.0.0.1:{one.target}"  # by itself it takes PORT at every address
    return one.start(*COMMANDS[server])


@pytest.fixture(scope="module", params=[PUMA, "gunicorn"])
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    with wrapping(tmp_path_factory.mktemp(request.param)) as running:
        yield begun(running, request.param)


def test_the_first_client_waits_for_the_server(one: Wrapped) -> None:
    reported = one.get("/below/echo?a=b").json
    assert (reported["method"], reported["script_name"], reported["path"], reported["query"]) == (
        "GET",
        "",
        "/below/echo",
        "a=b",
    )


def test_pages_are_compressed(one: Wrapped) -> None:
    with Line(one) as line:
        plain, packed = line.get("/page"), line.get("/page", "Accept-Encoding: gzip")
        assert (plain.one("content-encoding"), packed.one("content-encoding")) == (None, "gzip")
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) * 4 < len(plain.body)


def test_the_server_is_asked_once_for_an_asset(one: Wrapped) -> None:
    with Line(one) as line:
        replies = [line.get("/asset", coding) for coding in ("Accept: */*", "Accept: */*", "Accept-Encoding: gzip")]
        assert [reply.one("x-cache") for reply in replies] == ["miss", "hit", "hit"]
        assert replies[0].body == replies[1].body == gzip.decompress(replies[2].body)
        assert line.get("/asset", 'If-None-Match: "abc"').status == 304


def test_the_file_which_the_server_names_is_sent(one: Wrapped) -> None:
    with Line(one) as line:
        whole, part = line.get("/file?name=file.txt"), line.get("/file?name=file.txt", "Range: bytes=100-199")
        assert (whole.status, whole.body, whole.one("x-sendfile")) == (200, FILE, None)
        assert (part.status, part.body) == (206, FILE[100:200])
        assert part.one("content-range") == f"bytes 100-199/{len(FILE)}"
        unchanged = line.get("/file?name=file.txt", f"If-None-Match: {whole.one('etag')}")
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert line.get("/file?name=../../../../../../etc/passwd").status == 404


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_what_is_streamed_comes_as_it_is_made(one: Wrapped, coding: str) -> None:
    def gap() -> float:
        """Seconds from the first bytes of the body to its end. A busy machine can only make it shorter than it was."""
        with Line(one, 30) as line:
            line.send(request("/stream?n=3&pause=0.3", f"Accept-Encoding: {coding}"))  # Puma corks 0.2 s
            line.until(b"\r\n\r\n")
            line.until(b"\r\n")  # the size of the first chunk
            line.take(1)
            first = time.monotonic()
            line.until(b"\r\n0\r\n\r\n")
            return time.monotonic() - first

    assert any(gap() > 0.2 for _ in range(5))


@pytest.mark.parametrize("size", [1, 8_000_000])
def test_uploads_arrive_whole(one: Wrapped, size: int) -> None:
    body = random.Random(7).randbytes(size)
    reported = one.post("/echo", body).json
    assert (reported["method"], reported["length"]) == ("POST", size)
    assert reported["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.needs("puma")
def test_a_websocket_of_puma_is_hijacked_and_echoes(tmp_path: Path) -> None:
    with wrapping(tmp_path) as one:
        begun(one, "puma")
        with connect(f"ws://127.0.0.1:{one.port}/ws", open_timeout=30 * SLOWNESS) as socket:
            for message in ("hello", "€uro", "x" * 100):
                socket.send(message)
                assert socket.recv(30 * SLOWNESS) == message
        assert one.get("/echo").status == 200


@pytest.mark.parametrize("server", [PUMA, "gunicorn"])
def test_at_the_end_responses_in_progress_are_finished(tmp_path: Path, server: str) -> None:
    with wrapping(tmp_path) as one, Line(begun(one, server), 30) as line:
        line.send(request("/stream?n=3&pause=0.2"))
        line.until(b"\r\n\r\n")
        one.signal(signal.SIGTERM)
        assert b"line 2" in line.until(b"\r\n0\r\n\r\n")
        assert one.wait() == FAREWELL[server]
        assert one.reported("app ended", code=FAREWELL[server])


# --- Puma's restarts: signals that reach it ---


def visiting(one: Wrapped, done: threading.Event, seen: list[int]) -> None:
    while not done.is_set():
        seen.append(one.get("/echo").status)


@pytest.mark.needs("puma")
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGUSR2, "0"), (signal.SIGUSR1, "1")])
def test_puma_restarts_and_no_request_fails(tmp_path: Path, number: signal.Signals, workers: str) -> None:
    """USR2: the whole of it, by exec. USR1: its workers, one after the other."""
    with wrapping(tmp_path, env={"WEB_CONCURRENCY": workers}) as one:
        begun(one, "puma")
        before, done, seen = one.get("/echo").json["pid"], threading.Event(), list[int]()
        visitor = threading.Thread(target=visiting, args=(one, done, seen))
        visitor.start()
        try:
            one.signal(number)
            if number == signal.SIGUSR2:
                one.until_said("Use Ctrl-C to stop", times=2)
                assert one.get("/echo").json["pid"] == before == one.app
            else:
                eventually(lambda: one.get("/echo").json["pid"] != before, 30, "another worker")
        finally:
            done.set()
            visitor.join()
        assert set(seen) == {200}
        assert one.stop() == FAREWELL["puma"]
