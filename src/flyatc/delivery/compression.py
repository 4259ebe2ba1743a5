"""Whether an answer goes out compressed, and what that makes of its head (RFC 9110 §8.4, §12.5.3). Pure.

A HEAD is judged as the GET would be and gets its very head (RFC 9110 §9.3.2), Content-Encoding too: a cache that sees
another ETag or Content-Length than it has stored must take what it has for stale (RFC 9111 §4.3.5).

Which coding of a body a visitor prefers (RFC 9110 §12.5.3). Pure.

Which kinds of content become smaller when they are compressed. Pure.

All but those which are known to be compressed already, as thruster does. Added to its exceptions: woff and woff2,
office documents, packages and disk images, PDF (deflated inside, and read in ranges, which an encoded answer does not
have), and application/octet-stream (unknown, so mostly a download that is some archive).
"""

import functools
import re
from typing import NamedTuple

from flyatc.config.schema_sections import Coding, Compression
from flyatc.delivery import conditional, encoders
from flyatc.wire import head

OPT_OUT = b"no-gzip-compression"  # an answer's header for us, of thruster's making: this one not

_DIGESTS = (b"digest", b"content-md5", b"content-digest", b"repr-digest")  # all of the encoded octets: RFC 9530 §2, §3
_UNTRUE = frozenset((b"content-length", b"accept-ranges", OPT_OUT, *_DIGESTS))
_OWN = frozenset((OPT_OUT,))
_OPT_OUT_LINE = b"\r\n" + OPT_OUT + b":"
_VARY = b"\r\nVary: Accept-Encoding"
_TYPE = b"\r\nContent-Type: "


class Plan(NamedTuple):
    """What becomes of one answer, and why."""

    coding: Coding | None  # None: the body goes out as it is
    why: str
    flushes: bool = False  # the length is unknown: each piece of the app's is to arrive at once
    weak: bool = False  # a strong ETag becomes weak: it named the octets of the body as it was

    def apply(self, answer: head.ResponseHead) -> None:
        """Puts other header lines in the place of the answer's. With a coding no length is left: the caller says it, or
        sends chunks."""
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
        """Those trailer lines (``Name: value CR LF``) which are still true of the encoded body."""
        if self.coding is None:
            return lines
        return [line for line in lines if line.partition(b":")[0].lower() not in _DIGESTS]


_NOT_ASKED = Plan(None, "the visitor asks for no coding that is offered")
_NO_BODY = Plan(None, "an answer without a body")
_PART = Plan(None, "a part of a body")
_OF_UNKNOWN_LENGTH = Plan(None, "HEAD, and the app does not tell the length")
_UNCHANGED = Plan(None, "not modified")
_UNCHANGED_ENCODED = Plan(None, "not modified, and the visitor has it encoded", weak=True)


def wanted(request: head.RequestHead, answer: head.ResponseHead, settings: Compression) -> Plan | None:
    """None: nothing of this answer depends on Accept-Encoding, for any visitor. A plan is to be applied even without a
    coding: also the answers that go out as they are must tell that others may not (Vary, RFC 9110 §12.5.5)."""
    status = answer.status
    if not settings.enabled or status < 200 or status == 204 or _small(answer, settings.min_size):
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


def _small(answer: head.ResponseHead, least: int) -> bool:
    """Most answers of most apps are, and should not pay for more than this look. Of a 304 the length says nothing."""
    return answer.length < least and b"content-length" in answer.noted and answer.status != 304


def _too_little(request: head.RequestHead, answer: head.ResponseHead) -> Plan | None:
    """A plan where there is no body, or a part of one, or nobody knows."""
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
    return Plan(coding, f"the visitor takes {coding}", answer.framing in (head.CHUNKED, head.UNTIL_CLOSE), weak=True)


def _refusal(asked: bytes, answered: bytes) -> str | None:
    """Both heads in lower case. Searched before they are taken apart, which costs ten times as much."""
    if b"\r\ncontent-encoding:" in answered:  # "identity" as well: the app has thought about it
        return "the app has set Content-Encoding"
    if b"\r\ncontent-range:" in answered:
        return _PART.why
    if _OPT_OUT_LINE in answered:
        return "the app does not want it compressed"
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
        return "there may be a secret in it"
    return None


def _not_modified(request: head.RequestHead, answer: head.ResponseHead) -> Plan:
    """A 304 tells Vary as the 200 did (RFC 9110 §15.4.5), of whatever kind: few apps repeat it. And the ETag as
    the visitor knows it, if that is the one we weakened: a cache finds what it has stored by it (RFC 9111 §4.3.4)."""
    tag, known = answer.line(b"etag"), request.line(b"if-none-match")
    if tag is not None and known is not None and tag[:1] == b'"' and b"W/" + tag in known:
        return _UNCHANGED_ENCODED
    return _UNCHANGED


def _value(of: head.Head, usual: bytes, name: bytes) -> bytes | None:
    """The value of a header's first line; ``usual``: the line's begin as nearly everybody writes it, found quickly."""
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
    """Adds Accept-Encoding to the app's own Vary lines, which stand at ``places``: once, and not to ``*``."""
    if not places:
        lines.append(_VARY)
        return
    values = [lines[place].partition(b":")[2].strip(b" \t") for place in places]
    if {b"*", b"accept-encoding"}.isdisjoint(head.tokens(values)):
        lines[places[-1]] = b"\r\nVary: " + b", ".join(filter(None, (values[-1], b"Accept-Encoding")))


LONGEST = 512  # octets of a header worth reading: browsers send about thirty
MEMO = 256  # different headers remembered

_Q = re.compile(rb"(0(?:\.[0-9]*)?|1(?:\.0*)?)")
_OTHER_NAMES = {b"x-gzip": b"gzip"}  # RFC 9110 §8.4.1.3


def negotiate(accept_encoding: bytes | None, offered: tuple[Coding, ...]) -> Coding | None:
    """The coding with the highest weight, or None: as it is. Among equals the one which ``offered`` names first, and
    any coding rather than none.

    Without the header nothing is encoded, though the RFC would permit it: who does not ask often cannot decode. What is
    too long or malformed counts as refused: the body as it is can be read by everybody."""
    if not accept_encoding or len(accept_encoding) > LONGEST:
        return None
    return _choose(accept_encoding, offered)


@functools.lru_cache(MEMO)
def _choose(accept_encoding: bytes, offered: tuple[Coding, ...]) -> Coding | None:
    weights = _weights(accept_encoding)
    named = [(weights[coding.encode()], coding) for coding in offered if coding.encode() in weights]
    unnamed = [coding for coding in offered if coding.encode() not in weights]
    if b"*" in weights and unnamed:
        # Who writes "*" promises to decode anything; what he surely can is gzip. At equal weights after the named.
        named.append((weights[b"*"], "gzip" if "gzip" in unnamed else unnamed[0]))
    best, chosen = max(named, key=lambda one: one[0], default=(0.0, None))  # of equals, the first
    as_it_is = weights.get(b"identity", 0.0)
    return chosen if best > 0 and best >= as_it_is else None


def _weights(accept_encoding: bytes) -> dict[bytes, float]:
    """Lower-case name → weight; of a name given twice the lower one."""
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


LONGEST_TYPE = 128  # octets of a Content-Type; a longer one is taken for something that does not become smaller


def compressible(content_type: bytes) -> bool:
    """``content_type``: the header's value; parameters and case do not matter."""
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
