"""Heads: what is accepted can be read in one way only, and everything else is BadMessage."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.edge import headers
from flyatc.wire import head, head_parser
from flyatc.wire.errors import BadMessage

_NAMES = [
    b"Host", b"Connection", b"X-A", b"x_a", b"Content-Length", b"content_length", b"Transfer-Encoding",
    b"Transfer_Encoding",
    b"Upgrade", b"TE", b"Trailer", b"Keep-Alive", b"Proxy", b"Proxy-Connection", b"X-Forwarded-For",
    b"X_Forwarded-For", b"Expect",
    b"X-Forwarded-Prefix", b"Forwarded", b"User-Agent", b"Cookie", b"X-Request-Id", b"HTTP2-Settings", b"",
]  # fmt: skip
_GOOD_VALUES = [
    b"here", b"close", b"keep-alive, Upgrade", b"X-A, x_a", b"5", b"0", b"chunked", b"Chunked", b"websocket", b"",
    b"a\tb", b"\xff",
    b"100-continue", b"trailers", b"a:b", b"[::1]:80",
]  # fmt: skip
_VALUES = [b"+5", b"gzip, chunked", b"a\nb", b"a\r\nb: c", b"a\r\n b", b"\0"]
_names = st.sampled_from(_NAMES).flatmap(lambda name: st.sampled_from([name, name.upper(), name.lower()]))
_values = st.sampled_from(_VALUES)
_good_line = st.tuples(_names.filter(bool), st.just(b": "), st.sampled_from(_GOOD_VALUES), st.just(b"\r\n"))
_bad_line = st.tuples(
    _names | st.binary(max_size=4),
    st.sampled_from([b":", b" : ", b":\t", b""]),
    _values | st.binary(max_size=6),
    st.sampled_from([b"\r\n", b"\n", b"\r"]),
)
_lines = st.one_of(
    st.lists(_good_line, max_size=6), st.lists(_good_line, max_size=6), st.lists(_good_line | _bad_line, max_size=6)
).map(lambda lines: b"".join(b"".join(line) for line in lines))
_METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"M-SEARCH", b"DESCRIBE", b"X"]
_TARGETS = [b"/", b"/a?b#c", b"*", b"http://h/x", b"http://h", b"//", b"", b"h:1", b"/a b", b"/\xff", b"http:///x"]
_VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"RTSP/1.0"]
_start_lines = st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"PUT http://h/?x HTTP/1.0\r\n"]
) | st.tuples(st.sampled_from(_METHODS), st.sampled_from(_TARGETS), st.sampled_from(_VERSIONS)).map(
    lambda parts: b" ".join(parts) + b"\r\n"
)
_hosts = st.sampled_from([b"", b"Host: x\r\n", b"Host: x\r\n"])
_requests = st.tuples(_start_lines, _hosts, _lines).map(b"".join) | st.binary(max_size=80)
_STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 404 ", b"HTTP/1.1 204", b"HTTP/1.1 103 E", b"HTTP/1.1 101 S",
    b"HTTP/1.1 426 U",
    b"HTTP/1.1 099 X", b"HTTP/1.1 200 \x1b", b"HTTP/2.0 200 OK", b"ICY 200 OK", b"HTTP/1.1  200 OK",
]  # fmt: skip
_answers = st.tuples(st.sampled_from(_STATUS_LINES), st.just(b"\r\n"), _lines).map(b"".join)
HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"expect",
}


def fields(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, _, value in (line.partition(b":") for line in block.split(b"\r\n") if line)]


def one_head(data: bytes) -> bytes:
    """As the connections cut it out."""
    data += b"\r\n\r\n"
    return data[: data.find(b"\r\n\r\n") + 4]


@settings(max_examples=400, deadline=None)
@given(_requests.map(one_head))
def test_a_request_is_refused_or_can_be_handed_on(data: bytes) -> None:
    try:
        request = head_parser.RequestParser().parse(data)
    except BadMessage:
        return
    sent = headers.towards_app(
        request, path=request.path, peer=b"1.2.3.4", identity=b"id", milliseconds=1, forward=True, prefix=None
    )
    first, _, block = sent.partition(b"\r\n")
    assert re.fullmatch(rb"[A-Z-]+ [\x21-\x7e]+ HTTP/1\.1", first)
    assert sent.count(b"\r\n\r\n") == 1
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", sent)
    assert sent.endswith(b"\r\n\r\n")
    _framed_once(request, block)
    again = head_parser.RequestParser().parse(sent)  # what we send is read as we have read it
    assert (again.framing, again.length, again.method) == (request.framing, request.length, request.method)
    assert (again.path, again.query) == (request.path, request.query)


def _framed_once(request: head.RequestHead, block: bytes) -> None:
    names = [name.lower() for name, _ in fields(block)]
    assert names.count(b"host") == 1
    assert names.count(b"transfer-encoding") == (request.framing is head.CHUNKED)
    assert names.count(b"content-length") <= (request.framing is not head.CHUNKED)
    assert all(name.replace(b"_", b"-") not in HOP for name in names if b"_" in name)
    assert (b"upgrade" in names) is (b"connection" in names) is (request.upgrade is not None)
    for name in (b"keep-alive", b"proxy", b"proxy-connection", b"forwarded", b"http2-settings"):
        assert name not in names


@settings(max_examples=400, deadline=None)
@given(_answers.map(one_head), st.sampled_from([b"GET", b"HEAD"]))
def test_a_response_is_refused_or_can_be_handed_on(data: bytes, method: bytes) -> None:
    try:
        answer = head_parser.ResponseParser().parse(data, method)
    except BadMessage:
        return
    assert answer.kept is not None
    framing = b"\r\nTransfer-Encoding: chunked" if answer.framing in (head.CHUNKED, head.UNTIL_CLOSE) else b""
    sent = headers.towards_client(answer, framing=framing, identity=b"id", date=b"\r\nDate: x", close=False)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|[\0\x1b]", sent)
    assert sent.count(b"\r\n\r\n") == 1
    names = [name.lower() for name, _ in fields(sent.partition(b"\r\n")[2])]
    assert names.count(b"transfer-encoding") == bool(framing)
    assert names.count(b"content-length") <= (not framing)
    for name in (b"keep-alive", b"proxy-connection", b"te"):
        assert name not in names


@pytest.mark.parametrize(
    ("noted", "minor", "expected"),
    [
        ({}, 1, (head.NEVER, 0)),
        ({b"content-length": [b"0"]}, 1, (head.NEVER, 0)),
        ({b"content-length": [b"5"]}, 0, (head.LENGTH, 5)),
        ({b"transfer-encoding": [b"cHunked"]}, 1, (head.CHUNKED, 0)),
        ({b"transfer-encoding": [b"chunked"]}, 0, 400),
        ({b"transfer-encoding": [b"chunked"], b"content-length": [b"5"]}, 1, 400),
        ({b"transfer-encoding": [b"chunked", b"chunked"]}, 1, 501),
        ({b"transfer-encoding": [b"gzip"]}, 1, 501),
        ({b"content-length": [b"5", b"6"]}, 1, 400),
        ({b"content-length": [b"5x"]}, 1, 400),
        ({b"content-length": [b"9" * 19]}, 1, 400),
    ],
)
def test_how_a_request_ends(noted: dict[bytes, list[bytes]], minor: int, expected: tuple[str, int] | int) -> None:
    if isinstance(expected, int):
        with pytest.raises(BadMessage) as raised:
            head_parser.request_framing(noted, minor)
        assert raised.value.status == expected
    else:
        assert head_parser.request_framing(noted, minor) == expected


@pytest.mark.parametrize(
    ("method", "status", "noted", "expected"),
    [
        (b"GET", 200, {}, (head.UNTIL_CLOSE, 0)),
        (b"GET", 200, {b"content-length": [b"0"]}, (head.LENGTH, 0)),
        (b"GET", 200, {b"transfer-encoding": [b"chunked"]}, (head.CHUNKED, 0)),
        (b"HEAD", 200, {b"content-length": [b"9"]}, (head.NEVER, 9)),
        (b"HEAD", 200, {b"transfer-encoding": [b"chunked"]}, (head.NEVER, 0)),
        (b"GET", 204, {}, (head.NEVER, 0)),
        (b"GET", 304, {b"content-length": [b"9"]}, (head.NEVER, 9)),
        (b"GET", 103, {}, (head.NEVER, 0)),
    ],
)
def test_how_a_response_ends(
    method: bytes, status: int, noted: dict[bytes, list[bytes]], expected: tuple[str, int]
) -> None:
    assert head_parser.response_framing(method, status, noted) == expected


def test_a_parser_that_is_used_again_knows_nothing_of_the_last_request() -> None:
    parser = head_parser.RequestParser()
    for number in range(3):
        request = parser.parse(b"GET /%d HTTP/1.1\r\nHost: h%d\r\nContent-Length: 0\r\n\r\n" % (number, number))
        assert (request.path, request.one(b"host")) == (b"/%d" % number, b"h%d" % number)
    with pytest.raises(BadMessage):
        parser.parse(b"GET / HTTP/1.1\r\nbad\r\n\r\n")
    assert parser.parse(b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n").path == b"/after"
    assert parser.parse(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").length == 9
    assert parser.parse(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n").path == b"/last"


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        (b"User-Agent: a/1 (b)", b"a/1 (b)"),
        (b"User-Agent:  \t a/1", b"a/1"),
        (b"user-agent: a/1", b"a/1"),
        (b"USER-AGENT:a/1", b"a/1"),
        (b"User-Agent:", b""),
        (b"X-User-Agent: a/1", None),
    ],
)
@pytest.mark.parametrize("last", [b"", b"TE: trailers\r\n", b"X-A: 1\r\n"])
def test_the_user_agent_is_found_however_it_is_written(line: bytes, agent: bytes | None, last: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nHost: here\r\nTE: x\r\n" + line + b"\r\n" + last + b"\r\n"
    assert head_parser.RequestParser().parse(data).user_agent == agent


def test_where_an_app_sends_clients_is_cut_out_unless_it_may_say_so() -> None:
    data = b"HTTP/1.1 200 OK\r\nFly-Replay: app=other\r\nfly-replay-cache: /x\r\nContent-Length: 0\r\n\r\n"
    for replays, kept in ((False, 1), (True, 3)):
        answer = head_parser.ResponseParser(replays=replays).parse(data, b"GET")
        assert len(fields(b"".join(answer.kept)[2:] + b"\r\n")) == kept
