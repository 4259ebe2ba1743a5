"""What the store has of a database in litestream mode: one line of transactions a stolen epoch. Pure.

``…/<database>/e000005/…/MIN-MAX.ltx``: litestream names its files by the first and last transaction in them, below
``ltx/<level>/`` in a folder, ``000<level>/`` in S3. A line is a path of its own because litestream writes without
conditions: a machine which was robbed, and does not know it yet, goes on writing to the line of its own epoch, from
which nobody reads any more once there is a newer one.

A line which turned out to be damaged is left as it is, and begun anew beside it: ``e000005-01``. Who writes the line of
an epoch is one machine, which needs to agree with nobody on the number of the renewal.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from flyatc.databases.lineage import Position
from flyatc.objects.store import Stored

_FOLDER = r"e(?P<line>\d{6,})(?:-(?P<renewal>\d{2,}))?/"
_FILE = re.compile(_FOLDER + r"(?:.+/)?(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16})\.ltx")
_OTHER = re.compile(_FOLDER + r".+(?<!\.tmp)")  # a .tmp: it was killed while it wrote; it is not there yet


@dataclass(frozen=True)
class Line:
    """It has content. ``since`` and ``until``: Unix times of its oldest and newest object, by the store's clock."""

    number: int
    txid: int  # of the last transaction
    octets: int  # in the store
    since: float
    until: float
    whole: int = 0  # octets of its newest file with all pages, compressed: a restore takes at least so many
    renewal: int = 0  # how often the owner of the line has begun it anew: see Stream.begin_anew

    @property
    def name(self) -> str:
        return folder(self.number, self.renewal)

    @property
    def position(self) -> Position:
        """Of its last transaction."""
        return Position(self.number, self.renewal, self.txid)


@dataclass(frozen=True)
class Lines:
    """``strange``: keys below the lines which are not litestream's."""

    found: tuple[Line, ...] = ()  # ascending
    strange: tuple[str, ...] = ()

    @property
    def last(self) -> Line | None:
        return self.found[-1] if self.found else None


SKEW = 2.0  # s, between the store's clock and the one in litestream's files


def folder(line: int, renewal: int = 0) -> str:
    return f"e{line:06}-{renewal:02}" if renewal else f"e{line:06}"


def file_of(position: Position, *, bucket: bool) -> str:
    """The file in which litestream has first sent a transaction; it is compacted into others after minutes."""
    level = "0000" if bucket else "ltx/0"
    return f"{folder(position.line, position.renewal)}/{level}/{position.txid:016x}-{position.txid:016x}.ltx"


def read(there: Iterable[Stored], prefix: str) -> Lines:
    """``there``: all keys below ``prefix``; those of snapshots do not count."""
    files: dict[tuple[int, int], list[tuple[int, int, Stored]]] = {}
    strange = []
    for stored in there:
        name = stored.key.removeprefix(prefix)
        if match := _FILE.fullmatch(name):
            line = int(match["line"]), int(match["renewal"] or 0)
            files.setdefault(line, []).append((int(match["last"], 16), int(match["first"], 16), stored))
        elif _OTHER.fullmatch(name):
            strange.append(stored.key)
    return Lines(tuple(_line(*line, files[line]) for line in sorted(files)), tuple(strange))


def at(lines: Lines, moment: float) -> list[tuple[Line, float | None]]:
    """Where the state at ``moment`` may be found, the likeliest first; None: the last state of that line, behind which
    litestream finds no moment."""
    found: list[tuple[Line, float | None]] = []
    for line in reversed(lines.found):
        if line.since <= moment:
            found += [(line, moment)] if moment < line.until else []
            found += [(line, None)] if moment > line.until - SKEW else []
    return found


def _line(number: int, renewal: int, files: list[tuple[int, int, Stored]]) -> Line:
    times = [stored.modified for *_, stored in files]
    whole = [(last, stored.size) for last, first, stored in files if first == 1]
    return Line(
        number=number,
        renewal=renewal,
        txid=max(last for last, *_ in files),
        octets=sum(stored.size for *_, stored in files),
        since=min(times),
        until=max(times),
        whole=max(whole)[1] if whole else 0,
    )
