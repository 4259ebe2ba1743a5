"""Whether an answer may be stored, and on which terms (RFC 9111 §3). Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from flyatc.delivery import directives, freshness, vary

# Understood, and stored where the app says so. Errors never are, not even by an app's wish: a mistake would last.
STATUS = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308))


_LONGEST = 256  # octets of a Cache-Control that is remembered


class Terms(NamedTuple):
    """``lifetime``, ``age``: seconds, when it came; ``ask``: the app is asked before each use (no-cache); ``exact``:
    never stale by the visitor's wish (must-revalidate, proxy-revalidate, s-maxage); ``meanwhile``, ``on_error``:
    seconds of stale-while-revalidate and stale-if-error (RFC 5861): beside s-maxage they are the app's own, more
    exact, word, and count; beside must-revalidate they do not; ``authorized``: also for requests with Authorization;
    ``public``: said so, in that word; ``hidden``: fields which the app keeps from the store; ``varies``: the
    request's fields on which it depends."""

    lifetime: int
    age: int
    ask: bool
    exact: bool
    meanwhile: int
    on_error: int
    authorized: bool
    public: bool
    hidden: frozenset[bytes]
    varies: vary.Names


_FOR_STALE = (b"stale-while-revalidate", b"stale-if-error")


class Times(NamedTuple):
    """Unix seconds: when the request went out, when the head of its answer came."""

    asked: float
    received: float


def refusal(value: bytes) -> str | None:
    """``forbidden``, of a Cache-Control as it came: apps have few of them."""
    return _remembered(value) if len(value) <= _LONGEST else forbidden(directives.read(value))


@lru_cache(1024)
def _remembered(value: bytes) -> str | None:
    return forbidden(directives.read(value))


def forbidden(control: directives.Directives) -> str | None:
    """The plain noes, why; None where Cache-Control alone does not forbid storing."""
    if b"no-store" in control:
        return "no-store"
    if b"private" in control and not control[b"private"]:
        return "private"
    return None


def terms(
    status: int, fields: Mapping[bytes, bytes], *, authorized: bool, times: Times, heuristic: float
) -> Terms | str:
    """``authorized``: the request had Authorization. A text is the reason why the answer may not be stored."""
    control = directives.read(fields[b"cache-control"]) if b"cache-control" in fields else directives.NONE
    if (reason := forbidden(control)) is not None:
        return reason
    if status not in STATUS or b"content-range" in fields:
        return "an answer of this kind is not stored"
    shared = b"public" in control or b"s-maxage" in control or b"must-revalidate" in control
    if authorized and not shared:
        return "the request has Authorization"  # §3.5
    hidden = directives.names(control.get(b"private")) | directives.names(control.get(b"no-cache"))
    if b"set-cookie" in fields and b"set-cookie" not in hidden and b"public" not in control:
        return "sets a cookie, and is not public"
    varies = vary.names(fields)
    if varies is None:
        return "Vary: *"
    lifetime = freshness.lifetime(fields, control, status, times.received, heuristic)
    if (reason := _useless(fields, control, lifetime)) is not None:
        return reason
    strict = not control.keys().isdisjoint((b"must-revalidate", b"proxy-revalidate"))
    return Terms(
        lifetime=lifetime,
        age=freshness.initial_age(fields, times.asked, times.received),
        ask=_asks(control),
        exact=strict or b"s-maxage" in control,
        meanwhile=0 if strict else directives.seconds(control.get(b"stale-while-revalidate")) or 0,
        on_error=0 if strict else directives.seconds(control.get(b"stale-if-error")) or 0,
        authorized=shared,
        public=b"public" in control,
        hidden=hidden,
        varies=varies,
    )


def _useless(fields: Mapping[bytes, bytes], control: directives.Directives, lifetime: int) -> str | None:
    """Why storing it would gain nothing."""
    told = b"expires" in fields or not control.keys().isdisjoint((b"public", b"max-age", b"s-maxage"))
    if not told and not lifetime:
        return "nothing says that it may be stored"
    at_once = not lifetime or _asks(control)
    if at_once and fields.keys().isdisjoint((b"etag", b"last-modified")) and control.keys().isdisjoint(_FOR_STALE):
        return "stale at once, and without a validator"
    return None


def _asks(control: directives.Directives) -> bool:
    """Whether it is no-cache as a whole: with field names, it means only those fields (§5.2.2.4)."""
    return b"no-cache" in control and not control[b"no-cache"]
