"""Whether a stored answer may be used for a request now (RFC 9111 §4, §5.2.1; RFC 5861). Pure."""

from typing import NamedTuple

from flyatc.delivery import directives, storing

FRESH, STALE, MEANWHILE, ASK = "fresh", "stale, as the request allows", "stale, while it is revalidated", "ask"


class Use(NamedTuple):
    """``way``: one of the four above; ``left``: seconds of freshness, below 0 where it is stale; ``reason``: for ASK;
    ``wished``: it is the request that asks, not the age of what is stored."""

    way: str
    left: int
    reason: str = ""
    wished: bool = False


def weigh(terms: storing.Terms, age: int, control: directives.Directives) -> Use:
    """``control``: the request's Cache-Control; ``age``: of the entry, now."""
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


def on_error(terms: storing.Terms, age: int, control: directives.Directives) -> bool:
    """Whether it may stand in for an app that fails. The request's no-cache forbids it."""
    late = age - terms.lifetime
    if terms.ask or b"no-cache" in control:
        return False
    wished = 0 if terms.exact else directives.seconds(control.get(b"stale-if-error")) or 0
    return late < max(terms.on_error, wished) > 0


def _wish(age: int, left: int, control: directives.Directives) -> str | None:
    if b"no-cache" in control:
        return "the request says no-cache"
    if b"max-age" in control and _older(age, directives.seconds(control[b"max-age"])):
        return "older than the request's max-age"
    if b"min-fresh" in control and left < _limit(control, b"min-fresh"):
        return "not as fresh as the request's min-fresh"
    return None


def _older(age: int, most: int | None) -> bool:
    """``max-age=0`` is a browser's reload: what came this very second is not meant either."""
    return not most or age > most


def _limit(control: directives.Directives, name: bytes) -> int:
    """Without a number, any."""
    argument = control[name]
    return directives.FOR_EVER if argument is None else directives.seconds(argument) or 0
