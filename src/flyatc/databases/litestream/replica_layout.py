"""Replica paths and URLs: the lines of a database in the store, and where to find its state at some time. Pure.

``…/<database>/e000005/…/MIN-MAX.ltx``: litestream names its files by the first and last transaction in them, below
``ltx/<level>/`` in a folder, ``000<level>/`` in S3. There is one line of transactions for each epoch that was acquired
without a clean release. Each has its own path because litestream writes without conditions: a machine that has lost
its lease, and has not noticed yet, goes on writing to the line of its own epoch, which is not read any more once there
is a newer one.

A damaged line is left as it is, and a renewal is started beside it: ``e000005-01``. Only one machine writes the line of
an epoch, so the number of the renewal needs no coordination.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from flyatc.config import check_sections
from flyatc.config.schema import Storage, Tenant
from flyatc.databases.decisions import version_choice
from flyatc.databases.decisions.version_choice import Picked, SavedVersion
from flyatc.databases.manifest import Position
from flyatc.objects.store import Stored

_FOLDER = r"e(?P<line>\d{6,})(?:-(?P<renewal>\d{2,}))?/"
_FILE = re.compile(_FOLDER + r"(?:.+/)?(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16})\.ltx")
_OTHER = re.compile(_FOLDER + r".+(?<!\.tmp)")  # a .tmp: litestream was killed while it wrote; it does not count


@dataclass(frozen=True)
class Line:
    """A line with content. ``since``, ``until``: Unix times of its oldest and newest object, by the store's clock."""

    number: int
    txid: int  # of the last transaction
    size: int  # in the store
    since: float
    until: float
    whole: int = 0  # bytes of its newest file with all pages, compressed: the minimum for a restore
    renewal: int = 0  # number of renewals: see Stream.begin_anew

    @property
    def name(self) -> str:
        return folder(self.number, self.renewal)

    @property
    def position(self) -> Position:
        """Position of its last transaction."""
        return Position(self.number, self.renewal, self.txid)


@dataclass(frozen=True)
class Lines:
    """All lines of a database. ``strange``: keys below them that are not litestream's."""

    found: tuple[Line, ...] = ()  # ascending
    strange: tuple[str, ...] = ()

    @property
    def last(self) -> Line | None:
        return self.found[-1] if self.found else None


SKEW = 2.0  # s, between the store's clock and the one in litestream's files


def folder(line: int, renewal: int = 0) -> str:
    return f"e{line:06}-{renewal:02}" if renewal else f"e{line:06}"


def file_of(position: Position, *, bucket: bool) -> str:
    """Return the name of the file in which litestream first sends a transaction; compacted after minutes."""
    level = "0000" if bucket else "ltx/0"
    return f"{folder(position.line, position.renewal)}/{level}/{position.txid:016x}-{position.txid:016x}.ltx"


def read(there: Iterable[Stored], prefix: str) -> Lines:
    """Read the lines from ``there``, all keys below ``prefix``. Snapshots are ignored."""
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


def lacking(there: Iterable[Stored], prefix: str, after: int, until: Position) -> int | None:
    """Return the first transaction after ``after`` that is in no file of the line; None: all ``until`` are."""
    matches = (_FILE.fullmatch(stored.key.removeprefix(prefix)) for stored in there)
    line = folder(until.line, until.renewal)
    files = [(int(one["first"], 16), int(one["last"], 16)) for one in matches if one and one[0].startswith(f"{line}/")]
    for first, last in sorted(files):
        if first <= after + 1:
            after = max(after, last)
    return after + 1 if after < until.txid else None


def at(lines: Lines, moment: float) -> list[tuple[Line, float | None]]:
    """Return the lines that may have the state at ``moment``, the likeliest first, each with the time to restore. None:
    the last state of the line, since litestream cannot find a later time."""
    moment += version_choice.ROUNDED
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
        size=sum(stored.size for *_, stored in files),
        since=min(times),
        until=max(times),
        whole=max(whole)[1] if whole else 0,
    )


# litestream hands a database's path to SQLite as a URI. A file's URL it takes literally up to a '?', unless there is a
# character in it which a URL may not have: then it writes to the escaped path, which is another folder.
_UNSPEAKABLE = re.compile(r"[%?#]")
_ESCAPED = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@\[\]/-]")


def prefix(tenant: Tenant, database: str) -> str:
    """Return the prefix of all keys of the database in the store."""
    return f"users/{tenant.user}/{tenant.key}/{database.replace('/', '~')}/"  # no name holds a '~'


class Addresses:
    """Builds replica URLs. ``storage`` is resolved, and has a URL."""

    def __init__(self, storage: Storage, environ: Mapping[str, str]) -> None:
        self._storage, self._environ = storage, environ

    @property
    def in_bucket(self) -> bool:
        return self._storage.url.startswith(check_sections.SCHEME)

    def fault(self, database: str) -> str | None:
        """Return why a database of this name is not streamed; None: it can be. The app may have chosen the name: see
        ``databases`` with a pattern."""
        for text in (database, "" if self.in_bucket else self._storage.url):
            if found := (_UNSPEAKABLE if self.in_bucket else _ESCAPED).search(text):
                return (
                    f"{text} has a {found[0]!r}, which litestream does not support there: it is saved as snapshots "
                    "instead, at storage.interval and at stop"
                )
        return None

    def of_line(self, tenant: Tenant, database: str, line: int, renewal: int = 0) -> str:
        return self.of_key(f"{prefix(tenant, database)}{folder(line, renewal)}")

    def of_key(self, key: str) -> str:
        """Return the URL of the replica below ``key`` of our store."""
        return self.of_url(f"{self._storage.url}/{key}", prefixed=key)

    def of_url(self, url: str, *, prefixed: str = "") -> str:
        """Return litestream's form: ``s3://bucket/path`` with region and endpoint, or ``file://``."""
        if not url.startswith(check_sections.SCHEME):
            return f"file://{url.removeprefix('file:')}"
        there = check_sections.bucket_of(self._storage.url if prefixed else url, self._environ)
        path = f"{there.prefix}{prefixed}".rstrip("/")
        query = {"region": there.region}
        if there.endpoint is not None:
            # litestream recognizes Tigris by the exact host, and then requests consistent reads.
            query |= {"endpoint": there.endpoint, "force-path-style": "true"}
        return f"s3://{there.name}/{path}?{urlencode(query)}"


def path_fault(text: str) -> str | None:
    """Return why litestream cannot handle this path; None: it can."""
    found = _UNSPEAKABLE.search(text)
    if found is None:
        return None
    return f"{text} has a {found[0]!r}, which litestream does not support in a path: use another folder"


Source = tuple[Line, float | None] | Picked


def places_at(found: Lines, kept: Iterable[SavedVersion], moment: float) -> list[Source]:
    """Return the sources for the state at ``moment``, the likeliest first: lines that cover it, then earlier saves."""
    sources: list[tuple[bool, float, Source]] = [
        (time is not None, line.until, (line, time)) for line, time in at(found, moment)
    ]
    by_key = {one.key: one for one in kept}
    picked = version_choice.newest(by_key.values(), moment)
    if isinstance(picked, Picked):
        sources.append((False, by_key[picked.key].saved, picked))
    return [source for _, _, source in sorted(sources, key=lambda one: one[:2], reverse=True)]
