"""Tests of which responses are compressed, and their heads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.config.schema_sections import Compression as Settings
from flyatc.delivery import compression
from flyatc.delivery.compression import Plan, wanted
from flyatc.wire import head, head_parser
from flyatc.wire.errors import BadMessage

DEFAULT = Settings()
GUARDED = Settings(disable_on_auth=True)
ANY = b"Accept-Encoding: gzip, deflate, br, zstd"
GZIP = b"Accept-Encoding: gzip"
HTML = b"Content-Type: text/html; charset=utf-8"
LONG = b"Content-Length: 2000"
SMALLER = """
text/html text/plain text/css text/csv text/event-stream TEXT/HTML application/json application/ld+json application/xml
application/xhtml+xml application/javascript application/wasm application/manifest+json application/x-ndjson
application/vnd.api+json application/graphql-response+json application/vnd.apple.mpegurl application/x-tar
application/vnd.ms-fontobject application/vnd.sqlite3 image/svg+xml image/x-icon image/vnd.microsoft.icon image/bmp
font/ttf font/otf model/gltf-binary message/rfc822 multipart/mixed text/xzy application/vnd.turbo-stream.html
"""
NO_SMALLER = """
image/png image/jpeg image/gif image/webp image/avif image/heic image/apng image/jxl video/mp4 audio/mpeg
application/zip application/gzip application/x-gzip application/x-bzip2 application/x-7z-compressed application/zstd
application/x-xz application/x-lzma application/vnd.rar application/x-rar-compressed application/x-rar
application/epub+zip application/java-archive application/vnd.android.package-archive font/woff font/woff2
application/font-woff application/font-woff2 application/x-font-woff application/pdf application/octet-stream
application/vnd.openxmlformats-officedocument.wordprocessingml.document
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet application/vnd.oasis.opendocument.text
application/vnd.debian.binary-package application/x-debian-package application/x-rpm application/x-iso9660-image
application/grpc application/grpc+proto multipart/byteranges multipart/x-mixed-replace video/mp2t IMAGE/PNG
nonsense
"""


def asked(*lines: bytes, method: bytes = b"GET") -> head.RequestHead:
    return head_parser.RequestParser().parse(b"\r\n".join([method + b" / HTTP/1.1", b"Host: a", *lines, b"", b""]))


def answered(*lines: bytes, status: bytes = b"200 OK", method: bytes = b"GET") -> head.ResponseHead:
    return head_parser.ResponseParser().parse(b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]), method)


def after(plan: Plan | None, answer: head.ResponseHead) -> list[bytes]:
    assert plan is not None
    plan.apply(answer)
    block = b"".join(answer.kept)
    assert not block or block.startswith(b"\r\n")
    return block.split(b"\r\n")[1:]


def coding(*answer: bytes, request: tuple[bytes, ...] = (GZIP,), settings: Settings = DEFAULT) -> str | None:
    plan = wanted(asked(*request), answered(*answer), settings)
    return plan.coding if plan else None


# --- thruster's cases 19 to 24 ---


def test_a_page_of_2000_octets_is_compressed_and_one_of_1023_is_not() -> None:
    answer = answered(HTML, LONG, b"Accept-Ranges: bytes")
    plan = wanted(asked(GZIP), answer, DEFAULT)
    assert plan == Plan("gzip", "the client accepts gzip", flushes=False, weak=True)
    assert after(plan, answer) == [HTML, b"Vary: Accept-Encoding", b"Content-Encoding: gzip"]
    assert answer.one(b"content-length") is None
    assert wanted(asked(GZIP), answered(HTML, b"Content-Length: 1023"), DEFAULT) is None  # for no one, so without Vary


@pytest.mark.parametrize(
    "kind",
    SMALLER.split(),
)
def test_kinds_that_become_smaller_are_compressed(kind: str) -> None:
    assert compression.compressible(kind.encode())
    assert compression.compressible(kind.encode() + b" ; charset=utf-8; x=application/zip")


@pytest.mark.parametrize(
    "kind",
    NO_SMALLER.split(),
)
def test_kinds_that_are_compressed_already_are_left_alone(kind: str) -> None:
    assert wanted(asked(ANY), answered(b"Content-Type: " + kind.encode(), LONG), DEFAULT) is None


def test_a_response_of_unknown_kind_is_left_alone() -> None:
    assert wanted(asked(ANY), answered(LONG), DEFAULT) is None
    assert wanted(asked(ANY), answered(b"Content-Type:", LONG), DEFAULT) is None


@pytest.mark.parametrize("encoding", [b"br", b"gzip", b"identity", b""])
def test_what_the_app_has_encoded_itself_is_left_alone(encoding: bytes) -> None:
    answer = answered(HTML, LONG, b"content-encoding: " + encoding, b'ETag: "a"')
    plan = wanted(asked(ANY), answer, DEFAULT)
    assert plan is not None
    assert plan.coding is None
    assert after(plan, answer) == [
        HTML, LONG, b"content-encoding: " + encoding, b'ETag: "a"', b"Vary: Accept-Encoding",
    ]  # fmt: skip


def test_a_refused_coding_is_not_used() -> None:
    assert coding(HTML, LONG, request=(b"Accept-Encoding: gzip;q=0",)) is None
    assert coding(HTML, LONG, request=(GZIP, b"accept-encoding: gzip;q=0")) is None
    assert coding(HTML, LONG, request=()) is None


def test_switched_off_nothing_is_done_not_even_vary() -> None:
    assert wanted(asked(ANY), answered(HTML, LONG), Settings(enabled=False)) is None


@pytest.mark.parametrize("line", [b"Cookie: a=b", b"Authorization: Basic eA==", b"X-CSRF-Token: x", b"cookie: a"])
def test_a_logged_in_client_gets_no_compression_where_that_is_wanted(line: bytes) -> None:
    assert coding(HTML, LONG, request=(GZIP, line), settings=GUARDED) is None
    assert coding(HTML, LONG, request=(GZIP, line)) == "gzip"
    assert coding(HTML, LONG, settings=GUARDED) == "gzip"


@pytest.mark.parametrize(
    "line",
    [
        b"Set-Cookie: a=b", b"Cache-Control: private", b"cache-control: max-age=0, Private", b"Cache-Control: no-store",
        b'Cache-Control: private="x"', b"Vary: Accept, Cookie", b"vary: COOKIE",
    ],
)  # fmt: skip
def test_a_response_for_one_client_is_not_compressed_where_that_is_wanted(line: bytes) -> None:
    assert coding(HTML, LONG, line, settings=GUARDED) is None
    assert coding(HTML, LONG, line) == "gzip"


@pytest.mark.parametrize("line", [b"Cache-Control: public, max-age=60", b"Vary: Accept", b"X-Set-Cookie: a"])
def test_a_public_response_is_compressed_all_the_same(line: bytes) -> None:
    assert coding(HTML, LONG, line, settings=GUARDED) == "gzip"


# --- the other reasons not to ---


def test_unknown_length_is_always_compressed_with_each_piece_at_once() -> None:
    for framing in ([b"Transfer-Encoding: chunked"], []):
        plan = wanted(asked(ANY), answered(b"content-type: text/event-stream", *framing), DEFAULT)
        assert plan == Plan("zstd", "the client accepts zstd", flushes=True, weak=True)


@pytest.mark.parametrize(
    "status", [b"204 No Content", b"205 Reset Content", b"206 Partial Content", b"103 Early Hints"]
)
def test_responses_without_a_whole_body_are_not_compressed(status: bytes) -> None:
    plan = wanted(asked(ANY), answered(HTML, LONG, status=status), DEFAULT)
    assert plan is None or plan.coding is None


@pytest.mark.parametrize("status", [b"404 Not Found", b"500 Internal Server Error", b"201 Created"])
def test_any_other_status_is_compressed(status: bytes) -> None:
    plan = wanted(asked(ANY, method=b"POST"), answered(HTML, LONG, status=status, method=b"POST"), DEFAULT)
    assert plan is not None
    assert plan.coding == "zstd"


def test_no_transform_of_either_side_is_honoured_and_only_as_a_word_of_cache_control() -> None:
    assert coding(HTML, LONG, b"Cache-Control: public, No-Transform") is None
    assert coding(HTML, LONG, request=(GZIP, b"cache-control: no-transform")) is None
    assert coding(HTML, LONG, b"X-Note: no-transform", b"Cache-Control: x-no-transform") == "gzip"


def test_an_app_may_opt_out_and_its_header_goes_no_further() -> None:
    answer = answered(HTML, LONG, b"No-Gzip-Compression: 1")
    plan = wanted(asked(ANY), answer, DEFAULT)
    assert plan is not None
    assert plan.coding is None
    assert after(plan, answer) == [HTML, LONG, b"Vary: Accept-Encoding"]


def test_a_content_range_or_an_empty_body_is_not_compressed_even_with_no_least_size() -> None:
    assert coding(HTML, LONG, b"Content-Range: bytes 0-1999/5000") is None
    assert coding(HTML, b"Content-Length: 0", settings=Settings(min_size=0)) is None
    assert coding(HTML, b"Content-Length: 1", settings=Settings(min_size=0)) == "gzip"


# --- HEAD and 304 ---


@pytest.mark.parametrize("length", [LONG, b"Transfer-Encoding: chunked"])
def test_a_head_gets_the_very_header_lines_of_the_get(length: bytes) -> None:
    lines = []
    for method in (b"GET", b"HEAD"):
        answer = answered(HTML, length, b'ETag: "a"', method=method)
        lines.append(after(wanted(asked(ANY, method=method), answer, DEFAULT), answer))
    assert lines[0] == lines[1]


def test_a_head_response_whose_get_cannot_be_foreseen_has_vary_only() -> None:
    answer = answered(HTML, b'ETag: "a"', method=b"HEAD")
    plan = wanted(asked(ANY, method=b"HEAD"), answer, DEFAULT)
    assert after(plan, answer) == [HTML, b'ETag: "a"', b"Vary: Accept-Encoding"]


@pytest.mark.parametrize(
    ("known", "tag", "reported"),
    [
        (b'W/"a"', b'"a"', b'W/"a"'),
        (b'"x", W/"a"', b'"a"', b'W/"a"'),
        (b'"a"', b'"a"', b'"a"'),
        (b'W/"a"', b'W/"a"', b'W/"a"'),
        (b"*", b'"a"', b'"a"'),
    ],
)
def test_not_modified_names_the_etag_that_the_client_has(known: bytes, tag: bytes, reported: bytes) -> None:
    answer = answered(b"ETag: " + tag, status=b"304 Not Modified")
    plan = wanted(asked(GZIP, b"If-None-Match: " + known), answer, DEFAULT)
    assert after(plan, answer) == [b"ETag: " + reported, b"Vary: Accept-Encoding"]


def test_not_modified_of_a_picture_is_left_alone() -> None:
    answer = answered(b"Content-Type: image/png", b'ETag: "a"', status=b"304 Not Modified")
    assert wanted(asked(GZIP, b'If-None-Match: W/"a"'), answer, DEFAULT) is None


# --- the lines ---


@pytest.mark.parametrize(
    ("before", "reported"),
    [
        ([], [b"Vary: Accept-Encoding"]),
        ([b"Vary: Accept"], [b"Vary: Accept, Accept-Encoding"]),
        ([b"vary:  Accept , Cookie "], [b"Vary: Accept , Cookie, Accept-Encoding"]),
        ([b"Vary: Accept", b"Vary: Cookie"], [b"Vary: Accept", b"Vary: Cookie, Accept-Encoding"]),
        ([b"Vary: accept-ENCODING"], [b"Vary: accept-ENCODING"]),
        ([b"Vary: Accept-Encoding, Cookie", b"Vary: A"], [b"Vary: Accept-Encoding, Cookie", b"Vary: A"]),
        ([b"Vary: X-Accept-Encoding"], [b"Vary: X-Accept-Encoding, Accept-Encoding"]),
        ([b"Vary: *"], [b"Vary: *"]),
        ([b"Vary:"], [b"Vary: Accept-Encoding"]),
    ],
)
@pytest.mark.parametrize("request_line", [GZIP, b"X: y"])
def test_vary_is_merged_never_overwritten_never_doubled(
    before: list[bytes], reported: list[bytes], request_line: bytes
) -> None:
    answer = answered(HTML, LONG, *before)
    lines = after(wanted(asked(request_line), answer, DEFAULT), answer)
    assert [line for line in lines if line.lower().startswith(b"vary")] == reported


@pytest.mark.parametrize(
    ("tag", "reported"),
    [(b'"abc"', b'W/"abc"'), (b'W/"abc"', b'W/"abc"'), (b'"a,b c"', b'W/"a,b c"'), (b"bare", b"bare")],
)
def test_a_strong_etag_becomes_weak_when_the_body_is_encoded(tag: bytes, reported: bytes) -> None:
    answer = answered(b"etag: " + tag, HTML, LONG)
    assert after(wanted(asked(GZIP), answer, DEFAULT), answer)[0].partition(b": ")[2] == reported
    plain = answered(b"etag: " + tag, HTML, LONG)
    assert after(wanted(asked(), plain, DEFAULT), plain)[0] == b"etag: " + tag


def test_digests_of_the_plain_octets_go_no_further_in_headers_and_trailers() -> None:
    digests = [b"Digest: sha-256=x", b"Content-MD5: x", b"content-digest: sha-256=:x:", b"Repr-Digest: sha-256=:x:"]
    answer = answered(HTML, LONG, *digests, b"X-Digest: kept")
    plan = wanted(asked(GZIP), answer, DEFAULT)
    assert after(plan, answer) == [HTML, b"X-Digest: kept", b"Vary: Accept-Encoding", b"Content-Encoding: gzip"]
    trailers = [digest + b"\r\n" for digest in digests] + [b"Server-Timing: a\r\n"]
    assert plan is not None
    assert plan.trailers(trailers) == [b"Server-Timing: a\r\n"]
    plain = wanted(asked(), answered(HTML, LONG), DEFAULT)
    assert plain is not None
    assert plain.trailers(trailers) == trailers


def test_a_head_that_others_hold_is_not_changed_under_their_hands() -> None:
    for request in (asked(GZIP), asked()):
        answer = answered(HTML, LONG, b"Vary: Cookie")
        kept, noted = answer.kept, answer.noted
        before = list(kept), dict(noted)
        after(wanted(request, answer, DEFAULT), answer)
        assert (kept, noted) == before


_line = st.sampled_from(
    [
        HTML, LONG, ANY, GZIP, b"Accept-Encoding:", b"Accept-Encoding: ;q=,*;;=", b"Vary:,", b"Vary: *", b"ETag:",
        b'ETag: "', b"Content-Type: ;", b"Content-Type: /", b"Content-Encoding:", b"Cache-Control: ,=no-transform=,",
        b"Cookie:", b"Cache-Control: no-transform", b"No-Gzip-Compression:", b"Set-Cookie:", b"If-None-Match: W/",
        b"Content-Type: text/",
    ]
)  # fmt: skip


@given(
    st.lists(_line, max_size=8, unique=True),
    st.lists(_line, max_size=8, unique=True),
    st.sampled_from([b"200 OK", b"304 X", b"206 X", b"404 X", b"204 X"]),
    st.booleans(),
)
def test_no_heads_raise_and_the_lines_say_what_is_done(
    request: list[bytes], answer: list[bytes], status: bytes, guarded: bool
) -> None:
    to = answered(*answer, status=status)
    try:
        head_asked = asked(*request)
    except BadMessage:
        return  # two Content-Type headers which differ
    plan = wanted(head_asked, to, GUARDED if guarded else DEFAULT)
    if plan is not None:
        lines = [line.lower() for line in after(plan, to)]
        assert plan.coding is None or b"content-encoding: " + plan.coding.encode() in lines
        varied = [line for line in lines if line.startswith(b"vary:")]
        assert any(b"accept-encoding" in line or b"*" in line for line in varied)
        assert plan.coding is None or not any(line.startswith((b"content-length:", b"no-gzip")) for line in lines)
