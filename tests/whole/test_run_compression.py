"""Compressed responses of a wrapped app: thruster's cases 19 to 24 and 34, with the differences that are meant."""

import gzip
import zlib
from collections.abc import Iterator

import pytest

from whole.visits import Line, Reply, get, request, seen
from whole.wrapped import PARROT_APP, Wrapped, answering, wrapped

HTML = "Content-Type: text/html"
GZIP = "Accept-Encoding: gzip"
COMMENT = 0x10  # a flag of gzip's (RFC 1952 §2.3.1)


def page(size: int = 2000) -> bytes:
    return (b"<p>one line of a page after the other</p>\n" * (size // 40 + 1))[:size]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    with wrapped(tmp_path_factory.mktemp("compression"), *PARROT_APP) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    env = {"GZIP_COMPRESSION_JITTER": "0", "GZIP_COMPRESSION_DISABLE_ON_AUTH": "true"}
    with wrapped(tmp_path_factory.mktemp("guarded"), *PARROT_APP, env=env) as running:
        yield running


def coding(reply: Reply) -> str | None:
    return reply.one("content-encoding")


def test_a_page_is_compressed_and_has_vary(one: Wrapped) -> None:
    """Case 19."""
    reply = get(one, answering(HTML, body=page()), GZIP)
    assert (coding(reply), gzip.decompress(reply.body), reply.one("vary")) == ("gzip", page(), "Accept-Encoding")


def test_a_small_page_is_not(one: Wrapped) -> None:
    """Case 19."""
    reply = get(one, answering(HTML, body=page(1023)), GZIP)
    assert (coding(reply), reply.one("content-length"), reply.body) == (None, "1023", page(1023))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("image/png", None),
        ("image/svg+xml", "gzip"),
        ("video/mp4", None),
        ("application/zip", None),
        ("font/woff2", None),
        ("application/json", "gzip"),
    ],
)
def test_what_is_small_already_is_left_alone(one: Wrapped, kind: str, expected: str | None) -> None:
    """Case 20."""
    reply = get(one, answering(f"Content-Type: {kind}", body=page()), GZIP)
    assert coding(reply) == expected
    assert expected or reply.one("content-length") == "2000"


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip;q=0", None),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br;q=0.5", "gzip"),
        ("gzip, deflate, br", "br"),
    ],
)
def test_the_clients_wishes_count(one: Wrapped, accepted: str, expected: str | None) -> None:
    """Case 21. Brotli and x-gzip (RFC 9110 §8.4.1.3) are differences that are meant."""
    assert coding(get(one, answering(HTML, body=page()), f"Accept-Encoding: {accepted}")) == expected


def test_what_the_app_has_encoded_is_not_touched(one: Wrapped) -> None:
    """Case 21."""
    reply = get(one, answering(HTML, "Content-Encoding: br", body=page()), "Accept-Encoding: gzip, br")
    assert (coding(reply), reply.body) == ("br", page())


def test_head_says_what_get_would(one: Wrapped) -> None:
    """Case 21. That it tells the coding is a difference that is meant (RFC 9110 §9.3.2)."""
    with Line(one) as line:
        reply = line.get(answering(HTML, body=page()), GZIP, method="HEAD")
        assert (coding(reply), reply.one("content-length")) == ("gzip", None)
        assert line.get("/seen").status == 200


def test_the_length_of_a_page_is_blurred(one: Wrapped) -> None:
    """Case 22."""
    body = get(one, answering(HTML, body=page()), GZIP).body
    assert body[3] & COMMENT
    assert 1 <= body.index(b"\0", 10) - 10 <= 32


def test_the_blur_can_be_switched_off(guarded: Wrapped) -> None:
    """Case 22."""
    body = get(guarded, answering(HTML, body=page()), GZIP).body
    assert not body[3] & COMMENT
    assert gzip.decompress(body) == page()


@pytest.mark.parametrize("secret", ["Cookie: a=1", "Authorization: Bearer x", "X-Csrf-Token: x"])
def test_a_logged_in_client_gets_nothing_compressed(one: Wrapped, guarded: Wrapped, secret: str) -> None:
    """Case 23."""
    target = answering(HTML, body=page())
    assert coding(get(guarded, target, GZIP, secret)) is None
    assert coding(get(guarded, target, GZIP)) == "gzip"
    assert coding(get(one, target, GZIP, secret)) == "gzip"


