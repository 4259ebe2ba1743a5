"""Streaming gzip, brotli and zstd encoders, with padding against BREACH. Pure.

Levels, measured on a 20 KB table of a Rails app and a 20 KB page of documentation, beside nginx 1.22's gzip 6 (199 µs,
7.3 times smaller; 368 µs, 3.2):
zstd 3: 36 µs, 7.3; 72 µs, 3.0. From 5 on it takes three times as long for 3 %.
gzip of zlib-ng 5: 88 µs, 7.4; 170 µs, 3.2. The standard library's needs 245 µs for it; isal's 25 µs, but 13 % larger.
brotli 5: 224 µs, 8.2; 477 µs, 3.4. Below 5 it is slower than gzip for the same size.

BREACH (breachattack.com): the length of a compressed page reveals a secret in it to an attacker who can inject guesses
into the page and observe lengths. Two defenses: padding, and no compression for logged-in users.
"""

import hashlib
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator

import brotli  # type: ignore[import-untyped]
import zstandard
from zlib_ng import zlib_ng

from flyatc.config.schema_sections import Coding
from flyatc.delivery.conditional import Fields

SLICE = 32 * 1024  # octets encoded in one step: 1 ms at most, with any coding

_GZIP_LEVEL, _BROTLI_LEVEL, _ZSTD_LEVEL = 5, 5, 3
_ZSTD = zstandard.ZstdCompressionParameters.from_level(_ZSTD_LEVEL)
_ZSTD_OPEN = zstandard.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, source_size=128 * 1024)  # half the memory
_SKIPPED = 0x184D2A50  # magic number of a frame that decoders skip (RFC 8878 §3.1.2)
_RESTING = 8  # contexts of zstd kept for the next body; 0.8 MB each
MOST_OPEN = 64 << 20  # octets of all encoders of bodies that are under way
# Octets of one encoder, measured (one of zstd for bodies of unknown length: _OPEN_OCTETS).
_OCTETS: dict[Coding, int] = {"gzip": 350_000, "zstd": 2_800_000, "br": 3_200_000}
_OPEN_OCTETS = 650_000


class Encoder(ABC):
    """Encoder of one body: pass its pieces in order to ``feed`` or ``slices``, then call ``finish`` once.

    With ``flushes``, all data passed so far can be decoded once ``feed`` has returned. ``octets``: its memory, counted
    by ``Encoders``."""

    __slots__ = ("_checksum", "_flushes", "_jitter", "_key", "_unsampled", "octets")

    octets: int

    def __init__(self, flushes: bool, jitter: int, key: bytes) -> None:
        self._flushes, self._jitter, self._key = flushes, jitter, key
        self._checksum, self._unsampled = 0, SAMPLE if jitter else 0

    def feed(self, data: bytes) -> bytes:
        return b"".join(self.slices(data))

    def slices(self, data: bytes) -> Iterator[bytes]:
        """Like ``feed``, in steps of at most 1 ms, so that the loop can run in between; for large pieces.

        A step may yield b"". The iterator must be exhausted before the next piece."""
        for start in range(0, len(data), SLICE):
            part = data[start : start + SLICE]
            if self._unsampled:
                sample = part[: self._unsampled]
                self._checksum = zlib_ng.crc32(sample, self._checksum)
                self._unsampled -= len(sample)
            made = self._encode(part)
            yield made + self._flush() if self._flushes and start + SLICE >= len(data) else made

    @abstractmethod
    def finish(self) -> bytes:
        """The rest of the body, with the padding."""

    @abstractmethod
    def _encode(self, data: bytes) -> bytes: ...

    @abstractmethod
    def _flush(self) -> bytes: ...

    def _padding(self) -> int:
        return padding(self._checksum, self._jitter, self._key)


