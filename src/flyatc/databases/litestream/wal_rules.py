"""Rules for streaming a database: only in WAL mode, as set by its app. Pure.

litestream sets journal_mode=WAL on whatever it gets, within a second and without a log line, and from then on holds a
read lock. An app that sets another mode on each connection, as it may, then fails with "database is locked" for ever.
So litestream only gets a database whose header says WAL (bytes 18 and 19, fileformat2.html, 1.3), which persists after
the last connection is closed. All others are saved as snapshots.

A file may be in WAL mode although its app wants another mode, if a litestream or an earlier release of the app has set
WAL. That app cannot change the mode while litestream is attached, so the file does not show it, but errors do. So at
the first trouble litestream is detached once, for at least PROBE seconds: an app that wants another mode sets it with
its next connection, and then the file shows it.
"""

from dataclasses import dataclass
from enum import Enum

PROBE = 10.0  # s; several requests of a client that retries
LONGEST_PROBE = 60.0  # s; without writes there is nothing to stream either

LEAVES_WAL = (
    "it is not in WAL mode, which litestream needs: it is saved as snapshots instead, at storage.interval and at stop. "
    "To have it streamed, let the app set PRAGMA journal_mode=WAL, or no journal mode at all and set it once by hand; "
    "streaming begins with its next start"
)


class Journal(Enum):
    """Journal mode of a database file, by its header."""

    ABSENT = "absent"  # or empty
    WAL = "wal"
    OTHER = "other"


class Mode(Enum):
    WAITING = "waiting"  # the app has not created it yet
    STREAMED = "streamed"
    PROBED = "probed"  # detached, to see what the app does
    SAVED = "saved"  # as snapshots, until the next start


@dataclass(frozen=True)
class Seen:
    """Facts of one look. ``trouble``: the app failed since the last look. ``probed``: already, in this run."""

    journal: Journal
    trouble: bool = False
    probed: bool = False
    written: bool = False  # since the probe began
    since: float = 0.0  # seconds in the mode


def first(journal: Journal, *, doubted: bool) -> Mode:
    """Return the first mode. ``doubted``: until the end of its last run the app failed as if it wanted to leave WAL."""
    match journal:
        case Journal.ABSENT:
            return Mode.WAITING
        case Journal.OTHER:
            return Mode.SAVED
    return Mode.PROBED if doubted else Mode.STREAMED


def following(mode: Mode, seen: Seen) -> Mode:
    """Return the mode after one look."""
    if mode is Mode.SAVED or seen.journal is Journal.ABSENT:
        return mode
    if seen.journal is Journal.OTHER:
        return Mode.SAVED
    match mode:
        case Mode.WAITING:
            return Mode.STREAMED
        case Mode.STREAMED if seen.trouble and not seen.probed:
            return Mode.PROBED
        case Mode.PROBED if seen.since > (PROBE if seen.written and not seen.trouble else LONGEST_PROBE):
            return Mode.STREAMED
    return mode
