"""Which databases may be streamed: those that are in WAL mode, as their app has left them. Pure.

litestream sets journal_mode=WAL on whatever it gets, within a second and without a log line, and from then on holds a
read lock. An app that sets another mode on each connection, as it may, then fails with "database is locked" for ever.
So litestream only gets a database of which the file says WAL (bytes 18 and 19 of its header, fileformat2.html, 1.3),
which stays so when the last connection is closed. All others are saved as snapshots.

A file may say WAL although its app wants to leave that mode, if a litestream or an earlier release of the app has set
it. That app cannot leave it while litestream is there, and the file cannot show it; its errors do. So at the first sign
of trouble litestream lets go once, for PROBE seconds at least: an app that wants another mode takes it with its next
connection, and then the file shows it.
"""

from dataclasses import dataclass
from enum import Enum

PROBE = 10.0  # s; several requests of a client that tries again
LONGEST_PROBE = 60.0  # s; where nobody writes, there is nothing to stream either

LEAVES_WAL = (
    "it is not in WAL mode, which litestream needs: it is saved as snapshots instead, at storage.interval and at stop. "
    "To have it streamed, let the app set PRAGMA journal_mode=WAL, or no journal mode at all and set it once by hand; "
    "streaming begins with its next start"
)


class Journal(Enum):
    """Of a database file, by its header."""

    ABSENT = "absent"  # or empty
    WAL = "wal"
    OTHER = "other"


class Mode(Enum):
    WAITING = "waiting"  # the app has not made it yet
    STREAMED = "streamed"
    PROBED = "probed"  # litestream has let go, to see what the app does
    SAVED = "saved"  # as snapshots, until the next start


@dataclass(frozen=True)
class Seen:
    """``trouble``: the app failed since the last look. ``probed``: once in this run."""

    journal: Journal
    trouble: bool = False
    probed: bool = False
    written: bool = False  # since the probe began
    since: float = 0.0  # seconds in the mode


def first(journal: Journal, *, doubted: bool) -> Mode:
    """``doubted``: the app failed as one that wants to leave WAL does, until the end of its last run."""
    match journal:
        case Journal.ABSENT:
            return Mode.WAITING
        case Journal.OTHER:
            return Mode.SAVED
    return Mode.PROBED if doubted else Mode.STREAMED


def following(mode: Mode, seen: Seen) -> Mode:
    """The mode after one look."""
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
