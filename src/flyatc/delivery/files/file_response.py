"""Responses for a file: 200, 206, 304, 412 or 416 (RFC 9110 §13-§15); and media types.

The media type depends on the file name only. It is the same on every machine: /etc/mime.types is not read.
"""

import mimetypes
import os
import secrets
from typing import NamedTuple

from flyatc.delivery import conditional
from flyatc.delivery.files.open_file import Opened
from flyatc.wire import head

Line = tuple[bytes, bytes]  # (lower-case name, the whole line begun by CR LF), as from ``conditional.lines``

UNTRUE_TIME = 1  # reproducible builds set all times to 0 or 1: such times do not identify a content
_OURS = frozenset((b"content-length", b"content-range", b"last-modified", b"accept-ranges"))
_STAYS = (b"content-location", b"content-security-policy", b"content-security-policy-report-only")
_OF_THE_WHOLE = frozenset((b"cache-control", b"expires", b"etag", b"last-modified"))


class FileResponse(NamedTuple):
    """A response for a file.

    ``lines``: header lines, each preceded by CR LF, with Content-Length (except for 304), without Date, Connection and
    X-Request-Id. ``pieces``: the body, literal or as spans of ``file``. ``file``: closed by its sender
    (``send_file.send``); None if no piece needs it. ``length``: octets of all pieces."""

    status: int
    lines: list[bytes]
    pieces: list[bytes | conditional.Span]
    length: int
    file: Opened | None

    def body(self) -> bytes:
        """Read the whole body and close the file; for short bodies. Raises EOFError if the file has shrunk."""
        try:
            return b"".join(piece if isinstance(piece, bytes) else self._read(piece) for piece in self.pieces)
        finally:
            self.close()

    def _read(self, span: conditional.Span) -> bytes:
        assert self.file is not None
        data = os.pread(self.file.fd, span.stop - span.start, span.start)
        if len(data) < span.stop - span.start:
            raise EOFError
        return data

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class FileRefused(NamedTuple):
    """A refusal: 403, 404, 405 (with ``Allow: GET, HEAD``) or 500, without the app's Cache-Control and ETag.

    ``reason``: for the log, not for the client; ``loud``: log it as a warning for the operator."""

    status: int
    reason: str
    loud: bool


def build(
    file: Opened,
    request: head.RequestHead,
    kept: list[Line],
    *,
    status: int,
    now: float,
    packed: bytes | None = None,
) -> FileResponse:
    """Build the response. Takes ownership of the file.

    ``kept``: the header lines so far; those that the file determines are replaced. ``packed``: the file's content in
    the content-coding named in ``kept``; no ranges of it are served. With a status other than 200 the whole file is the
    body. Conditions apply to GET and HEAD only, ranges to GET only (§14.2)."""
    modified = file.modified // 1_000_000_000
    lines = [line for line in kept if line[0] not in _OURS]
    known = None
    if modified > UNTRUE_TIME:
        known = min(modified, int(now))  # never later than Date (§8.8.2.1)
        lines.append((b"last-modified", b"\r\nLast-Modified: " + conditional.write(known)))
    if status != 200 or request.method not in (b"GET", b"HEAD"):
        return _whole(file, request, lines, status)
    if packed is None:
        lines.append((b"accept-ranges", b"\r\nAccept-Ranges: bytes"))
    if known is not None and _value(lines, b"etag") is None:
        lines.append((b"etag", b"\r\nETag: " + _etag(file, lines)))
    asked = conditional.parse_fields(request.kept)
    having = conditional.Validators(_value(lines, b"etag"), known)
    verdict = conditional.judge(asked, request.method, having)
    if verdict.status:
        return _bodiless(file, lines, verdict.status)
    if packed is not None:
        return _packed(file, request, lines, packed)
    wanted = asked.get(b"range")
    if wanted is None or request.method == b"HEAD" or not conditional.range_holds(asked.get(b"if-range"), having, now):
        return _whole(file, request, lines, 200)
    spans = conditional.parse_range(wanted, file.size)
    if spans is None:
        return _whole(file, request, lines, 200)
    return _parts(file, lines, spans)


def _whole(file: Opened, request: head.RequestHead, lines: list[Line], status: int) -> FileResponse:
    out = [line for _, line in lines]
    out.append(b"\r\nContent-Length: %d" % file.size)
    if request.method == b"HEAD" or not file.size:
        file.close()
        return FileResponse(status, out, [], 0, None)
    return FileResponse(status, out, [conditional.Span(0, file.size)], file.size, file)