class Gzip(Encoder):
    """RFC 1952. The padding is the header's comment, so nothing goes out before the sample is complete or flushed."""

    __slots__ = ("_deflate", "_held", "_size", "_sum")

    def __init__(self, flushes: bool, jitter: int, key: bytes) -> None:
        super().__init__(flushes, jitter, key)
        self._deflate = zlib_ng.compressobj(_GZIP_LEVEL, zlib_ng.DEFLATED, -15)
        self._held: list[bytes] | None = []  # None: the header is out
        self._size = self._sum = 0

    def finish(self) -> bytes:
        return self._behind_header(self._deflate.flush(), now=True) + struct.pack(
            "<LL", self._sum, self._size & 0xFFFFFFFF
        )

    def _encode(self, data: bytes) -> bytes:
        self._sum, self._size = zlib_ng.crc32(data, self._sum), self._size + len(data)
        return self._behind_header(self._deflate.compress(data), now=not self._unsampled)

    def _flush(self) -> bytes:
        return self._behind_header(self._deflate.flush(zlib_ng.Z_SYNC_FLUSH), now=True)

    def _behind_header(self, data: bytes, *, now: bool) -> bytes:
        if self._held is None:
            return data
        self._held.append(data)
        if not now:
            return b""
        octets = self._padding()
        flags, comment = (0x10, filler(octets) + b"\0") if octets else (0, b"")
        header = b"\x1f\x8b\x08%c\0\0\0\0\0\xff%b" % (flags, comment)  # no time, no system
        data, self._held = header + b"".join(self._held), None
        return data


class Zstd(Encoder):
    """RFC 8878. The padding is a frame that decoders skip, at the end."""

    __slots__ = ("_compressor", "_frame", "_resting")

    def __init__(
        self, flushes: bool, jitter: int, key: bytes, compressor: zstandard.ZstdCompressor, resting: "_Resting"
    ) -> None:
        super().__init__(flushes, jitter, key)
        self._compressor, self._resting = compressor, resting
        self._frame = compressor.compressobj()

    def finish(self) -> bytes:
        data = self._frame.flush()
        self._resting.take_back(self._compressor)
        return data + _skipped(self._padding())

    def _encode(self, data: bytes) -> bytes:
        return self._frame.compress(data)

    def _flush(self) -> bytes:
        return self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


class Brotli(Encoder):
    """RFC 7932. The padding is a meta-block of metadata (§9.2), before the last one."""

    __slots__ = ("_stream", "_unflushed")

    def __init__(self, flushes: bool, jitter: int, key: bytes) -> None:
        super().__init__(flushes, jitter, key)
        self._stream = brotli.Compressor(quality=_BROTLI_LEVEL)
        self._unflushed = 0

    def finish(self) -> bytes:
        octets = self._padding()
        padding = self._stream.flush() + _metadata(octets) if octets else b""
        last: bytes = self._stream.finish()
        return padding + last

    def _encode(self, data: bytes) -> bytes:
        made: bytes = self._stream.process(data)
        self._unflushed += len(data)
        return made + self._flush() if self._unflushed >= SLICE else made

    def _flush(self) -> bytes:
        """Flush. Also done once per SLICE, for 1 % of the size: else up to 10 ms of work would remain for the end."""
        self._unflushed = 0
        made: bytes = self._stream.flush()
        return made


class _Resting:
    """Pool of idle zstd contexts: a new one costs as much as encoding a small page."""

    __slots__ = ("_compressors", "_parameters")

    def __init__(self, parameters: zstandard.ZstdCompressionParameters) -> None:
        self._compressors: list[zstandard.ZstdCompressor] = []
        self._parameters = parameters

    def lend(self) -> zstandard.ZstdCompressor:
        if self._compressors:
            return self._compressors.pop()
        return zstandard.ZstdCompressor(compression_params=self._parameters)

    def take_back(self, compressor: zstandard.ZstdCompressor) -> None:
        """Return a context to the pool, only after a finished frame."""
        if len(self._compressors) < _RESTING:
            self._compressors.append(compressor)


