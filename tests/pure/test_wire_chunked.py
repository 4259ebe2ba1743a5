"""The chunked coding: any split gives the same, nonsense is refused, and what is written can be read."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.wire import chunked
from flyatc.wire.errors import BadMessage

Outcome = tuple[bytes, bool, bytes, list[bytes]] | None

_sizes = st.lists(st.binary(min_size=1, max_size=300), max_size=6)
_pieces_of_grammar = st.lists(
    st.sampled_from(
        [
            b"0",
            b"1",
            b"5",
            b"a",
            b"F",
            b"\r\n",
            b"\r",
            b"\n",
            b";",
            b" ",
            b"x",
            b"hello",
            b"X: y",
            b":",
            b"\0",
            b"0\r\n\r\n",
            b"\xff",
        ]
    ),
    max_size=20,
)


def outcome(parts: list[bytes]) -> Outcome:
    """(body, done, rest, trailers) after these reads; None: refused. Once it is done the rest is not its own."""
    decoder, body = chunked.Decoder(), b""
    try:
        for index, part in enumerate(parts):
            for piece in decoder.feed(part):
                assert piece
                body += piece
            if decoder.done:
                return body, True, decoder.rest + b"".join(parts[index + 1 :]), decoder.trailers
    except BadMessage:
        return None
    return body, False, b"", []


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a != b]


@settings(deadline=None)
@given(_sizes, st.lists(st.integers(min_value=0), max_size=12), st.binary(max_size=20))
def test_what_is_written_is_read_however_it_is_split(pieces: list[bytes], cuts: list[int], after: bytes) -> None:
    data = b"".join(chunked.encode([piece]) for piece in pieces) + chunked.last([b"X-T: 1\r\n"]) + after
    assert outcome(split(data, cuts)) == (b"".join(pieces), True, after, [b"X-T: 1\r\n"])


@settings(deadline=None)
@given(_pieces_of_grammar.map(b"".join) | st.binary(max_size=60), st.lists(st.integers(min_value=0), max_size=12))
def test_every_split_of_anything_ends_alike(data: bytes, cuts: list[int]) -> None:
    """But for when it is refused: what can no longer become right may be refused earlier in one split than in
    another."""
    whole, parts = outcome([data] if data else []), outcome(split(data, cuts))
    byte_by_byte = outcome([bytes([byte]) for byte in data])
    assert len({repr(one) for one in (whole, parts, byte_by_byte) if one is None or one[1]}) <= 1
    if whole is not None and parts is not None:
        assert whole == parts


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_pieces_are_one_chunk_and_nothing_is_no_chunk(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert chunked.encode(pieces) == (b"%x\r\n%b\r\n" % (len(body), body) if body else b"")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"-1",
        b"+1",
        b"0x1",
        b" 1",
        b"1 1",
        b"1,",
        b"1;\0",
        b"1;\x7f",
        b'1\t;a="b\r"',
        b"f" * 16,
        b"1\n",
        b"\x001",
    ],
)
def test_a_size_is_digits_and_nothing_else(line: bytes) -> None:
    assert outcome([line + b"\r\na\r\n0\r\n\r\n"]) is None


@pytest.mark.parametrize("line", [b"1", b"01", b"1;a", b'1;a="b"', b"1 ", b"1\t; x", b"00000000000001"])
def test_extensions_are_read_over(line: bytes) -> None:
    assert outcome([line + b"\r\na\r\n0\r\n\r\n"]) == (b"a", True, b"", [])


def test_trailers_that_would_change_the_message_are_left_out() -> None:
    lines = [b"X-Sum: 1", b"Content-Length: 5", b"TRANSFER-ENCODING: x", b"Host: x", b"X_Forwarded-For: y",
    b"Set-Cookie: a",
             b"Content-Type: x", b"x-b:2"]  # fmt: skip
    data = b"0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    assert outcome([data]) == (b"", True, b"", [b"X-Sum: 1\r\n", b"x-b: 2\r\n"])


@pytest.mark.parametrize(
    "line", [b"no colon", b": x", b" X: y", b"X : y", b"X: a\nb", b"X: a\rb", b"X: \0", b"X\xff: y"]
)
def test_trailers_that_are_no_fields_are_refused(line: bytes) -> None:
    assert outcome([b"0\r\n" + line + b"\r\n\r\n"]) is None


def test_endless_lines_are_refused_before_they_end() -> None:
    assert outcome([b"1;" + b"x" * 2000]) is None
    assert outcome([b"0\r\nX: " + b"x" * 20_000]) is None
    assert outcome([b"0\r\n" + b"X: y\r\n" * 5000]) is None


def test_extensions_may_not_be_more_than_the_data() -> None:
    line = b"1;" + b"x" * 900 + b"\r\na\r\n"
    assert outcome([line * 10 + b"0\r\n\r\n"]) == (b"a" * 10, True, b"", [])
    assert outcome([line * 30 + b"0\r\n\r\n"]) is None
    signed = b"400;chunk-signature=" + b"0" * 64 + b"\r\n" + b"a" * 1024 + b"\r\n"
    assert outcome([signed * 1000 + b"0\r\n\r\n"]) == (b"a" * 1024_000, True, b"", [])
