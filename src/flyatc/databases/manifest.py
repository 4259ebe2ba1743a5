"""Snapshots, versions and their ancestry, as current.json and the local record describe them. Pure.

A snapshot's number is ``<epoch>-<seq>``, zero-padded so that names sort as numbers do; it is never used twice in a
lineage. Two snapshots are the same only if number *and* content are: numbers restart in a store that was emptied.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  # sha256 of the database file
Name = Annotated[str, Meta(pattern=r"^\d{6}-\d{9}\.(sqlite3|files)\.zst$")]

SUFFIX = ".sqlite3.zst"
ARCHIVE = ".tar.zst"  # of an orphaned folder
OF_FILES = ".files.zst"  # the manifest of a folder: see ``files``
_NAME = re.compile(r"(\d{6})-(\d{9})\.(?:sqlite3|files)\.zst")
LONGEST_HISTORY = 500  # the pointer stays a small object; older snapshots may still be kept and listed
MOST_BESIDE = 500  # entries of ``beside`` in a pointer, for the same reason


class Link(Struct, frozen=True):
    """Unambiguous reference to one snapshot."""

    key: Name
    sha256: Hash


class Position(Struct, frozen=True, order=True):
    """A position in litestream's stream of one database. A later one includes all of an earlier one."""

    line: int
    renewal: int
    txid: int

    def __str__(self) -> str:
        return f"e{self.line:06}{f'-{self.renewal:02}' if self.renewal else ''}:{self.txid}"


class Snapshot(Struct, frozen=True, kw_only=True):
    """Description of one snapshot in the store, of a database or of a folder of files.

    ``beside``: versions that belong to it: of the folders saved after the copy of this database, or of the databases
    that had not changed when this folder was saved. See ``files.pairing``."""

    key: Name  # its name in the database's folder of the store
    size: Annotated[int, Meta(ge=0)]  # bytes of the database, or of all files
    compressed: Annotated[int, Meta(gt=0)]  # bytes in the store
    sha256: Hash
    saved: str  # RFC 3339
    position: Position | None = None  # litestream's, when its stream had the same content
    beside: dict[str, str] = {}

    @property
    def link(self) -> Link:
        return Link(self.key, self.sha256)


class Pointer(Snapshot, frozen=True, kw_only=True):
    """current.json: the newest snapshot, and those before it, newest first. ``owner``: epoch of the last machine that
    took the database over; written before that machine reads, so that no older write can follow. ``streamed``:
    litestream may have newer content."""

    v: Annotated[int, Meta(ge=1, le=1)] = 1
    owner: int = 0
    streamed: bool = False
    epoch: int
    seq: int
    previous: list[Snapshot] = []

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(**{name: getattr(self, name) for name in Snapshot.__struct_fields__})


class Blank(Struct, frozen=True, kw_only=True):
    """current.json of a database that has an owner and was never saved. ``began``: epoch of the first machine that
    wrote it, while the store had no snapshot of the database; 0: not known."""

    v: Annotated[int, Meta(ge=1, le=1)] = 1
    owner: int
    streamed: bool = False
    began: int = 0
    nonce: str = ""  # new in every write: equal bodies have equal etags, and a blank pointer may be deleted


def name(epoch: int, seq: int, suffix: str = SUFFIX) -> str:
    return f"{epoch:06}-{seq:09}{suffix}"


def number(key: str) -> tuple[int, int] | None:
    """Return (epoch, seq) of a snapshot's name; None: not a snapshot."""
    match = _NAME.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else None


def version(key: str) -> str:
    """Return the version id as in the CLI: ``000001-000000042``."""
    return key.removesuffix(SUFFIX).removesuffix(OF_FILES)


def saved_at(snapshot: Snapshot) -> float:
    """Return the Unix time of the save."""
    return datetime.fromisoformat(snapshot.saved).timestamp()


def point(snapshot: Snapshot, before: Pointer | None, owner: int) -> Pointer:
    """Return a pointer to ``snapshot``, with ``before`` and its predecessors as history."""
    epoch, seq = number(snapshot.key) or (0, 0)
    previous = [] if before is None else [before.snapshot, *before.previous][:LONGEST_HISTORY]
    previous = [one for one in previous if one.key != snapshot.key]
    previous = _shortened(previous, MOST_BESIDE - len(snapshot.beside))
    return Pointer(owner=owner, epoch=epoch, seq=seq, previous=previous, **structs.asdict(snapshot))