class Encoders:
    """Factory of encoders. ``key``: 16 to 64 secret octets, for the padding. Not thread-safe.

    Streams that last for hours keep their encoders: 2,000 of brotli would take 6 GB. So ``stream`` is called only if
    there is ``room``, and each of its encoders is given back (``release``)."""

    __slots__ = ("_key", "_open", "_resting", "_used", "_whole")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._whole = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)  # fits itself to each size
        self._resting, self._open = _Resting(_ZSTD), _Resting(_ZSTD_OPEN)
        self._used = 0  # octets of all encoders not yet given back

    @property
    def room(self) -> bool:
        """Return whether there is memory for one more stream; if not, bodies are sent as they are."""
        return self._used < MOST_OPEN

    def release(self, encoder: Encoder) -> None:
        """Count the memory of an encoder of ``stream`` no longer: its body has ended, or was given up."""
        self._used -= encoder.octets
        encoder.octets = 0

    def stream(self, coding: Coding, *, flushes: bool, jitter: int) -> Encoder:
        """Create an encoder. ``flushes``: emit data at once (unknown length); ``jitter``: most octets of padding."""
        small = coding == "zstd" and (flushes or self._used > MOST_OPEN // 2)
        encoder = self._made(coding, flushes, jitter, self._open if small else self._resting)
        encoder.octets = _OPEN_OCTETS if small else _OCTETS[coding]
        self._used += encoder.octets
        return encoder

    def _made(self, coding: Coding, flushes: bool, jitter: int, resting: _Resting) -> Encoder:
        if coding == "gzip":
            return Gzip(flushes, jitter, self._key)
        if coding == "br":
            return Brotli(flushes, jitter, self._key)
        return Zstd(flushes, jitter, self._key, resting.lend(), resting)

    def whole(self, coding: Coding, body: bytes, *, jitter: int) -> bytes:
        """Encode a whole body. Blocks the loop for 10 to 30 µs per KB: above 64 KB use ``stream`` and ``slices``."""
        if coding == "zstd":  # its header then has the size: the client needs no window of 2 MB
            checksum = zlib_ng.crc32(body[:SAMPLE]) if jitter else 0
            return self._whole.compress(body) + _skipped(padding(checksum, jitter, self._key))
        encoder = self._made(coding, False, jitter, self._resting)
        return encoder.feed(body) + encoder.finish()


def _skipped(octets: int) -> bytes:
    return struct.pack("<LL", _SKIPPED, octets) + filler(octets) if octets else b""


def _metadata(octets: int) -> bytes:
    """RFC 7932 §9.2. Bits, the lowest first: not the last 0, metadata 11, 0, octets of the length, length - 1."""
    wide = 2 if octets > 256 else 1  # the highest octet of the length must not be 0
    header: int = 0b0110 | wide << 4 | (octets - 1) << 6
    return header.to_bytes(wide + 1, "little") + filler(octets)


SAMPLE = 65536  # octets of a body on which its padding depends


def _member(names: bytes) -> re.Pattern[bytes]:
    """Finds a member of a list, with or without a value (a search in C: lists may have thousands of members)."""
    return re.compile(rb"(?:^|,)[ \t]*(?:%b)[ \t]*(?:[,=]|$)" % names, re.IGNORECASE)


_PRIVATE, _COOKIE, _NO_TRANSFORM = _member(b"private|no-store"), _member(b"cookie"), _member(b"no-transform")
_LOGGED_IN = (b"cookie", b"authorization", b"x-csrf-token")


def padding(checksum: int, most: int, key: bytes) -> int:
    """The number of octets to add: 1..``most``, or 0 if ``most`` is 0.

    It is the same for the same body (``checksum``: CRC-32 of its sample), so that averaging repeated requests reveals
    nothing; and it is keyed, so that it cannot be computed for a guessed body and subtracted."""
    if most <= 0:
        return 0
    digest = hashlib.blake2b(checksum.to_bytes(4, "big"), key=key, digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % most


def filler(octets: int) -> bytes:
    return (b"Padding-" * (octets // 8 + 1))[:octets]


def asked_with_secrets(request: Fields) -> bool:
    return any(name in request for name in _LOGGED_IN)


def answered_with_secrets(answer: Fields) -> bool:
    """Return whether the response is meant for one client only."""
    return (
        b"set-cookie" in answer
        or _PRIVATE.search(answer.get(b"cache-control", b"")) is not None
        or _COOKIE.search(answer.get(b"vary", b"")) is not None
    )


def forbids_transformation(fields: Fields) -> bool:
    return _NO_TRANSFORM.search(fields.get(b"cache-control", b"")) is not None
