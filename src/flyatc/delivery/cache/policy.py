"""Rules of the cache: storability, freshness, reuse, Vary and Cache-Control. Pure; all times are Unix seconds.

RFC 9111: §3 (storing), §4 and §5.2.1 (reuse), §4.1 (Vary), §4.2 (freshness, age), §5.2 (Cache-Control); RFC 5861
(stale responses). Bare section numbers below refer to RFC 9111.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from flyatc.delivery import conditional

Directives = Mapping[bytes, bytes | None]  # lower-case name → argument without quotes, None where there is none

FOR_EVER = 2**31  # counts as infinite (§1.2.2)
NONE: Directives = {}

_MEMBER = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_LONGEST = 256  # longer values are parsed each time, so that clients cannot fill the memory with them
_LONGEST_READ = 2048  # octets; a longer value is not parsed, and forbids everything
_UNREAD: Directives = {b"no-store": None, b"no-cache": None, b"no-transform": None}


def parse_directives(value: bytes) -> Directives:
    """Parse Cache-Control. Never fails: a malformed value forbids more, never less."""
    return _cached_directives(value) if len(value) <= _LONGEST else _parse_directives(value)


def _parse_directives(value: bytes) -> Directives:
    if len(value) > _LONGEST_READ:
        return _UNREAD
    found: dict[bytes, bytes | None] = {}
    # With an unbalanced quote any member may be a forbidding directive: quotes are then ignored.
    members = _MEMBER.findall(value) if value.count(b'"') % 2 == 0 and b"\\" not in value else value.split(b",")
    for member in members:
        name, equals, argument = member.partition(b"=")
        name = name.strip(b' \t"').lower()
        if name:
            given = argument.strip(b' \t"') if equals else None
            found[name] = _both(name, found[name], given) if name in found else given
    return found


_cached_directives = lru_cache(1024)(_parse_directives)


def _both(name: bytes, one: bytes | None, other: bytes | None) -> bytes | None:
    """The stricter of two arguments of a repeated directive (§4.2.1)."""
    if one is None or other is None:
        return None
    if name in (b"private", b"no-cache"):
        return one + b"," + other
    return min(one, other, key=lambda argument: seconds(argument) or 0)


def seconds(argument: bytes | None) -> int | None:
    """Parse delta-seconds (§1.2.2), at most FOR_EVER; None if not a number."""
    if argument is None or not argument.isdigit():
        return None
    return min(int(argument), FOR_EVER) if len(argument) <= 10 else FOR_EVER


def field_names(argument: bytes | None) -> frozenset[bytes]:
    """Parse the field names in ``no-cache="a, b"`` and ``private="a, b"``, in lower case."""
    if not argument:
        return frozenset()
    return frozenset(name.strip(b" \t").lower() for name in argument.split(b",")) - {b""}


LONGEST = 1024  # octets; a longer Vary counts as "*"
_LONGEST_VALUE = 4096  # octets; a longer header is compared without normalization
Names = tuple[bytes, ...]
Values = tuple[bytes | None, ...]


def vary_names(fields: Mapping[bytes, bytes]) -> Names | None:
    """The request fields that the response depends on, in lower case and sorted; None for ``Vary: *``."""
    value = fields.get(b"vary")
    if not value:
        return ()
    if len(value) > LONGEST:
        return None
    found = {name.strip(b" \t").lower() for name in value.split(b",")} - {b""}
    return None if b"*" in found else tuple(sorted(found))


def values(wanted: Names, request: Mapping[bytes, bytes]) -> Values:
    """The normalized values of the wanted fields: equal meaning, equal value. None for a missing field."""
    return tuple(None if (value := request.get(name)) is None else _normal(name, value) for name in wanted)


def _normal(name: bytes, value: bytes) -> bytes:
    """Drop whitespace around commas; in Accept-Encoding, also case and order (RFC 9110 §12.5.3)."""
    if len(value) > _LONGEST_VALUE:
        return value
    if name == b"accept-encoding":
        members = sorted({member.strip(b" \t").lower() for member in value.split(b",")} - {b""})
        return b",".join(members)
    if b'"' in value:
        return value  # a quoted comma is not a separator
    return b",".join(member.strip(b" \t") for member in value.split(b","))


HEURISTIC_MOST = 86400  # seconds; the maximum of a heuristic lifetime
HEURISTIC_STATUS = frozenset((200, 203, 204, 300, 301, 308))  # §4.2.2, as far as they are stored here


def freshness_lifetime(
    fields: Mapping[bytes, bytes], control: Directives, status: int, received: float, heuristic: float
) -> int:
    """Seconds for which the response is fresh (§4.2.1, for a shared cache), 0 if never.

    ``heuristic``: fraction of the time since Last-Modified for which a response without explicit freshness is fresh."""
    for name in (b"s-maxage", b"max-age"):
        if name in control:
            return seconds(control[name]) or 0  # not a number: stale
    date = conditional.parse_date(fields.get(b"date", b""))
    start = int(received) if date is None else date
    if (expires := fields.get(b"expires")) is not None:
        return _within((conditional.parse_date(expires) or 0) - start)
    modified = conditional.parse_date(fields.get(b"last-modified", b""))
    if heuristic > 0 and modified is not None and status in HEURISTIC_STATUS:
        return min(_within(int((start - modified) * heuristic)), HEURISTIC_MOST)
    return 0


def initial_age(fields: Mapping[bytes, bytes], asked: float, received: float) -> int:
    """The age of a response at its arrival (§4.2.3). ``asked``: when its request was sent."""
    date = conditional.parse_date(fields.get(b"date", b""))
    apparent = 0 if date is None else int(received) - date
    given = seconds(fields.get(b"age", b"0").partition(b",")[0].strip(b" \t")) or 0
    return _within(max(apparent, given + _within(int(received - asked))))


def age(initial: int, received: float, now: float) -> int:
    """The current age; at least the initial one, even if the clock was set back."""
    return _within(initial + max(0, int(now - received)))


def _within(number: int) -> int:
    return max(0, min(number, FOR_EVER))


# Statuses that may be stored. Errors never are, even if the app allows it: a mistake would last.
STATUS = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308))


_LONGEST_CACHED = 256  # octets; longer values are not memoized


class Terms(NamedTuple):
    """The terms on which a response is stored.

    ``lifetime``, ``age``: seconds, at arrival; ``ask``: revalidate before each use (no-cache); ``exact``: the client
    cannot get it stale (must-revalidate, proxy-revalidate, s-maxage); ``meanwhile``, ``on_error``: seconds of
    stale-while-revalidate and stale-if-error (RFC 5861), which count beside s-maxage, since they are more specific, but
    not beside must-revalidate; ``authorized``: may serve requests with Authorization; ``public``: has the directive
    public; ``hidden``: fields that must not be stored; ``varies``: the request fields that it depends on."""

    lifetime: int
    age: int
    ask: bool
    exact: bool
    meanwhile: int
    on_error: int
    authorized: bool
    public: bool
    hidden: frozenset[bytes]
    varies: Names


_FOR_STALE = (b"stale-while-revalidate", b"stale-if-error")


class Times(NamedTuple):
    """Unix seconds: when the request was sent, and when the head of its response arrived."""

    asked: float
    received: float


def refusal(value: bytes) -> str | None:
    """``forbidden`` for a raw Cache-Control, memoized: apps use few different ones."""
    return _cached_forbidden(value) if len(value) <= _LONGEST_CACHED else forbidden(parse_directives(value))


@lru_cache(1024)
def _cached_forbidden(value: bytes) -> str | None:
    return forbidden(parse_directives(value))


def forbidden(control: Directives) -> str | None:
    """The Cache-Control directive that forbids storing, or None."""
    if b"no-store" in control:
        return "no-store"
    if b"private" in control and not control[b"private"]:
        return "private"
    return None


def terms(
    status: int, fields: Mapping[bytes, bytes], *, authorized: bool, times: Times, heuristic: float
) -> Terms | str:
    """The terms for storing a response, or the reason (text) why it may not be stored.

    ``authorized``: the request had Authorization."""
    control = parse_directives(fields[b"cache-control"]) if b"cache-control" in fields else NONE
    if (reason := forbidden(control)) is not None:
        return reason
    if status not in STATUS or b"content-range" in fields:
        return "a response of this kind is not stored"
    shared = b"public" in control or b"s-maxage" in control or b"must-revalidate" in control
    if authorized and not shared:
        return "the request has Authorization"  # §3.5
    hidden = field_names(control.get(b"private")) | field_names(control.get(b"no-cache"))
    if b"set-cookie" in fields and b"set-cookie" not in hidden and b"public" not in control:
        return "sets a cookie, and is not public"
    varies = vary_names(fields)
    if varies is None:
        return "Vary: *"
    lifetime = freshness_lifetime(fields, control, status, times.received, heuristic)
    if (reason := _useless(fields, control, lifetime)) is not None:
        return reason
    strict = not control.keys().isdisjoint((b"must-revalidate", b"proxy-revalidate"))
    return Terms(
        lifetime=lifetime,
        age=initial_age(fields, times.asked, times.received),
        ask=_asks(control),
        exact=strict or b"s-maxage" in control,
        meanwhile=0 if strict else seconds(control.get(b"stale-while-revalidate")) or 0,
        on_error=0 if strict else seconds(control.get(b"stale-if-error")) or 0,
        authorized=shared,
        public=b"public" in control,
        hidden=hidden,
        varies=varies,
    )


def _useless(fields: Mapping[bytes, bytes], control: Directives, lifetime: int) -> str | None:
    """The reason why storing it would be useless, or None."""
    explicit = b"expires" in fields or not control.keys().isdisjoint((b"public", b"max-age", b"s-maxage"))
    if not explicit and not lifetime:
        return "nothing says that it may be stored"
    at_once = not lifetime or _asks(control)
    if at_once and fields.keys().isdisjoint((b"etag", b"last-modified")) and control.keys().isdisjoint(_FOR_STALE):
        return "stale at once, and without a validator"
    return None


def _asks(control: Directives) -> bool:
    """Return whether no-cache covers the whole response: with field names, it covers only those (§5.2.2.4)."""
    return b"no-cache" in control and not control[b"no-cache"]


FRESH, STALE, MEANWHILE, ASK = "fresh", "stale, as the request allows", "stale, while it is revalidated", "ask"


class Use(NamedTuple):
    """How a stored response may be used.

    ``way``: one of the four above; ``left``: seconds of freshness, negative if stale; ``reason``: for ASK; ``wished``:
    ASK because of the request, not because of the entry's age."""

    way: str
    left: int
    reason: str = ""
    wished: bool = False


