"""Rules of the cache: storability, freshness, reuse and Cache-Control. Pure; all times are Unix seconds.

RFC 9111: §3 (storing), §4 and §5.2.1 (reuse), §4.2 (freshness, age), §5.2 (Cache-Control); RFC 5861 (stale responses).
Bare section numbers below refer to RFC 9111. ``rfc``: ``delivery.cache.mode`` is ``rfc``, else ``assets``.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from flyatc.delivery import conditional
from flyatc.delivery.cache import partial, vary

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


HEURISTIC = 0.1  # fraction of the time since Last-Modified for which a response is fresh (§4.2.2)
HEURISTIC_MOST = 86400  # seconds; the maximum of a heuristic lifetime
# May be stored without explicit freshness (RFC 9110 §15.1).
HEURISTIC_STATUS = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))


def freshness_lifetime(
    fields: Mapping[bytes, bytes], control: Directives, status: int, received: float, *, rfc: bool
) -> int:
    """Seconds for which the response is fresh (§4.2.1, for a shared cache), 0 if never. Without explicit freshness:
    0, or with ``rfc`` a tenth of the time since Last-Modified."""
    for name in (b"s-maxage", b"max-age"):
        if name in control:
            return seconds(control[name]) or 0  # not a number: stale
    date = conditional.parse_date(fields.get(b"date", b""))
    start = int(received) if date is None else date
    if (expires := fields.get(b"expires")) is not None:
        return _within((conditional.parse_date(expires) or 0) - start)
    modified = conditional.parse_date(fields.get(b"last-modified", b""))
    if rfc and modified is not None and (status in HEURISTIC_STATUS or b"public" in control):
        return min(_within(int((start - modified) * HEURISTIC)), HEURISTIC_MOST)
    return 0


def _explicit(fields: Mapping[bytes, bytes], control: Directives) -> bool:
    """Return whether the response says for how long it is fresh, if only for 0 seconds."""
    return b"expires" in fields or b"max-age" in control or b"s-maxage" in control


def _permitted(fields: Mapping[bytes, bytes], control: Directives) -> bool:
    """Return whether the app says that the response may be stored (§3)."""
    return b"public" in control or _explicit(fields, control)


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


STATUS = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308))  # stored in either mode
ABSENT = frozenset((404, 410))  # in mode assets: only with explicit freshness. Other errors never: a mistake would last
OF_ONE_REQUEST = frozenset((206, 304, 412, 416))  # depend on its conditions and Range: no response to other requests
_UNDERSTOOD = STATUS | HEURISTIC_STATUS  # statuses that must-understand permits (§5.2.2.3)


_LONGEST_CACHED = 256  # octets; longer values are not memoized


class Terms(NamedTuple):
    """The terms on which a response is stored.

    ``lifetime``, ``age``: seconds, at arrival; ``ask``: revalidate before each use (no-cache); ``exact``: the client
    cannot get it stale (must-revalidate, proxy-revalidate, s-maxage); ``meanwhile``, ``on_error``: seconds of
    stale-while-revalidate and stale-if-error (RFC 5861), which count beside s-maxage, since they are more specific, but
    not beside must-revalidate; ``authorized``: may serve requests with Authorization; ``public``: has the directive
    public; ``guessed``: nothing says that it may be stored, and its lifetime is heuristic; ``hidden``: fields that must
    not be stored; ``varies``: the request fields that it depends on."""

    lifetime: int
    age: int
    ask: bool
    exact: bool
    meanwhile: int
    on_error: int
    authorized: bool
    public: bool
    guessed: bool
    hidden: frozenset[bytes]
    varies: vary.Names


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


class Asker(NamedTuple):
    """Credentials of the request. ``authorized``: it has Authorization; ``cookies``: it has Cookie."""

    authorized: bool = False
    cookies: bool = False


ANONYMOUS = Asker()


def terms(
    status: int, fields: Mapping[bytes, bytes], *, asker: Asker = ANONYMOUS, times: Times, rfc: bool = False
) -> Terms | str:
    """The terms for storing a response, or the reason (text) why it may not be stored."""
    control = parse_directives(fields[b"cache-control"]) if b"cache-control" in fields else NONE
    if (reason := forbidden(control) or _unfit(status, fields, control, rfc=rfc)) is not None:
        return reason
    shared = b"public" in control or b"s-maxage" in control or b"must-revalidate" in control
    if asker.authorized and not shared:
        return "the request has Authorization"  # §3.5
    hidden = field_names(control.get(b"private")) | field_names(control.get(b"no-cache"))
    if b"set-cookie" in fields and b"set-cookie" not in hidden and b"public" not in control:
        return "sets a cookie, and is not public"
    varies = vary.names(fields)
    if varies is None:
        return "Vary: *"
    lifetime = freshness_lifetime(fields, control, status, times.received, rfc=rfc)
    if (reason := _useless(status, fields, control, lifetime)) is not None:
        return reason
    guessed = not _asks(control) and not _permitted(fields, control)
    if guessed and asker.cookies:
        return "the request has cookies, and nothing says that it may be stored"
    strict = not control.keys().isdisjoint((b"must-revalidate", b"proxy-revalidate"))
    return Terms(
        lifetime=lifetime,
        age=initial_age(fields, times.asked, times.received),
        ask=_asks(control),
        exact=strict or b"s-maxage" in control,
        meanwhile=0 if strict or status == 206 else seconds(control.get(b"stale-while-revalidate")) or 0,
        on_error=0 if strict else seconds(control.get(b"stale-if-error")) or 0,
        authorized=shared,
        public=b"public" in control,
        guessed=guessed,
        hidden=hidden,
        varies=varies,
    )


def _unfit(status: int, fields: Mapping[bytes, bytes], control: Directives, *, rfc: bool) -> str | None:
    """The reason why a response with this status is not stored, or None. Of 206, see ``partial``."""
    explicit = _explicit(fields, control)
    fit = status in STATUS or (status in ABSENT and explicit)
    if rfc and status >= 200:
        fit = status == 206 or status not in OF_ONE_REQUEST
        fit = fit and (explicit or status in HEURISTIC_STATUS or b"public" in control)
    if not fit:
        return "a response of this kind is not stored"
    if b"must-understand" in control and status not in _UNDERSTOOD:
        return "must-understand, and the status is unknown"
    if status != 206 and (part := partial.parse(fields.get(b"content-range", b""))) and not part.complete:
        return "a part with the status of the whole"  # else Content-Range has no meaning here (RFC 9110 §14.4)
    return None


def _useless(status: int, fields: Mapping[bytes, bytes], control: Directives, lifetime: int) -> str | None:
    """The reason why storing it would be useless, or None."""
    asks = _asks(control)
    if not (lifetime or _permitted(fields, control) or (asks and status in HEURISTIC_STATUS)):
        return "nothing says that it may be stored"
    at_once = not lifetime or asks
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
