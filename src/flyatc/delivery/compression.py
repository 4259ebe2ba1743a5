"""Decide whether and how to compress a response, and rewrite its head (RFC 9110 §8.4, §12.5.3). Pure.

A HEAD gets the same head as the GET (RFC 9110 §9.3.2), including Content-Encoding: a cache that sees another ETag or
Content-Length must treat its stored response as stale (RFC 9111 §4.3.5).

All media types are compressible except those known to be compressed already, as in thruster. Added to its exceptions:
woff and woff2, office documents, packages and disk images, PDF (deflated inside, and read in ranges, which encoded
responses do not support), and application/octet-stream (unknown, mostly archives for download).
"""

import functools
import re
from typing import NamedTuple

from flyatc.config.schema_sections import Coding, Compression
from flyatc.delivery import conditional, encoders
from flyatc.wire import head

OPT_OUT = b"no-gzip-compression"  # response header (from thruster) that disables compression

_DIGESTS = (b"digest", b"content-md5", b"content-digest", b"repr-digest")  # of the encoded octets: RFC 9530 §2, §3
_UNTRUE = frozenset((b"content-length", b"accept-ranges", OPT_OUT, *_DIGESTS))
_OWN = frozenset((OPT_OUT,))
_OPT_OUT_LINE = b"\r\n" + OPT_OUT + b":"
_VARY = b"\r\nVary: Accept-Encoding"
_TYPE = b"\r\nContent-Type: "


class Plan(NamedTuple):
    """The compression of one response, and the reason."""

    coding: Coding | None  # None: the body is sent as it is
    why: str
    flushes: bool = False  # the length is unknown: each piece from the app is sent at once
    weak: bool = False  # a strong ETag becomes weak: it identified the unencoded body

    def apply(self, answer: head.ResponseHead) -> None:
        """Rewrite the response's header lines. With a coding, Content-Length is removed: the caller sets it, or sends
        chunks."""
        block = b"".join(answer.kept).lower()
        if self.coding is None and not self.weak and b"\r\nvary:" not in block and _OPT_OUT_LINE not in block:
            answer.kept = [*answer.kept, _VARY]
            return
        cut = _OWN if self.coding is None else _UNTRUE
        kept: list[bytes] = []
        varies: list[int] = []
        for name, line in conditional.lines(answer.kept):
            if name in cut:
                continue
            if name == b"vary":
                varies.append(len(kept))
            kept.append(_weakened(line) if self.weak and name == b"etag" else line)
        _vary(kept, varies)
        if self.coding is not None:
            answer.noted = {name: values for name, values in answer.noted.items() if name != b"content-length"}
            kept.append(b"\r\nContent-Encoding: " + self.coding.encode())
        answer.kept = kept

    def trailers(self, lines: list[bytes]) -> list[bytes]:
        """The trailer lines (``Name: value CR LF``) that remain valid for the encoded body."""
        if self.coding is None:
            return lines
        return [line for line in lines if line.partition(b":")[0].lower() not in _DIGESTS]


CROWDED = Plan(None, "as many bodies are being compressed as memory permits")
_NOT_ASKED = Plan(None, "the client accepts no coding that is offered")
_NO_BODY = Plan(None, "a response without a body")
_PART = Plan(None, "a part of a body")
_OF_UNKNOWN_LENGTH = Plan(None, "HEAD, and the length is unknown")
_UNCHANGED = Plan(None, "not modified")
_UNCHANGED_ENCODED = Plan(None, "not modified, and the client has it encoded", weak=True)


def wanted(request: head.RequestHead, answer: head.ResponseHead, settings: Compression) -> Plan | None:
    """The plan for a response, or None if it does not depend on Accept-Encoding, for any client.

    A plan must be applied even without a coding, since unencoded responses need Vary too (RFC 9110 §12.5.5)."""
    status = answer.status
    if not settings.enabled or status < 200 or status == 204 or small(answer, settings.min_size):
        return None
    kind = _value(answer, _TYPE, b"content-type")
    if not (status == 304 if kind is None else compressible(kind)):
        return None
    if status == 304:
        return _not_modified(request, answer)
    accepted = request.joined(b"accept-encoding")
    coding = None if accepted is None else negotiate(accepted, tuple(settings.codings))
    if coding is None:
        return _NOT_ASKED
    return _too_little(request, answer) or _judged(request, answer, settings, coding)


