"""Cache key, selection fields and Cache-Control of a request. Pure."""

import re
from collections.abc import Mapping

from flyatc.delivery import conditional
from flyatc.delivery.cache import policy, vary
from flyatc.wire import head

Uri = tuple[str, bytes, bytes, bytes | None]  # tenant, host in lower case, raw path, raw query
Origin = tuple[bytes, ...]
Variant = tuple[bytes | None, Origin]  # of a plain request: the raw Accept-Encoding, or None, and its origin
Selector = tuple[bytes, Origin, vary.Names, vary.Values]  # method, or PART; see _ADDRESS; names and values of Vary

PART = b"PART"  # in place of the method, of a response that is only a part of the body

# One search for all header lines that matter to the cache: most requests have none, and need no more work.
MARKS = re.compile(
    rb"\r\n(?=[acfirx])(range:|if-(?:none-)?match:|if-(?:un)?modified-since:|cache-control:[^\r]*|authorization:"
    rb"|(?:x|front)[-_][^\r]*)",
    re.IGNORECASE,
)
_MAY_BE_ADDRESS = b"xXfF"  # how such lines among them begin
_CONDITIONS = frozenset((b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"))
_FOR_THE_APP = frozenset((b"if-match", b"if-unmodified-since"))
_CONTROL = len(b"cache-control:")
_MATTERS = frozenset((b"range", *_FOR_THE_APP))  # even where nothing is stored
_NONE: frozenset[bytes] = frozenset()

# Apps also build links, redirects and routes from these headers, so they are part of the key: otherwise a client could
# poison the cache for all by sending one. Python and Ruby take "_" for "-".
_ADDRESS = re.compile(rb"(?:x[-_](?:forwarded|original|rewrite|http[-_]method|method|url|host)|front[-_]end[-_]https)")
_NOTED = (b"x-forwarded-proto", b"x-forwarded-host")


def plain_origin(request: head.RequestHead) -> Origin | None:
    """Return ``CacheRequest.origin`` of a request that has no other header of MARKS; None if it has one."""
    noted, kept = request.noted, request.kept
    found = MARKS.findall(kept[0] if len(kept) == 1 else b"".join(kept))
    for mark in found:
        if mark[0] not in _MAY_BE_ADDRESS:
            return None
    return _origin(noted, found) if found or not noted.keys().isdisjoint(_NOTED) else ()


def _origin(noted: Mapping[bytes, list[bytes]], found: list[bytes]) -> Origin:
    """``found``: by MARKS."""
    lines = [line for line in map(bytes.lower, found) if _ADDRESS.match(line)]
    lines.sort()
    for name in _NOTED:
        if name in noted:
            lines.append(name + b":" + b",".join(noted[name]).lower())
    return tuple(lines)


class CacheRequest:
    """A request as seen by the cache.

    ``uri``: of the resource; ``origin``: the headers of _ADDRESS; ``control``: the request's Cache-Control (Pragma is
    ignored, RFC 9111 §5.4); ``rfc``: ``delivery.cache.mode`` is ``rfc``."""

    __slots__ = ("_fields", "_kept", "_marks", "control", "head", "origin", "rfc", "uri")

    def __init__(self, request: head.RequestHead, tenant: str, rfc: bool) -> None:
        self.head, self.rfc = request, rfc
        noted, kept = request.noted, request.kept
        self._kept = kept  # as the client sent them: the edge may drop lines before the app
        host = noted.get(b"host")
        self.uri: Uri = (tenant, host[0].lower() if host else b"", request.path, request.query)
        self._marks: frozenset[bytes] = _NONE
        self.control = policy.NONE
        found = MARKS.findall(kept[0] if len(kept) == 1 else b"".join(kept))
        self.origin = _origin(noted, found) if found or not noted.keys().isdisjoint(_NOTED) else ()
        if found:
            self._note(found)
        self._fields: conditional.Fields | None = None

    def _note(self, found: list[bytes]) -> None:
        if len(found) == 1 and found[0][:1] in b"cC":  # a browser's reload
            self.control = policy.parse_directives(found[0][_CONTROL:])
            return
        self._marks = frozenset([mark.partition(b":")[0].lower() for mark in found if mark[0] not in _MAY_BE_ADDRESS])
        if controls := [mark[_CONTROL:] for mark in found if mark[:1] in b"cC"]:
            self.control = policy.parse_directives(b",".join(controls))

    @property
    def plain(self) -> bool:
        """True for a GET whose response depends on no request field but Accept-Encoding, and on ``origin``."""
        request = self.head
        if self._marks or self.control or request.upgrade is not None:
            return False
        return request.method == b"GET" and request.framing is head.NEVER

    @property
    def variant(self) -> Variant:
        return self.head.joined(b"accept-encoding"), self.origin

    @property
    def ordinary(self) -> bool:
        """True for a GET that is forwarded without further checks if nothing is stored."""
        request, control = self.head, self.control
        return (
            request.method == b"GET"
            and request.framing is head.NEVER
            and request.upgrade is None
            and self._marks.isdisjoint(_MATTERS)
            and not (control and (b"only-if-cached" in control or b"no-store" in control))
        )

    @property
    def fields(self) -> conditional.Fields:
        """The header fields, parsed on first use."""
        if self._fields is None:
            self._fields = conditional.parse_fields(self._kept)
        return self._fields

    @property
    def authorized(self) -> bool:
        return b"authorization" in self._marks

    @property
    def conditional(self) -> bool:
        return not self._marks.isdisjoint(_CONDITIONS)

    @property
    def ranged(self) -> bool:
        return b"range" in self._marks

    @property
    def cookies(self) -> bool:
        return b"cookie" in self.fields

    @property
    def parts(self) -> bool:
        """True if a stored part may serve the request, and its partial response may be stored."""
        return self.rfc and self.ranged and self.head.method == b"GET"

    def selector(self, method: bytes, names: vary.Names) -> Selector:
        return method, self.origin, names, vary.values(names, self.fields, rfc=self.rfc) if names else ()

    def unfit(self) -> str | None:
        """The reason why a GET or HEAD must bypass the cache, or None."""
        request = self.head
        if request.framing is not head.NEVER:
            return "the request has a body"  # it is not part of the key
        if request.upgrade is not None:
            return "the request asks for an upgrade"
        if not self._marks.isdisjoint(_FOR_THE_APP):
            return "If-Match or If-Unmodified-Since: only the app can evaluate it"  # RFC 9111 §4.3.2
        return None
