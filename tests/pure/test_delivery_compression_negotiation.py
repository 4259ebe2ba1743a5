"""The coding for an Accept-Encoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.config.schema_sections import Coding
from flyatc.delivery import compression
from flyatc.delivery.compression import negotiate

ALL: tuple[Coding, ...] = ("zstd", "br", "gzip")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        (b"", None),
        (b"gzip", "gzip"),
        (b"GZip", "gzip"),
        (b"x-gzip", "gzip"),
        (b"gzip, deflate, br, zstd", "zstd"),
        (b"gzip, deflate, br", "br"),
        (b"gzip, deflate", "gzip"),
        (b"deflate", None),
        (b"compress", None),
        (b"gzip;q=0", None),
        (b"gzip;q=0.000", None),
        (b"gzip;q=0, br", "br"),
        (b"gzip;q=1.0, br;q=0.9, zstd;q=0.8", "gzip"),
        (b"gzip; q = 0.5 ,\tbr;Q=0.6", "br"),
        (b"zstd;q=0.001, identity;q=0", "zstd"),
        (b"identity", None),
        (b"identity, gzip;q=0.5", None),
        (b"identity, gzip", "gzip"),
        (b"identity;q=0.4, gzip;q=0.5", "gzip"),
        (b"*", "gzip"),
        (b"*;q=0", None),
        (b"gzip, *;q=0", "gzip"),
        (b"gzip;q=0, *", "zstd"),
        (b"gzip;q=0.5, *", "zstd"),
        (b"br, *", "br"),
        (b"gzip;q=0, br;q=0, zstd;q=0, *", None),
        (b"gzip;q=0, gzip", None),
        (b"gzip, x-gzip;q=0", None),
        (b"gzip;level=9", "gzip"),
        (b",,, gzip ,,", "gzip"),
    ],
)
def test_the_weights_of_rfc_9110_decide(accept: bytes | None, coding: Coding | None) -> None:
    assert negotiate(accept, ALL) == coding


@pytest.mark.parametrize(
    "weight", [b"", b"=", b"=2", b"=-1", b"=1.1", b"=nan", b"=inf", b"=1e0", b"=.5", b"=0x1", b"= 1 0"]
)
def test_a_malformed_weight_counts_as_refused(weight: bytes) -> None:
    assert negotiate(b"gzip;q" + weight, ALL) is None


def test_only_what_is_offered_is_chosen_and_its_order_decides_between_equals() -> None:
    assert negotiate(b"gzip, br, zstd", ("gzip", "zstd")) == "gzip"
    assert negotiate(b"zstd", ("gzip",)) is None
    assert negotiate(b"*", ("br",)) == "br"
    assert negotiate(b"gzip", ()) is None


def test_a_header_which_is_too_long_is_not_read() -> None:
    assert negotiate(b"gzip" + b"," * (compression.LONGEST - 4), ALL) == "gzip"
    assert negotiate(b"gzip" + b"," * compression.LONGEST, ALL) is None


def test_what_is_remembered_is_bounded() -> None:
    for number in range(3 * compression.MEMO):
        negotiate(b"gzip, x%d" % number, ALL)
    assert compression._choose.cache_info().currsize <= compression.MEMO


_member = st.builds(
    lambda name, weight: name if weight is None else name + b";q=" + weight,
    st.sampled_from([b"gzip", b"br", b"zstd", b"x-gzip", b"identity", b"*", b"deflate"]),
    st.none() | st.sampled_from([b"0", b"1", b"0.5", b"0.333", b"1.000", b"x"]),
)


@given(st.binary(max_size=600) | st.lists(_member, max_size=6).map(b",".join))
def test_no_header_raises_and_no_coding_is_chosen_that_is_not_offered(accept: bytes) -> None:
    for offered in (ALL, ("gzip",), ()):
        chosen = negotiate(accept, offered)
        assert chosen is None or chosen in offered


@given(st.lists(_member, max_size=6), st.sampled_from(ALL))
def test_what_is_refused_by_name_is_never_chosen(members: list[bytes], refused: Coding) -> None:
    assert negotiate(b", ".join([*members, refused.encode() + b";q=0"]), ALL) != refused