def small(answer: head.ResponseHead, least: int) -> bool:
    """Return whether the response is too small to be compressed. Cheap, since most are small. The length of a 304 is
    meaningless."""
    return answer.length < least and b"content-length" in answer.noted and answer.status != 304


def _too_little(request: head.RequestHead, answer: head.ResponseHead) -> Plan | None:
    """The plan if there is no body, only a part of one, or a HEAD without a length; else None."""
    if answer.status in (205, 206):
        return _NO_BODY if answer.status == 205 else _PART
    if answer.framing not in (head.NEVER, head.LENGTH) or b"transfer-encoding" in answer.noted:
        return None
    if b"content-length" not in answer.noted:
        return _OF_UNKNOWN_LENGTH if request.method == b"HEAD" else _NO_BODY
    return None if answer.length else _NO_BODY


def _judged(request: head.RequestHead, answer: head.ResponseHead, settings: Compression, coding: Coding) -> Plan:
    asked, answered = b"".join(request.kept).lower(), b"".join(answer.kept).lower()
    if (why := _refusal(asked, answered) or _secret(asked, answered, settings)) is not None:
        return Plan(None, why)
    return Plan(coding, f"the client accepts {coding}", answer.framing in (head.CHUNKED, head.UNTIL_CLOSE), weak=True)


def _refusal(asked: bytes, answered: bytes) -> str | None:
    """The reason not to compress, or None. Both heads in lower case; searching is ten times cheaper than parsing."""
    if b"\r\ncontent-encoding:" in answered:  # "identity" too: the app has decided
        return "the app has set Content-Encoding"
    if b"\r\ncontent-range:" in answered:
        return _PART.why
    if _OPT_OUT_LINE in answered:
        return "the app forbids compression"
    for side in (asked, answered):  # RFC 9111 §5.2.1.6, §5.2.2.6
        if b"no-transform" in side and encoders.forbids_transformation(conditional.parse_fields([side])):
            return "no-transform"
    return None


def _secret(asked: bytes, answered: bytes, settings: Compression) -> str | None:
    if not settings.disable_on_auth:
        return None
    if encoders.asked_with_secrets(conditional.parse_fields([asked])) or encoders.answered_with_secrets(
        conditional.parse_fields([answered])
    ):
        return "it may contain a secret"
    return None


def _not_modified(request: head.RequestHead, answer: head.ResponseHead) -> Plan:
    """The plan for a 304: with the Vary of the 200 (RFC 9110 §15.4.5), for any media type, as few apps repeat it.

    Also with the weakened ETag if the client sent it: a cache selects its stored response by it (RFC 9111 §4.3.4)."""
    tag, known = answer.line(b"etag"), request.line(b"if-none-match")
    if tag is not None and known is not None and tag[:1] == b'"' and b"W/" + tag in known:
        return _UNCHANGED_ENCODED
    return _UNCHANGED


def _value(of: head.Head, usual: bytes, name: bytes) -> bytes | None:
    """The value of a header's first line; ``usual``: the usual spelling of the line's start, found fast."""
    block = b"".join(of.kept)
    at = block.find(usual)
    if at < 0:
        usual, block = b"\r\n" + name + b":", block.lower()
        at = block.find(usual)
        if at < 0:
            return None
    at += len(usual)
    end = block.find(b"\r\n", at)
    value = block[at : end if end >= 0 else len(block)]
    return value.strip(b" \t")


def _weakened(line: bytes) -> bytes:
    tag = line.partition(b":")[2].strip(b" \t")
    return b"\r\nETag: W/" + tag if tag[:1] == b'"' else line


def _vary(lines: list[bytes], places: list[int]) -> None:
    """Add Accept-Encoding to the app's Vary lines, at ``places``: once, and not to ``*``."""
    if not places:
        lines.append(_VARY)
        return
    values = [lines[place].partition(b":")[2].strip(b" \t") for place in places]
    if {b"*", b"accept-encoding"}.isdisjoint(head.tokens(values)):
        lines[places[-1]] = b"\r\nVary: " + b", ".join(filter(None, (values[-1], b"Accept-Encoding")))


