"""Conditional requests and dates, from RFC 9110 §13 and §5.6.7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.delivery import conditional
from flyatc.delivery.conditional import Validators

MOMENT = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = b"Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = b"Sun, 06 Nov 1994 08:49:38 GMT"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (DATE, MOMENT),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", MOMENT),
        (b"Sun Nov  6 08:49:37 1994", MOMENT),
        (b"Sun, 06 Nov 1994 08:49:60 GMT", MOMENT + 22),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Mon, 01 Jan 0001 00:00:00 GMT", -62135596800),
        (b"", None),
        (b"0", None),
        (b"-1", None),
        (b"sun, 06 nov 1994 08:49:37 gmt", None),
        (b"Sun, 06 Nov 1994 08:49:37", None),
        (b"Sun, 06 Nov 1994 08:49:37 UTC", None),
        (b"Sun, 31 Feb 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 25:49:37 GMT", None),
        (DATE + b", " + DATE, None),
        (b"9" * 10_000, None),
    ],
)
def test_a_date_is_read_in_its_three_forms_and_in_no_other(text: bytes, moment: int | None) -> None:
    assert conditional.parse_date(text) == moment


@given(st.integers(0, 253402300799))
def test_a_date_written_is_a_date_read(moment: int) -> None:
    assert conditional.parse_date(conditional.write(moment)) == moment


STRONG, WEAK = Validators(b'"a"', MOMENT), Validators(b'W/"a"', MOMENT)
NOTHING = Validators()


@pytest.mark.parametrize(
    ("name", "value", "having", "method", "status"),
    [
        (b"if-none-match", b'"a"', STRONG, b"GET", 304),
        (b"if-none-match", b'"a"', STRONG, b"HEAD", 304),
        (b"if-none-match", b'"a"', STRONG, b"PUT", 412),
        (b"if-none-match", b'W/"a"', STRONG, b"GET", 304),
        (b"if-none-match", b'"a"', WEAK, b"GET", 304),
        (b"if-none-match", b'"x", "a"', STRONG, b"GET", 304),
        (b"if-none-match", b'"x,"a"', STRONG, b"GET", 0),
        (b"if-none-match", b'"A"', STRONG, b"GET", 0),
        (b"if-none-match", b"a", STRONG, b"GET", 0),
        (b"if-none-match", b"", STRONG, b"GET", 0),
        (b"if-none-match", b"*", STRONG, b"GET", 304),
        (b"if-none-match", b"*", NOTHING, b"GET", 304),
        (b"if-none-match", b"*", STRONG, b"PUT", 412),
        (b"if-none-match", b'"a"', NOTHING, b"GET", 0),
        (b"if-match", b'"a"', STRONG, b"PUT", 0),
        (b"if-match", b'"b", "a"', STRONG, b"GET", 0),
        (b"if-match", b'"b"', STRONG, b"PUT", 412),
        (b"if-match", b'W/"a"', WEAK, b"PUT", 412),
        (b"if-match", b'"a"', WEAK, b"PUT", 412),
        (b"if-match", b"*", STRONG, b"PUT", 0),
        (b"if-match", b'"a"', NOTHING, b"PUT", 412),
        (b"if-modified-since", DATE, STRONG, b"GET", 304),
        (b"if-modified-since", AFTER, STRONG, b"GET", 304),
        (b"if-modified-since", BEFORE, STRONG, b"GET", 0),
        (b"if-modified-since", DATE, STRONG, b"POST", 0),
        (b"if-modified-since", b"yesterday", STRONG, b"GET", 0),
        (b"if-modified-since", DATE, NOTHING, b"GET", 0),
        (b"if-unmodified-since", DATE, STRONG, b"PUT", 0),
        (b"if-unmodified-since", BEFORE, STRONG, b"PUT", 412),
        (b"if-unmodified-since", BEFORE, NOTHING, b"PUT", 0),
        (b"if-unmodified-since", b"0", STRONG, b"PUT", 0),
    ],
)
def test_one_condition_is_weighed(name: bytes, value: bytes, having: Validators, method: bytes, status: int) -> None:
    assert conditional.judge({name: value}, method, having).status == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({b"if-match": b'"a"', b"if-unmodified-since": BEFORE}, 0),
        ({b"if-match": b'"b"', b"if-none-match": b'"a"'}, 412),
        ({b"if-match": b'"a"', b"if-none-match": b'"a"'}, 304),
        ({b"if-none-match": b'"b"', b"if-modified-since": AFTER}, 0),
        ({b"if-none-match": b'"a"', b"if-modified-since": BEFORE}, 304),
        ({b"if-unmodified-since": BEFORE, b"if-none-match": b'"a"'}, 412),
    ],
)
def test_conditions_come_in_the_order_of_the_rfc(fields: dict[bytes, bytes], status: int) -> None:
    assert conditional.judge(fields, b"GET", STRONG).status == status


@pytest.mark.parametrize(
    ("value", "having", "date", "holds"),
    [
        (None, NOTHING, None, True),
        (b'"a"', STRONG, None, True),
        (b'"b"', STRONG, None, False),
        (b'W/"a"', WEAK, None, False),
        (b'"a"', WEAK, None, False),
        (DATE, STRONG, MOMENT + 1, True),
        (DATE, STRONG, MOMENT + 0.5, False),
        (DATE, STRONG, None, False),
        (AFTER, STRONG, MOMENT + 10, False),
        (BEFORE, STRONG, MOMENT + 10, False),
        (b"", STRONG, MOMENT + 10, False),
    ],
)
def test_a_range_holds_only_for_exactly_what_the_client_has(
    value: bytes | None, having: Validators, date: float | None, holds: bool
) -> None:
    assert conditional.range_holds(value, having, date) is holds


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from([b"GET", b"PUT"]))
def test_no_condition_is_too_odd(one: bytes, other: bytes, method: bytes) -> None:
    names = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
    for name in names:
        assert conditional.judge({name: one, names[0]: other}, method, STRONG).status in (0, 304, 412)
    assert conditional.range_holds(one, STRONG, MOMENT + 9) in (True, False)
