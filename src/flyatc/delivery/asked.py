"""A request as the cache sees it. Pure."""

import re
from collections.abc import Mapping

from flyatc.delivery import directives, fields, vary
from flyatc.wire import head

Uri = tuple[str, bytes, bytes, bytes | None]  # tenant, host in lower case, raw path, raw query
Origin = tuple[bytes, ...]
Selector = tuple[bytes, Origin, vary.Names, vary.Values]  # method; see ORIGIN; what the answer depends on

# One search for all the header lines that mean anything here: most requests have none of them, and pay no more.
_MARKS = re.compile(
    rb"\r\n(range:|if-(?:none-)?match:|if-(?:un)?modified-since:|cache-control:|authorization:|x[-_]|front[-_])",
    re.IGNORECASE,
)
_CONDITIONS = frozenset((b"if-none-match:", b"if-modified-since:", b"if-match:", b"if-unmodified-since:"))
_FOR_THE_APP = frozenset((b"if-match:", b"if-unmodified-since:"))
_OTHER_ADDRESS = frozenset((b"x-", b"x_", b"front-", b"front_"))

# Apps build links, redirects and routes of these too. An answer made for one of them is no answer for others: whoever
# could slip one in would poison the cache for all. Python and Ruby take "_" for "-".
ORIGIN = re.compile(
    rb"\r\n((?:x[-_](?:forwarded|original|rewrite|http[-_]method|method|url|host)|front[-_]end[-_]https)[^:\r]*:[^\r]*)",
    re.IGNORECASE,
)
_NOTED = (b"x-forwarded-proto", b"x-forwarded-host")


class Asked:
    """``uri``: of the resource; ``origin``: see ORIGIN; ``marks``: which of the header lines that matter there are."""

    __slots__ = ("_fields", "_kept", "head", "marks", "origin", "uri")

    def __init__(self, request: head.RequestHead, tenant: str) -> None:
        self.head = request
        noted, kept = request.noted, request.kept
        self._kept = kept  # the edge may drop lines on the way to the app: for us the visitor has said them
        host = noted.get(b"host")
        self.uri: Uri = (tenant, host[0].lower() if host else b"", request.path, request.query)
        block = kept[0] if len(kept) == 1 else b"".join(kept)
        marks = _MARKS.findall(block)
        self.marks = {mark.lower() for mark in marks} if marks else None
        self.origin: Origin = ()
        if b"x-forwarded-proto" in noted or b"x-forwarded-host" in noted or (marks and self._has(_OTHER_ADDRESS)):
            self.origin = _origin(noted, block)
        self._fields: fields.Fields | None = None

    def _has(self, marks: frozenset[bytes]) -> bool:
        return self.marks is not None and not self.marks.isdisjoint(marks)

    @property
    def plain(self) -> bool:
        """A GET that says nothing to a cache."""
        request = self.head
        return (
            self.marks is None
            and request.method == b"GET"
            and request.framing is head.NEVER
            and request.upgrade is None
        )

    @property
    def fields(self) -> fields.Fields:
        """The header fields, read when first needed."""
        if self._fields is None:
            self._fields = fields.read(self._kept)
        return self._fields

    @property
    def control(self) -> directives.Directives:
        """The request's own Cache-Control. Pragma is not looked at (RFC 9111 §5.4)."""
        if self.marks is None or b"cache-control:" not in self.marks:
            return directives.NONE
        return directives.read(self.fields[b"cache-control"])

    @property
    def authorized(self) -> bool:
        return self.marks is not None and b"authorization:" in self.marks

    @property
    def conditional(self) -> bool:
        return self._has(_CONDITIONS)

    @property
    def ranged(self) -> bool:
        return self.marks is not None and b"range:" in self.marks

    def selector(self, method: bytes, names: vary.Names) -> Selector:
        return method, self.origin, names, vary.values(names, self.fields) if names else ()

    def unfit(self) -> str | None:
        """Why a GET or HEAD has to go past the cache."""
        request = self.head
        if request.framing is not head.NEVER:
            return "the request has a body"  # no key holds it
        if request.upgrade is not None:
            return "an upgrade is asked for"
        if self.marks is not None and self._has(_FOR_THE_APP):
            return "only the app can say whether its state is still the one meant"  # RFC 9111 §4.3.2
        return None


def _origin(noted: Mapping[bytes, list[bytes]], block: bytes) -> Origin:
    given = [name + b":" + b",".join(noted[name]).lower() for name in _NOTED if name in noted]
    return (*given, *sorted(line.lower() for line in ORIGIN.findall(block)))