def _packed(file: Opened, request: head.RequestHead, lines: list[Line], packed: bytes) -> FileResponse:
    file.close()
    out = [line for _, line in lines]
    out.append(b"\r\nContent-Length: %d" % len(packed))
    if request.method == b"HEAD":
        return FileResponse(200, out, [], 0, None)
    return FileResponse(200, out, [packed], len(packed), None)


def _bodiless(file: Opened, lines: list[Line], status: int) -> FileResponse:
    """304, 412 or 416: without fields that describe the body (§15.4.5); 412 and 416 also without caching fields."""
    file.close()
    out = [
        line
        for name, line in lines
        if (not name.startswith(b"content-") or name in _STAYS) and (status == 304 or name not in _OF_THE_WHOLE)
    ]
    if status != 304:
        out.append(b"\r\nContent-Length: 0")
    return FileResponse(status, out, [], 0, None)


def _parts(file: Opened, lines: list[Line], spans: list[conditional.Span]) -> FileResponse:
    if not spans:
        size = file.size
        answer = _bodiless(file, lines, 416)
        answer.lines.append(b"\r\nContent-Range: " + conditional.unsatisfied(size))
        return answer
    if len(spans) == 1:
        out = [line for _, line in lines]
        length = spans[0].stop - spans[0].start
        out.append(
            b"\r\nContent-Range: %b\r\nContent-Length: %d" % (conditional.content_range(spans[0], file.size), length)
        )
        return FileResponse(206, out, [spans[0]], length, file)
    return _several(file, lines, spans)


def _several(file: Opened, lines: list[Line], spans: list[conditional.Span]) -> FileResponse:
    boundary = secrets.token_hex(12).encode()  # cannot be put into a file beforehand
    parts = conditional.multipart(spans, file.size, _value(lines, b"content-type"), boundary)
    out = [line for name, line in lines if name != b"content-type"]
    out.append(b"\r\nContent-Type: %b\r\nContent-Length: %d" % (parts.kind, parts.length))
    pieces: list[bytes | conditional.Span] = []
    for part_head, span in zip(parts.heads, spans, strict=True):
        pieces += [part_head, span]
    pieces.append(parts.end)
    return FileResponse(206, out, pieces, parts.length, file)


def _etag(file: Opened, lines: list[Line]) -> bytes:
    """A strong ETag: modification time (ns) and size distinguish contents, the content-coding encodings."""
    coding = _value(lines, b"content-encoding")
    return b'"%x-%x%b"' % (file.modified, file.size, b"" if coding is None else b"-" + coding)


def _value(lines: list[Line], name: bytes) -> bytes | None:
    return next((line.partition(b":")[2].strip(b" \t") for given, line in lines if given == name), None)


UNKNOWN = b"application/octet-stream"  # browsers save it, and do not treat it as a page

_OWN_TYPES = {  # missing or outdated in Python's table
    "apng": "image/apng",
    "avif": "image/avif",
    "br": "application/octet-stream",
    "bz2": "application/x-bzip2",
    "cjs": "text/javascript",
    "flac": "audio/flac",
    "gz": "application/gzip",
    "heic": "image/heic",
    "ico": "image/x-icon",
    "js": "text/javascript",
    "jsonld": "application/ld+json",
    "jxl": "image/jxl",
    "m4a": "audio/mp4",
    "map": "application/json",
    "md": "text/markdown",
    "mjs": "text/javascript",
    "ogg": "audio/ogg",
    "otf": "font/otf",
    "rss": "application/rss+xml",
    "toml": "application/toml",
    "ttf": "font/ttf",
    "vtt": "text/vtt",
    "wasm": "application/wasm",
    "webm": "video/webm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xz": "application/x-xz",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zst": "application/zstd",
}


def _line(kind: str) -> bytes:
    return (kind + "; charset=utf-8" if kind.startswith("text/") else kind).encode()


mimetypes.inited = True  # else MimeTypes, here and in aiohttp, has all of /etc/mime.types read, which nothing uses
_TYPES = {
    ending.removeprefix(".").encode(): _line(kind) for ending, kind in mimetypes.MimeTypes().types_map[True].items()
} | {ending.encode(): _line(kind) for ending, kind in _OWN_TYPES.items()}


def of(name: bytes) -> bytes:
    """The Content-Type of a file name or path: ``b"app-1f.css"`` → ``b"text/css; charset=utf-8"``."""
    stem, dot, ending = name.rpartition(b".")
    if not dot or stem.endswith(b"/") or not stem:
        return UNKNOWN
    return _TYPES.get(ending.lower(), UNKNOWN)