def weigh(terms: Terms, age: int, control: Directives) -> Use:
    """Decide how to use an entry. ``control``: the request's Cache-Control; ``age``: of the entry, now."""
    left = terms.lifetime - age
    if terms.ask:
        return Use(ASK, left, "no-cache: the app is asked each time")
    if control and (reason := _wish(age, left, control)) is not None:
        return Use(ASK, left, reason, wished=True)
    if left > 0:
        return Use(FRESH, left)
    if b"max-stale" in control and not terms.exact and -left <= _limit(control, b"max-stale"):
        return Use(STALE, left)
    if -left < terms.meanwhile:
        return Use(MEANWHILE, left)
    return Use(ASK, left, "stale")


def on_error(terms: Terms, age: int, control: Directives) -> bool:
    """Return whether the entry may replace a failure of the app. The request's no-cache forbids it."""
    late = age - terms.lifetime
    if terms.ask or b"no-cache" in control:
        return False
    wished = 0 if terms.exact else seconds(control.get(b"stale-if-error")) or 0
    return late < max(terms.on_error, wished) > 0


def _wish(age: int, left: int, control: Directives) -> str | None:
    if b"no-cache" in control:
        return "the request says no-cache"
    if b"max-age" in control and _older(age, seconds(control[b"max-age"])):
        return "older than the request's max-age"
    if b"min-fresh" in control and left < _limit(control, b"min-fresh"):
        return "not as fresh as the request's min-fresh"
    return None


def _older(age: int, most: int | None) -> bool:
    """``max-age=0`` is a browser's reload: it excludes even an entry received in the same second."""
    return not most or age > most


def _limit(control: Directives, name: bytes) -> int:
    """The directive's seconds; FOR_EVER without an argument."""
    argument = control[name]
    return FOR_EVER if argument is None else seconds(argument) or 0
