"""Byte ranges, from RFC 9110 §14."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.delivery import conditional
from flyatc.delivery.conditional import Span

UNTOUCHED, UNSATISFIED = None, list[Span]()


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        (b"bytes=0-499", [(0, 500)]),
        (b"bytes=500-999", [(500, 1000)]),
        (b"bytes=0-0,-1", [(0, 1), (999, 1000)]),
        (b"bytes= 0-1 , 2-3 ,,", [(0, 2), (2, 4)]),
        (b"Bytes=5-9", [(5, 10)]),
        (b"bytes=-500", [(500, 1000)]),
        (b"bytes=-5000", [(0, 1000)]),
        (b"bytes=999-", [(999, 1000)]),
        (b"bytes=0-99999999999999999999999999", [(0, 1000)]),
        (b"bytes=00000000000000000000000-0", [(0, 1)]),
        (b"bytes=0-1,5000-6000", [(0, 2)]),
        (b"bytes=1000-", UNSATISFIED),
        (b"bytes=1000-1000,2000-", UNSATISFIED),
        (b"bytes=-0", UNSATISFIED),
        (b"bytes=" + b"9" * 5000 + b"-", UNSATISFIED),
        (b"bytes=5-4", UNTOUCHED),
        (b"bytes=0-1,5-4", UNTOUCHED),
        (b"bytes=-", UNTOUCHED),
        (b"bytes=", UNTOUCHED),
        (b"bytes=,", UNTOUCHED),
        (b"bytes", UNTOUCHED),
        (b"bytes=a-b", UNTOUCHED),
        (b"bytes=0x1-5", UNTOUCHED),
        (b"bytes=1 - 5", UNTOUCHED),
        (b"bytes=+1-5", UNTOUCHED),
        (b"lines=0-5", UNTOUCHED),
        (b"bytes=0-999,0-0", UNTOUCHED),
        (b"bytes=" + b",".join(b"%d-%d" % (2 * n, 2 * n) for n in range(33)), UNTOUCHED),
    ],
)
def test_a_range_of_a_thousand_octets_is_read(value: bytes, spans: list[tuple[int, int]] | None) -> None:
    assert conditional.parse_range(value, 1000) == spans


def test_an_empty_body_has_no_parts_and_is_sent_whole() -> None:
    assert conditional.parse_range(b"bytes=0-", 0) is None
    assert conditional.parse_range(b"bytes=-5", 0) is None


BODY = bytes(range(256)) * 2
positions = st.one_of(st.none(), st.integers(0, 600))


@given(positions, positions, st.integers(1, len(BODY)))
def test_a_part_is_what_a_slice_would_be(first: int | None, last: int | None, length: int) -> None:
    body = BODY[:length]
    value = b"bytes=%b-%b" % (
        b"" if first is None else b"%d" % first,
        b"" if last is None else b"%d" % last,
    )
    if (first is None and last is None) or (first is not None and last is not None and first > last):
        assert conditional.parse_range(value, length) is None
        return
    if first is None:
        wanted = body[-last:] if last else b""
    else:
        wanted = body[first:] if last is None else body[first : last + 1]
    spans = conditional.parse_range(value, length)
    assert spans is not None
    assert b"".join(body[start:stop] for start, stop in spans) == wanted
    assert bool(spans) is bool(wanted)


@given(st.binary(max_size=40), st.integers(0, 100))
def test_parts_are_within_the_body_whatever_is_asked(value: bytes, length: int) -> None:
    for text in (value, b"bytes=" + value):
        for start, stop in conditional.parse_range(text, length) or []:
            assert 0 <= start < stop <= length


def test_several_parts_are_framed_and_counted() -> None:
    body = b"0123456789"
    spans = [Span(0, 2), Span(8, 10)]
    parts = conditional.multipart(spans, 10, b"text/plain", b"XYZ")
    whole = b"".join(head + body[a:b] for head, (a, b) in zip(parts.heads, spans, strict=True)) + parts.end
    assert parts.kind == b"multipart/byteranges; boundary=XYZ"
    assert parts.length == len(whole)
    assert whole == (
        b"\r\n--XYZ\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--XYZ\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--XYZ--\r\n"
    )
    assert b"Content-Type" not in conditional.multipart(spans, 10, None, b"XYZ").heads[0]
    assert conditional.unsatisfied(10) == b"bytes */10"
