"""How long a stored answer is good, and how old it is (RFC 9111 §4.2). Pure; all times are Unix seconds."""

from collections.abc import Mapping

from flyatc.delivery import dates, directives

HEURISTIC_MOST = 86400  # seconds; a guess is not trusted for longer
HEURISTIC_STATUS = frozenset((200, 203, 204, 300, 301, 308))  # §4.2.2: of those which are stored here


def lifetime(
    fields: Mapping[bytes, bytes], control: directives.Directives, status: int, received: float, heuristic: float
) -> int:
    """Seconds for which the answer is fresh (§4.2.1, for a shared cache), 0 where it never is.

    ``heuristic``: the part of the time since Last-Modified that an answer which says nothing is taken for fresh."""
    for name in (b"s-maxage", b"max-age"):
        if name in control:
            return directives.seconds(control[name]) or 0  # what is no number: stale
    date = dates.read(fields.get(b"date", b""))
    start = int(received) if date is None else date
    if (expires := fields.get(b"expires")) is not None:
        return _within((dates.read(expires) or 0) - start)
    modified = dates.read(fields.get(b"last-modified", b""))
    if heuristic > 0 and modified is not None and status in HEURISTIC_STATUS:
        return min(_within(int((start - modified) * heuristic)), HEURISTIC_MOST)
    return 0


def initial_age(fields: Mapping[bytes, bytes], asked: float, received: float) -> int:
    """The age of an answer when it came (§4.2.3). ``asked``: when its request went out."""
    date = dates.read(fields.get(b"date", b""))
    apparent = 0 if date is None else int(received) - date
    told = directives.seconds(fields.get(b"age", b"0").partition(b",")[0].strip(b" \t")) or 0
    return _within(max(apparent, told + _within(int(received - asked))))


def age(initial: int, received: float, now: float) -> int:
    """How old it is now. A clock that was put back makes nothing younger than it came."""
    return _within(initial + max(0, int(now - received)))


def _within(number: int) -> int:
    return max(0, min(number, directives.FOR_EVER))
