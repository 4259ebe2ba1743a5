"""Causes of a failed restore: the disk, the memory, the store, or the copy itself. Pure.

Only for a damaged copy an earlier state is worth restoring. Every other cause is temporary: the same restore works
later. litestream reports a line of text and an exit code; our own errors are exceptions with an errno.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from flyatc.kit.types import Exit
from flyatc.kit.units import human_size

FULL_BELOW = 64 << 10  # bytes; a file system with less than this is full: SQLite's largest page
_KILL = 9
_KILLED = 128 + _KILL  # as a shell reports it


class Cause(Enum):
    FULL = "the disk is full"
    QUOTA = "the disk quota is used up"
    READ_ONLY = "the file system is read-only"
    DENIED = "permission denied on the local disk"
    BROKEN = "the local disk does not answer"
    FILES = "too many open files"
    MEMORY = "out of memory"
    KILLED = "litestream was killed"
    STORE_AWAY = "the store does not answer"
    STORE_REFUSED = "the store refuses"
    NO_SUCH_TIME = "nothing from before that time"
    DAMAGED = "the copy in the store is damaged"
    UNKNOWN = "unknown"

    @property
    def passes(self) -> bool:
        """True if the cause is temporary: the copy may be intact, so an earlier state is no remedy."""
        return self not in (Cause.DAMAGED, Cause.NO_SUCH_TIME)


@dataclass(frozen=True)
class Room:
    """Space on a file system. ``free``: bytes available. ``needed``: bytes, at least; 0: unknown."""

    mount: str
    path: str
    free: int
    needed: int = 0

    @property
    def short(self) -> bool:
        return self.free < max(self.needed, 1)

    def __str__(self) -> str:
        needed = f", about {human_size(self.needed)} are needed" if self.needed else ""
        return f"{human_size(self.free)} are free on {self.mount}{needed} for {self.path}"


_ERRNO = {  # and as Go spells it
    errno.ENOSPC: (Cause.FULL, "no space left on device"),
    errno.EDQUOT: (Cause.QUOTA, "disk quota exceeded"),
    errno.EFBIG: (Cause.QUOTA, "file too large"),
    errno.EROFS: (Cause.READ_ONLY, "read-only file system"),
    errno.EACCES: (Cause.DENIED, "permission denied"),
    errno.EPERM: (Cause.DENIED, "operation not permitted"),
    errno.EMFILE: (Cause.FILES, "too many open files"),
    errno.ENFILE: (Cause.FILES, "too many open files in system"),
    errno.ENOMEM: (Cause.MEMORY, "cannot allocate memory"),
    errno.EIO: (Cause.BROKEN, "input/output error"),
    errno.ESTALE: (Cause.BROKEN, "stale nfs file handle"),
    errno.ENOTCONN: (Cause.BROKEN, "transport endpoint is not connected"),
}
_SPELLED = [(words, cause) for cause, words in _ERRNO.values()]
_OF_THE_PROCESS = {Cause.MEMORY, Cause.FILES}  # independent of the file being read
_OUT_OF_MEMORY = re.compile(r"runtime: out of memory|cannot allocate memory|failed to reserve|out of memory")

_REFUSED = re.compile(
    r"StatusCode: (400|401|403)\b|SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied|ExpiredToken|NoSuchBucket"
    r"|no EC2 IMDS role found|refresh cached credentials|x509: |load aws config"
)
_AWAY = re.compile(
    r"StatusCode: (0|408|429|5\d\d)\b|exceeded maximum number of attempts|max retries exceeded|connection re(fused|set)"
    r"|no such host|dial tcp|i/o timeout|deadline exceeded|context canceled|TLS handshake|network is unreachable"
    r"|RequestTimeTooSkewed|no such file or directory|NoSuchKey|broken pipe|server misbehaving"
)
# Each was provoked with 0.5.17: a file truncated, emptied, with a flipped bit, filled with noise; the first missing.
_DAMAGED = re.compile(
    r"no matching backup files|unexpected EOF|checksum mismatch|invalid ltx|invalid lz4|unmarshal header"
    r"|has size \d+ bytes|decode (database|page|header)|close reader|non-?contiguous|malformed|quick_check",
    re.IGNORECASE,
)


def of_error(error: OSError) -> Cause:
    """Return the cause of an error of the local disk."""
    return _ERRNO.get(error.errno or 0, (Cause.BROKEN, ""))[0]


def of_litestream(said: Sequence[str], ended: Exit | None, local: str, free: int) -> Cause:
    """Return the cause of a failed litestream. ``said``: lines of its output. ``local``: the folder it writes to.
    ``free``: bytes there, afterwards."""
    text = "\n".join(said)
    spelled = [cause for words, cause in _SPELLED if words in text]
    if ended is not None and (ended.signal == _KILL or ended.code == _KILLED):
        return Cause.KILLED
    for cause in spelled:
        if local in text or cause in _OF_THE_PROCESS:
            return cause
    if _OUT_OF_MEMORY.search(text):
        return Cause.MEMORY
    if "timestamp does not exist" in text:
        return Cause.NO_SUCH_TIME
    if _REFUSED.search(text) or spelled:  # a store that is a folder has an errno too
        return Cause.STORE_REFUSED
    if _AWAY.search(text):
        return Cause.STORE_AWAY
    if free < FULL_BELOW:
        return Cause.FULL
    return Cause.DAMAGED if _DAMAGED.search(text) else Cause.UNKNOWN


_REMEDIES = {
    Cause.FULL: "Free some space there, or enlarge the volume",
    Cause.QUOTA: "Raise the quota or the limit of a file's size, or free some space there",
    Cause.READ_ONLY: "Mount it writable; the kernel's log may say why it is not",
    Cause.DENIED: "Let the user who runs flyatc write there",
    Cause.BROKEN: "Look at the disk: the kernel's log may say more",
    Cause.FILES: "Raise the limit of open files (ulimit -n)",
    Cause.MEMORY: "Give this machine more memory, or lower limits.running",
    Cause.KILLED: "Most often the kernel killed it for lack of memory: see its log",
    Cause.STORE_AWAY: "Look whether the store is up and can be reached",
    Cause.STORE_REFUSED: "Look at its credentials, permissions and address",
    Cause.UNKNOWN: "flyatc verify shows whether the store's copy is whole",
}
_ON_DISK = {Cause.FULL, Cause.QUOTA, Cause.READ_ONLY, Cause.DENIED, Cause.BROKEN}


def advice(cause: Cause, words: str, room: Room | None) -> str:
    """Return sentences for the operator about a temporary cause. ``words``: the error text."""
    what = cause.value if cause is not Cause.UNKNOWN else "the cause is unknown"
    where = f" ({room})" if room is not None and cause in _ON_DISK else ""
    said = f": {words}" if words else ""
    return f"{what}{where}{said}. {_REMEDIES.get(cause, '')}. Nothing was changed; it is tried again automatically"
