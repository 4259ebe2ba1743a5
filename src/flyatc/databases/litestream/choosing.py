"""Where the state at some time may be found, of all that the store has of a database. Pure."""

from collections.abc import Iterable

from flyatc.databases import choosing
from flyatc.databases.choosing import Kept, Picked
from flyatc.databases.litestream import lines
from flyatc.databases.litestream.lines import Line, Lines

Source = tuple[Line, float | None] | Picked


def at(found: Lines, kept: Iterable[Kept], moment: float) -> list[Source]:
    """The likeliest first. A line which covers the moment is exact; else what was saved last before it."""
    sources: list[tuple[bool, float, Source]] = [
        (time is not None, line.until, (line, time)) for line, time in lines.at(found, moment)
    ]
    by_key = {one.key: one for one in kept}
    picked = choosing.newest(by_key.values(), moment)
    if isinstance(picked, Picked):
        sources.append((False, by_key[picked.key].saved, picked))
    return [source for _, _, source in sorted(sources, key=lambda one: one[:2], reverse=True)]
