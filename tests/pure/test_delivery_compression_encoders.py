"""Encoded bodies are decoded by other decoders: at the end, and where it matters after each step."""

import struct
import zlib
from typing import Protocol

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.config.schema_sections import MOST_JITTER, Coding
from flyatc.delivery import encoders
from flyatc.delivery.encoders import Encoders

KEY = b"0123456789abcdef"
CODINGS: tuple[Coding, ...] = ("zstd", "br", "gzip")
PAGE = b"".join(b"<tr><td>%d</td><td>dancer %d</td></tr>\n" % (n, n * 7919 % 1000) for n in range(600))
HARD = b"".join(b"%d " % (n * n * 2654435761 % 4294967291) for n in range(20_000))  # 200 KB which hardly repeat

LARGE = {
    "page": PAGE,
    "hard": HARD,
    "short": PAGE[:5000],
    "even": b"a" * 70_000,
}  # by name: hypothesis prints its cases
pieces = st.lists(st.binary(max_size=200) | st.sampled_from(sorted(LARGE)), max_size=6)
unhurried = settings(deadline=None, max_examples=40)  # the machine may be busy


def octets(piece: bytes | str) -> bytes:
    return LARGE[piece] if isinstance(piece, str) else piece


class Decoder(Protocol):
    def decode(self, data: bytes) -> bytes: ...


class Ungzip:
    def __init__(self) -> None:
        self.inner = zlib.decompressobj(31)

    def decode(self, data: bytes) -> bytes:
        return self.inner.decompress(data)


class Unbrotli:
    def __init__(self) -> None:
        self.inner = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        made: list[bytes] = [self.inner.process(data)]
        while made[-1]:  # it gives at most 32 KB at a time
            made.append(self.inner.process(b""))
        return b"".join(made)


class Unzstd:
    def __init__(self) -> None:
        self.inner = zstandard.ZstdDecompressor().decompressobj()

    def decode(self, data: bytes) -> bytes:
        return self.inner.decompress(data)


def decoder(coding: Coding) -> Decoder:
    decoders: dict[Coding, type[Decoder]] = {"gzip": Ungzip, "br": Unbrotli, "zstd": Unzstd}
    return decoders[coding]()


def decoded(coding: Coding, data: bytes) -> bytes:
    """The whole, which must be complete."""
    if coding == "gzip":
        gzip = zlib.decompressobj(31)
        body = gzip.decompress(data)
        assert gzip.eof
        assert gzip.unused_data == b""
        return body
    if coding == "br":
        made: bytes = brotli.decompress(data)
        return made
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("flushes", [True, False])
@unhurried
@given(parts=pieces, jitter=st.sampled_from([0, 1, 32, 300, MOST_JITTER]))
def test_any_pieces_are_decoded_to_what_they_were(
    coding: Coding, flushes: bool, parts: list[bytes | str], jitter: int
) -> None:
    encoder = Encoders(KEY).stream(coding, flushes=flushes, jitter=jitter)
    sent = b"".join([*(encoder.feed(octets(part)) for part in parts), encoder.finish()])
    assert decoded(coding, sent) == b"".join(map(octets, parts))


@pytest.mark.parametrize("coding", CODINGS)
@unhurried
@given(parts=pieces)
def test_with_a_flush_each_piece_can_be_decoded_at_once(coding: Coding, parts: list[bytes | str]) -> None:
    encoder, visitor = Encoders(KEY).stream(coding, flushes=True, jitter=32), decoder(coding)
    for part in map(octets, parts):
        assert visitor.decode(encoder.feed(part)) == part
    assert visitor.decode(encoder.finish()) == b""


@pytest.mark.parametrize("coding", CODINGS)
@unhurried
@given(body=st.binary(max_size=3000) | st.sampled_from(sorted(LARGE)), jitter=st.integers(0, 600))
def test_a_body_in_one_go_is_decoded_to_what_it_was(coding: Coding, body: bytes | str, jitter: int) -> None:
    assert decoded(coding, Encoders(KEY).whole(coding, octets(body), jitter=jitter)) == octets(body)


@pytest.mark.parametrize("coding", CODINGS)
def test_streams_side_by_side_do_not_mix_and_one_left_amid_its_body_harms_no_other(coding: Coding) -> None:
    of = Encoders(KEY)
    for _ in range(3):
        left = of.stream(coding, flushes=False, jitter=32)
        left.feed(HARD[:50_000])
        streams = [of.stream(coding, flushes=False, jitter=32) for _ in range(12)]
        sent = [b"" for _ in streams]
        for start in range(0, len(HARD), 40_000):
            for number, stream in enumerate(streams):
                sent[number] += stream.feed(b"%d" % number + HARD[start : start + 40_000])
            of.whole(coding, PAGE, jitter=0)
        for number, stream in enumerate(streams):
            expected = b"".join(b"%d" % number + HARD[at : at + 40_000] for at in range(0, len(HARD), 40_000))
            assert decoded(coding, sent[number] + stream.finish()) == expected


