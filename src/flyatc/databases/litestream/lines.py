"""What the store has of a database in litestream mode: one line of transactions a stolen epoch. Pure.

``…/<database>/e000005/…/MIN-MAX.ltx``: litestream names its files by the first and last transaction in them, below
``ltx/<level>/`` in a folder, ``000<level>/`` in S3. A line is a path of its own because litestream writes without
conditions: a machine which was robbed, and does not know it yet, goes on writing to the line of its own epoch, from
which nobody reads any more once there is a newer one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from flyatc.objects.store import Stored

_FILE = re.compile(r"e(?P<line>\d{6,})/(?:.+/)?(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16})\.ltx")
_OTHER = re.compile(r"e\d{6,}/.+(?<!\.tmp)")  # a .tmp: it was killed while it wrote; it is not there yet


@dataclass(frozen=True)
class Line:
    """It has content. ``since`` and ``until``: Unix times of its oldest and newest object, by the store's clock."""

    number: int
    txid: int  # of the last transaction
    octets: int  # in the store
    since: float
    until: float
    whole: int = 0  # octets of its newest file with all pages, compressed: a restore takes at least so many


@dataclass(frozen=True)
class Lines:
    """``strange``: keys below the lines which are not litestream's."""

    found: tuple[Line, ...] = ()  # ascending
    strange: tuple[str, ...] = ()

    @property
    def last(self) -> Line | None:
        return self.found[-1] if self.found else None


SKEW = 2.0  # s, between the store's clock and the one in litestream's files


def folder(line: int) -> str:
    return f"e{line:06}"


def read(there: Iterable[Stored], prefix: str) -> Lines:
    """``there``: all keys below ``prefix``; those of snapshots do not count."""
    files: dict[int, list[tuple[int, int, Stored]]] = {}
    strange = []
    for stored in there:
        name = stored.key.removeprefix(prefix)
        if match := _FILE.fullmatch(name):
            files.setdefault(int(match["line"]), []).append((int(match["last"], 16), int(match["first"], 16), stored))
        elif _OTHER.fullmatch(name):
            strange.append(stored.key)
    return Lines(tuple(_line(number, files[number]) for number in sorted(files)), tuple(strange))


def at(lines: Lines, moment: float) -> list[tuple[Line, float | None]]:
    """Where the state at ``moment`` may be found, the likeliest first; None: the last state of that line, behind which
    litestream finds no moment."""
    found: list[tuple[Line, float | None]] = []
    for line in reversed(lines.found):
        if line.since <= moment:
            found += [(line, moment)] if moment < line.until else []
            found += [(line, None)] if moment > line.until - SKEW else []
    return found


def _line(number: int, files: list[tuple[int, int, Stored]]) -> Line:
    times = [stored.modified for *_, stored in files]
    whole = [(last, stored.size) for last, first, stored in files if first == 1]
    return Line(
        number=number,
        txid=max(last for last, *_ in files),
        octets=sum(stored.size for *_, stored in files),
        since=min(times),
        until=max(times),
        whole=max(whole)[1] if whole else 0,
    )