@pytest.mark.parametrize(
    "line", ["Set-Cookie: session=1", "Cache-Control: private", "Cache-Control: no-store", "Vary: Cookie"]
)
def test_nor_is_what_is_meant_for_one_client(one: Wrapped, guarded: Wrapped, line: str) -> None:
    """A difference from thruster that is meant: there this half of the guard does not work, and tells that it is."""
    target = answering(HTML, line, body=page())
    reply = get(guarded, target, GZIP)
    assert (coding(reply), reply.body, reply.all("no-gzip-compression")) == (None, page(), [])
    assert coding(get(one, target, GZIP)) == "gzip"


def test_an_app_may_opt_out(one: Wrapped) -> None:
    reply = get(one, answering(HTML, "No-Gzip-Compression: 1", body=page()), GZIP)
    assert (coding(reply), reply.all("no-gzip-compression")) == (None, [])
    assert coding(get(one, answering(HTML, "Cache-Control: no-transform", body=page()), GZIP)) is None


def test_the_app_hears_of_no_coding_that_the_client_did_not_name(one: Wrapped) -> None:
    """Case 24."""
    assert seen(get(one, "/seen")).all("accept-encoding") == []
    assert seen(get(one, "/seen", "Accept-Encoding: br;q=1")).all("accept-encoding") == ["br;q=1"]


@pytest.mark.parametrize("asked", [(), (GZIP,)])
def test_the_apps_own_vary_is_kept(one: Wrapped, asked: tuple[str, ...]) -> None:
    """A difference from thruster that is meant: there the app's replaces ours."""
    reply = get(one, answering(HTML, "Vary: Accept", body=page()), *asked)
    assert reply.one("vary") == "Accept, Accept-Encoding"


def test_a_strong_etag_is_weakened(one: Wrapped) -> None:
    """A difference from thruster that is meant: the octets are others."""
    assert get(one, answering(HTML, 'ETag: "a"', body=page()), GZIP).one("etag") == 'W/"a"'


def chunk(line: Line) -> bytes:
    size = int(line.until(b"\r\n"), 16)
    data = line.take(size)
    assert line.until(b"\r\n") == b""
    return data


@pytest.mark.parametrize("asked", [(), (GZIP,)])
def test_each_event_arrives_by_itself(one: Wrapped, asked: tuple[str, ...]) -> None:
    """Case 34. The stream ends long after this test's patience."""
    with Line(one) as line:
        line.send(request("/clock?n=1000&pause=0.1", *asked))
        head = line.until(b"\r\n\r\n").lower()
        assert (b"content-encoding: gzip" in head) is bool(asked)
        unzip = zlib.decompressobj(31)
        events = [unzip.decompress(chunk(line)) if asked else chunk(line) for _ in range(3)]
        assert all(event.startswith(b"data: ") and event.count(b"\n\n") == 1 for event in events)


def test_a_compressed_page_is_not_compressed_for_a_client_with_a_cookie(guarded: Wrapped) -> None:
    target = answering(HTML, "Cache-Control: public, max-age=60", body=page())
    reported = [get(guarded, target, GZIP, *more) for more in ((), (), ("Cookie: a=1",), ())]
    assert [coding(reply) for reply in reported] == ["gzip", "gzip", None, "gzip"]
    assert [reply.one("x-cache") for reply in reported] == ["miss", "hit", "hit", "hit"]


def test_a_hit_has_the_same_head_each_time(one: Wrapped) -> None:
    target = answering(HTML, "Cache-Control: public, max-age=60", 'ETag: "a"', body=page())
    for accepted in ("br", "gzip", "identity"):
        found = [get(one, target, f"Accept-Encoding: {accepted}") for _ in range(4)]
        changing = ("x-request-id", "age", "cache-status", "x-cache")
        heads = [[(n, v) for n, v in reply.headers if n.lower() not in changing] for reply in found[1:]]
        assert heads == [heads[0]] * 3
        assert [reply.body for reply in found] == [found[0].body] * 4
        assert len({reply.one("x-request-id") for reply in found}) == 4