def _shortened(previous: list[Snapshot], room: int) -> list[Snapshot]:
    """Return them without ``beside`` from where there is no room for it."""
    kept = []
    for one in previous:
        room -= len(one.beside)
        kept.append(one if room >= 0 or not one.beside else structs.replace(one, beside={}))
    return kept


def following(current: Pointer | None, keys: list[str], owner: int, suffix: str = SUFFIX) -> str:
    """Return the name of the next snapshot: above the current one and all existing ones, published or not."""
    numbers = [n for n in map(number, keys) if n is not None]
    if current is not None:
        numbers.append((current.epoch, current.seq))
    epoch, seq = max(numbers, default=(1, 0))
    return name(max(epoch, owner), seq + 1, suffix)


def unpublished(keys: Iterable[str], began: int, owner: int) -> bool:
    """Return whether ``keys`` are certainly saves that were never published: ``current.json`` is blank since epoch
    ``began``, when there was no snapshot, and ``owner`` is the last machine that may have uploaded one."""
    numbers = [number(key) for key in keys]
    return began > 0 and all(one is not None and began <= one[0] <= owner for one in numbers)


def surplus(keys: list[str], current: Pointer, keep: int) -> list[str]:
    """Return the names to delete if ``keep`` snapshots are kept, including the current one.

    Never anything newer than the current one, since it may be about to be published, nor any of its ``keep - 1``
    predecessors: unpublished uploads do not displace published ones."""
    older = sorted((k for k in keys if number(k) is not None and k < current.key), reverse=True)
    needed = {*older[: keep - 1], *(s.key for s in current.previous[: keep - 1])}
    return [key for key in older if key not in needed]


def decode(body: bytes) -> Pointer | Blank:
    """Decode current.json. Raises ValueError with the reason."""
    if "key" not in msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        return msgspec.json.decode(body, type=Blank)
    pointer = msgspec.json.decode(body, type=Pointer)
    saved_at(pointer)
    if number(pointer.key) != (pointer.epoch, pointer.seq):
        raise ValueError("its key and its epoch and seq do not agree")
    if any(one.size == 0 and one.key.endswith(SUFFIX) for one in (pointer, *pointer.previous)):
        raise ValueError("a database has no content")
    return pointer


def encode(pointer: Pointer | Blank) -> bytes:
    return msgspec.json.format(msgspec.json.encode(pointer), indent=1)


# --- the local record ---

Stamp = tuple[int, int, int, int]  # inode, bytes, mtime_ns, ctime_ns
Signature = tuple[Stamp | None, Stamp | None, Stamp | None]  # of the database, its -wal, its -journal


class Entry(Struct, frozen=True, kw_only=True):
    """Local record of one database.

    ``base``: the snapshot it descends from. ``pending``: snapshots of it whose publication is not confirmed; the
    store's current one may be one of them. ``in_use``: set from before the app starts until the save after its end is
    confirmed. ``signature``: of the files when the store was last known to have their content. ``saved_at``: Unix
    time of that. ``epoch``: under which it was last written here; 0: before there were leases. In litestream mode
    ``line`` and ``renewal`` name the line it streams to, and ``txid`` is the last transaction that the store is known
    to have there. ``skipped``: clean stops without a snapshot since the last snapshot. ``doubted``: the last run ended
    with errors like those of an app that wants to leave WAL mode."""

    base: Link | None = None
    pending: tuple[Link, ...] = ()
    in_use: bool = False
    signature: Signature | None = None
    saved_at: float | None = None
    epoch: int = 0
    line: int = 0
    renewal: int = 0
    txid: int = 0
    doubted: bool = False
    skipped: int = 0

    @property
    def position(self) -> Position:
        return Position(self.line, self.renewal, self.txid)

    @property
    def known(self) -> bool:
        """True if anything of it was ever written, according to the record."""
        return bool(self.base or self.pending or self.in_use or self.txid or self.saved_at is not None)

    def descends_from(self, link: Link) -> bool:
        return link == self.base or link in self.pending
