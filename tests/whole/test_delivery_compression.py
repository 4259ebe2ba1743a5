"""Compressed responses, to raw clients of the daemon."""

import contextlib
import gzip
import threading
import time
import zlib
from collections.abc import Iterator

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard

from whole.daemon import SLOWNESS, Daemon, eventually
from whole.test_edge_streams import MOST, memory
from whole.visits import Line, Reply, ask, get, parrot, request, say, serving

PAGE = b"".join(b"<p>paragraph %d of a page</p>\n" % n for n in range(1000))
GZIP = "Accept-Encoding: gzip"
USERS = "users: {ann: null, off: {delivery: {compression: {enabled: false}}}}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("compression"), parrot(users=USERS)) as one:
        yield one


def sized(body: bytes, *more: bytes) -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"Content-Type: text/html", b"Content-Length: %d" % len(body), *more)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunks(*pieces: bytes, trailers: bytes = b"") -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n%b\r\n" % trailers]


def reported(daemon: Daemon, answer: list[bytes], *headers: str, version: str = "1.1", method: str = "GET") -> Reply:
    """Return what becomes of the app's answer."""
    return ask(daemon, request(say(*answer), *headers, version=version, method=method))


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip, br, zstd", "zstd")]
)
def test_a_page_goes_out_in_the_coding_that_the_client_takes(daemon: Daemon, accepted: str, coding: str) -> None:
    reply = reported(daemon, [sized(PAGE[:20_000])], f"Accept-Encoding: {accepted}")
    assert (reply.one("content-encoding"), reply.one("vary")) == (coding, "Accept-Encoding")
    assert int(reply.one("content-length") or 0) == len(reply.body) < 5000
    body = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": unpacked}[coding](reply.body)
    assert body == PAGE[:20_000]


def unpacked(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data)


def test_without_accept_encoding_it_is_sent_as_it_is_with_vary(daemon: Daemon) -> None:
    reply = reported(daemon, [sized(PAGE[:20_000])])
    assert reply.body == PAGE[:20_000]
    assert reply.one("content-encoding") is None
    assert reply.one("vary") == "Accept-Encoding"


def test_a_tenant_may_switch_it_off(daemon: Daemon) -> None:
    reply = ask(daemon, request(say(sized(PAGE[:20_000])).replace("/ann/", "/off/"), GZIP))
    assert reply.body == PAGE[:20_000]
    assert reply.one("vary") is None


def test_a_strong_etag_is_weakened(daemon: Daemon) -> None:
    assert reported(daemon, [sized(PAGE[:2000], b'ETag: "a"')], GZIP).one("etag") == 'W/"a"'


def test_head_says_what_get_would(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.get(say(sized(PAGE[:20_000]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"), GZIP, method="HEAD")
        assert (reply.one("content-encoding"), reply.one("content-length")) == ("gzip", None)
        assert line.get("/ann/seen").status == 200


def test_each_piece_of_unknown_length_arrives_at_once(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request(say(*chunks(b"first ", b"second ", b"third"), more="&pause=0.3"), GZIP))
        assert b"content-encoding: gzip" in line.until(b"\r\n\r\n").lower()
        unzip, began = zlib.decompressobj(31), time.monotonic()
        assert unzip.decompress(line.take(int(line.until(b"\r\n"), 16))) == b"first "
        assert time.monotonic() - began < 0.5 * SLOWNESS
        rest = b""
        line.until(b"\r\n")
        while size := int(line.until(b"\r\n"), 16):
            rest += unzip.decompress(line.take(size))
            line.until(b"\r\n")
        assert rest == b"second third"
        assert unzip.eof


def test_a_client_of_http_1_0_gets_it_until_the_end_of_the_connection(daemon: Daemon) -> None:
    reply = reported(daemon, chunks(b"first ", b"second"), GZIP, version="1.0")
    assert reply.one("transfer-encoding") is None
    assert reply.one("connection") == "close"
    assert gzip.decompress(reply.body) == b"first second"


def test_trailers_come_after_the_encoded_body(daemon: Daemon) -> None:
    reply = reported(daemon, chunks(b"first ", b"second", trailers=b"X-Last: yes\r\nContent-MD5: x\r\n"), GZIP)
    assert gzip.decompress(reply.body) == b"first second"
    assert reply.trailers == [("X-Last", "yes")]


@pytest.mark.parametrize("accepted", ["gzip", "br", "zstd"])
def test_a_large_page_comes_whole_in_bounded_memory(daemon: Daemon, accepted: str) -> None:
    with Line(daemon, 30) as line:
        line.send(request("/ann/write?mb=60", f"Accept-Encoding: {accepted}"))
        assert f"content-encoding: {accepted}".encode() in line.until(b"\r\n\r\n").lower()
        threading.Event().wait(0.5)  # a visitor who takes nothing at first
        assert memory(daemon) < MOST
        packed = bytearray()
        while size := int(line.until(b"\r\n"), 16):
            packed += line.take(size)
            line.until(b"\r\n")
        assert line.until(b"\r\n") == b""
        assert len({"gzip": gzip.decompress, "br": brotli.decompress, "zstd": unpacked}[accepted](packed)) == 60 << 20
        assert memory(daemon, "VmHWM") < MOST
        assert line.get("/ann/seen").status == 200


def test_others_are_served_while_a_large_page_is_encoded(daemon: Daemon) -> None:
    with Line(daemon, 30) as one, Line(daemon) as other:
        one.send(request("/ann/write?mb=30", "Accept-Encoding: br"))
        one.until(b"\r\n\r\n")
        began = time.monotonic()
        for _ in range(5):
            assert other.get("/ann/seen").status == 200
        assert time.monotonic() - began < 2 * SLOWNESS


def test_an_app_that_breaks_off_cuts_the_encoded_response_too(daemon: Daemon) -> None:
    reply = ask(daemon, request(say(sized(PAGE)[:5000], more="&close=1"), GZIP))
    assert not reply.complete


def test_a_client_that_leaves_amid_slices_harms_no_other(daemon: Daemon) -> None:
    with Line(daemon, 30) as line:
        line.send(request("/ann/write?mb=30", "Accept-Encoding: br"))
        line.until(b"\r\n\r\n")
    assert get(daemon, "/ann/seen").status == 200


def test_streams_that_stay_open_are_compressed_only_while_memory_for_it_is_left(daemon: Daemon) -> None:
    """An encoder of brotli takes 3 MB; clients that let a thousand streams stay open could take 3 GB."""
    event = chunks(PAGE[:2000])[:2]  # its end never comes

    def opened(lines: contextlib.ExitStack) -> str | None:
        line = lines.enter_context(Line(daemon))
        line.send(request(say(*event), "Accept-Encoding: br"))
        head = line.until(b"\r\n\r\n").lower()
        line.until(b"\r\n")
        return "br" if b"content-encoding: br" in head else None

    with contextlib.ExitStack() as lines:
        codings = [opened(lines) for _ in range(40)]
    first = codings.index(None)
    assert 15 < first < 30
    assert codings[first:] == [None] * (40 - first)
    assert reported(daemon, [sized(PAGE[:20_000])], "Accept-Encoding: br").one("content-encoding") == "br"

    def again() -> bool:
        with contextlib.ExitStack() as lines:
            return opened(lines) == "br"

    eventually(again, what="the memory of the closed streams")
