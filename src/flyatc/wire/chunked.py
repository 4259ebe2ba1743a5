"""The chunked coding (RFC 9112 §7.1): a strict decoder, and an encoder. Framing is never copied from input. Pure."""

import re

from flyatc.wire import header_names
from flyatc.wire.errors import BadMessage

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LONGEST_SIZE_LINE = 1024
_LONGEST_TRAILERS = 16384
_PLAIN_SIZE_LINE = 16  # octets; a longer one has extensions
_MOST_EXTENSIONS = 16384  # octets of lines with extensions, less twice the data that they announce
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
LAST = b"0\r\n\r\n"


class Decoder:
    """Decodes the bytes after a head. ``rest``: the bytes that followed the message, once it is ``done``."""

    __slots__ = ("_ending", "_extensions", "_held", "_left", "_trailers", "_trailers_size", "done", "rest")

    def __init__(self) -> None:
        self._held = b""
        self._left = 0  # of the present chunk
        self._ending = False  # a chunk's data has ended, its CRLF has not arrived
        self._trailers: list[bytes] | None = None
        self._trailers_size = self._extensions = 0
        self.done, self.rest = False, b""

    @property
    def trailers(self) -> list[bytes]:
        """The trailer lines, without those that a trailer may not carry."""
        return _trailer_lines(self._trailers or [])

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of the body in ``data``, none of them empty. Raises BadMessage."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end or not (self._left or self._ending):
            if self._left:
                piece = data[at : at + self._left] if at or self._left < end else data
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._ending = not self._left
                continue
            if self._ending:
                if end - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise BadMessage(400, "a chunk is longer than its size says")
                at, self._ending = at + 2, False
                continue
            stop = data.find(b"\r\n", at)
            if stop < 0:
                self._check_held(data, at)
                break
            line, at = data[at:stop], stop + 2
            if self._trailers is None:
                self._size(line)
            elif line:
                self._trailer(line)
            else:
                self.done, self.rest = True, data[at:]
                return pieces
        self._held = data[at:]
        return pieces

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadMessage(400, "a chunk's size is not a hexadecimal number")
        self._left = int(match[1], 16)
        if len(line) > _PLAIN_SIZE_LINE:
            self._extensions = max(0, self._extensions + len(line) - 2 * self._left)
            if self._extensions > _MOST_EXTENSIONS:
                raise BadMessage(400, "the chunk extensions are larger than the data")
        if not self._left:
            self._trailers = []

    def _trailer(self, line: bytes) -> None:
        assert self._trailers is not None
        self._trailers_size += len(line)
        if self._trailers_size > _LONGEST_TRAILERS:
            raise BadMessage(431, "the trailers are too large")
        self._trailers.append(line)

    def _check_held(self, data: bytes, at: int) -> None:
        longest = _LONGEST_SIZE_LINE if self._trailers is None else _LONGEST_TRAILERS
        if len(data) - at > longest or b"\n" in data[at:]:
            raise BadMessage(400, "a line of the chunked coding does not end")


def encode(pieces: list[bytes]) -> bytes:
    """Return one chunk of all the pieces; empty if they are (an empty chunk would end the body)."""
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def last(trailers: list[bytes]) -> bytes:
    """Return the last chunk with the trailer lines, each ended by CR LF."""
    return b"0\r\n" + b"".join(trailers) + b"\r\n" if trailers else LAST


def _trailer_lines(lines: list[bytes]) -> list[bytes]:
    """Return trailer fields as header lines, without those that a trailer may not carry. Raises BadMessage."""
    kept = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadMessage(400, "a trailer is not a header field")
        if header_names.is_trailer(match[1].lower().replace(b"_", b"-")):
            kept.append(match[1] + b": " + match[2].rstrip(b" \t") + b"\r\n")
    return kept