@pytest.mark.parametrize("coding", CODINGS)
def test_a_large_piece_is_worked_on_in_slices_and_flushed_after_the_last(coding: Coding) -> None:
    encoder, visitor = Encoders(KEY).stream(coding, flushes=True, jitter=0), decoder(coding)
    made = list(encoder.slices(HARD))
    assert len(made) == -(-len(HARD) // encoders.SLICE)
    assert b"".join(visitor.decode(part) for part in made) == HARD


@pytest.mark.parametrize("coding", CODINGS)
def test_slices_are_the_same_body_as_one_feed_and_leave_little_for_the_end(coding: Coding) -> None:
    encoder, at_once = (Encoders(KEY).stream(coding, flushes=False, jitter=32) for _ in range(2))
    steps = [*encoder.slices(HARD)]
    last = encoder.finish()
    assert b"".join([*steps, last]) == at_once.feed(HARD) + at_once.finish()
    assert len(last) < encoders.SLICE * 4


@pytest.mark.parametrize("coding", CODINGS)
def test_nothing_to_feed_makes_nothing(coding: Coding) -> None:
    assert Encoders(KEY).stream(coding, flushes=True, jitter=32).feed(b"") == b""


def test_pages_become_smaller() -> None:
    sizes = {coding: len(Encoders(KEY).whole(coding, PAGE, jitter=0)) for coding in CODINGS}
    assert all(size < len(PAGE) / 4 for size in sizes.values()), sizes


# --- padding ---


def gzip_comment(data: bytes) -> bytes | None:
    assert data[:3] == b"\x1f\x8b\x08"
    return data[10 : data.index(b"\0", 10)] if data[3] & 0x10 else None


def test_padding_of_gzip_is_a_comment_in_its_header() -> None:
    for body in (PAGE, PAGE[:1024], HARD):
        comment = gzip_comment(Encoders(KEY).whole("gzip", body, jitter=32))
        assert comment is not None
        assert 1 <= len(comment) <= 32
        assert b"Padding-Padding-Padding-Padding-".startswith(comment)


def test_without_padding_the_header_has_no_comment() -> None:
    assert gzip_comment(Encoders(KEY).whole("gzip", PAGE, jitter=0)) is None


def test_padding_of_zstd_is_a_frame_that_is_skipped() -> None:
    plain, padded = (Encoders(KEY).whole("zstd", PAGE, jitter=jitter) for jitter in (0, 32))
    magic, octets = struct.unpack_from("<LL", padded, len(plain))
    assert magic == 0x184D2A50
    assert 1 <= octets <= 32
    assert padded == plain + padded[len(plain) : len(plain) + 8] + encoders.filler(octets)


def test_padding_of_brotli_is_metadata_which_adds_its_very_length() -> None:
    for jitter in (1, 256, 257, MOST_JITTER):
        plain, padded = (Encoders(KEY).whole("br", PAGE, jitter=n) for n in (0, jitter))
        assert len(plain) < len(padded) <= len(plain) + jitter + 8
        assert decoded("br", padded) == PAGE


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
def test_the_same_body_is_padded_alike_however_it_is_cut(coding: Coding) -> None:
    of, added = Encoders(KEY), set()
    for size in (1000, 7000, encoders.SAMPLE, 150_000):
        padded, plain = (of.stream(coding, flushes=False, jitter=jitter) for jitter in (900, 0))
        lengths = [
            sum(len(encoder.feed(HARD[at : at + size])) for at in range(0, len(HARD), size)) + len(encoder.finish())
            for encoder in (padded, plain)
        ]
        added.add(lengths[0] - lengths[1])
    assert len(added) == 1


def test_gzip_sends_nothing_before_its_sample_is_complete() -> None:
    encoder = Encoders(KEY).stream("gzip", flushes=False, jitter=32)
    assert encoder.feed(HARD[: encoders.SAMPLE - 1]) == b""
    assert encoder.feed(HARD[encoders.SAMPLE - 1 : encoders.SAMPLE]).startswith(b"\x1f\x8b")


def test_padding_depends_on_the_body_and_on_the_key_and_covers_the_whole_span() -> None:
    lengths = {encoders.padding(checksum, 32, KEY) for checksum in range(1000)}
    assert lengths == set(range(1, 33))
    one, other = ([encoders.padding(n, 32, key) for n in range(50)] for key in (KEY, KEY[::-1]))
    assert one != other
    assert encoders.padding(7, 0, KEY) == 0
    assert encoders.padding(7, 1, KEY) == 1