LONGEST = 512  # octets; longer headers are ignored: browsers send about thirty
MEMO = 256  # memoized headers

_Q = re.compile(rb"(0(?:\.[0-9]*)?|1(?:\.0*)?)")
_OTHER_NAMES = {b"x-gzip": b"gzip"}  # RFC 9110 §8.4.1.3


def negotiate(accept_encoding: bytes | None, offered: tuple[Coding, ...]) -> Coding | None:
    """Return the coding with the highest weight, or None to send the body as it is.

    Among equals the first in ``offered``, and any coding rather than none. Without the header nothing is encoded,
    though the RFC permits it: clients that do not ask often cannot decode. A header that is too long or malformed
    counts as a refusal."""
    if not accept_encoding or len(accept_encoding) > LONGEST:
        return None
    return _choose(accept_encoding, offered)


@functools.lru_cache(MEMO)
def _choose(accept_encoding: bytes, offered: tuple[Coding, ...]) -> Coding | None:
    weights = _weights(accept_encoding)
    named = [(weights[coding.encode()], coding) for coding in offered if coding.encode() in weights]
    unnamed = [coding for coding in offered if coding.encode() not in weights]
    if b"*" in weights and unnamed:
        # "*" accepts any coding; gzip is the most widely supported. At equal weights it comes after the named ones.
        named.append((weights[b"*"], "gzip" if "gzip" in unnamed else unnamed[0]))
    best, chosen = max(named, key=lambda one: one[0], default=(0.0, None))  # of equals, the first
    as_it_is = weights.get(b"identity", 0.0)
    return chosen if best > 0 and best >= as_it_is else None


def _weights(accept_encoding: bytes) -> dict[bytes, float]:
    """Lower-case name → weight; for a repeated name the lowest."""
    weights: dict[bytes, float] = {}
    for member in accept_encoding.lower().split(b","):
        name, *parameters = (part.strip(b" \t") for part in member.split(b";"))
        if name:
            name = _OTHER_NAMES.get(name, name)
            weights[name] = min(_weight(parameters), weights.get(name, 1.0))
    return weights


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key.rstrip(b" \t") == b"q":
            match = _Q.fullmatch(value.lstrip(b" \t"))
            return float(match[1]) if match else 0.0
    return 1.0


_PACKED = re.compile(rb"compress|zip|snappy|lzma|xz|zstd|brotli|stuffit|lz4|7z|rar\b")
_NEVER = re.compile(
    rb"(?:application/(?:"
    rb"octet-stream|pdf|ogg|mp4|vnd\.apple\.pkpass|vnd\.android\.package-archive|java-archive|x-java-archive"
    rb"|(?:x-)?font-woff2?|vnd\.openxmlformats-officedocument\..*|vnd\.oasis\.opendocument\..*|vnd\.ms-[a-z]+\..*macroenabled.*"
    rb"|x-apple-diskimage|x-iso9660-image|x-rpm|x-redhat-package-manager|(?:x-|vnd\.)debian.*|x-deb|x-xpinstall"
    rb"|x-shockwave-flash|x-chrome-extension|grpc.*)"
    rb"|font/woff2?|video/.*|audio/.*|multipart/(?:x-mixed-replace|byteranges))"
)
_IMAGES = re.compile(rb"image/(?:svg\+xml|x-icon|vnd\.microsoft\.icon|bmp|x-bmp|x-ms-bmp|tiff)")


LONGEST_TYPE = 128  # octets; a longer Content-Type counts as incompressible


def compressible(content_type: bytes) -> bool:
    """Return whether the media type is compressible. Parameters and case of ``content_type`` are ignored."""
    return len(content_type) <= LONGEST_TYPE and _judge(content_type)


@functools.lru_cache(256)
def _judge(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if b"/" not in kind:
        return False
    if kind.startswith(b"text/"):
        return True
    if kind.startswith(b"image/"):
        return _IMAGES.fullmatch(kind) is not None
    return _NEVER.fullmatch(kind) is None and _PACKED.search(kind) is None
