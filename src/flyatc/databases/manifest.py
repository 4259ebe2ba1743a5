"""Which copy descends from which: the words that the store and the local record share. Pure.

A snapshot's number is ``<epoch>-<seq>``, zero-padded so that names sort as numbers do; it is never used twice in a
lineage. A snapshot is the same as another only if number *and* content are: a store which was emptied counts anew.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  # sha256 of the database file
Name = Annotated[str, Meta(pattern=r"^\d{6}-\d{9}\.sqlite3\.zst$")]

SUFFIX = ".sqlite3.zst"
_NAME = re.compile(r"(\d{6})-(\d{9})\.sqlite3\.zst")
LONGEST_HISTORY = 500  # the pointer stays a small object; older snapshots may still be kept and listed


class Link(Struct, frozen=True):
    """One snapshot, beyond doubt."""

    key: Name
    sha256: Hash


class Position(Struct, frozen=True, order=True):
    """A place in what litestream has sent of one database. The later one has all that the earlier one has."""

    line: int
    renewal: int
    txid: int

    def __str__(self) -> str:
        return f"e{self.line:06}{f'-{self.renewal:02}' if self.renewal else ''}:{self.txid}"


class Snapshot(Struct, frozen=True, kw_only=True):
    """What is known of one snapshot in the store."""

    key: Name  # its name in the database's folder of the store
    size: Annotated[int, Meta(gt=0)]  # octets of the database
    compressed: Annotated[int, Meta(gt=0)]  # octets in the store
    sha256: Hash
    saved: str  # RFC 3339
    position: Position | None = None  # litestream's, when its stream had the same content

    @property
    def link(self) -> Link:
        return Link(self.key, self.sha256)


class Pointer(Snapshot, frozen=True, kw_only=True):
    """current.json: the newest snapshot, and those before it, newest first. ``owner``: the epoch of the last machine
    which took the database over; it is written before that machine reads, so that nothing older lands after it.
    ``streamed``: since then litestream has written beside it, and knows better."""

    v: Annotated[int, Meta(ge=1, le=1)] = 1
    owner: int = 0
    streamed: bool = False
    epoch: int
    seq: int
    previous: list[Snapshot] = []

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(
            key=self.key,
            size=self.size,
            compressed=self.compressed,
            sha256=self.sha256,
            saved=self.saved,
            position=self.position,
        )


class Blank(Struct, frozen=True, kw_only=True):
    """current.json of a database that has an owner and was never saved. ``began``: the epoch of the first machine that
    wrote it, at a time when the store had no snapshot of the database; 0: not known."""

    v: Annotated[int, Meta(ge=1, le=1)] = 1
    owner: int
    streamed: bool = False
    began: int = 0
    nonce: str = ""  # new in every write: equal bodies have equal etags, and a blank pointer may be deleted


def name(epoch: int, seq: int) -> str:
    return f"{epoch:06}-{seq:09}{SUFFIX}"


def number(key: str) -> tuple[int, int] | None:
    """(epoch, seq) of a snapshot's name; None: it is not one."""
    match = _NAME.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else None


def version(key: str) -> str:
    """As people write it: ``000001-000000042``."""
    return key.removesuffix(SUFFIX)


def saved_at(snapshot: Snapshot) -> float:
    """Unix time."""
    return datetime.fromisoformat(snapshot.saved).timestamp()


def point(snapshot: Snapshot, before: Pointer | None, owner: int) -> Pointer:
    """The pointer which puts ``snapshot`` on top of what was current, if it is not the current one."""
    epoch, seq = number(snapshot.key) or (0, 0)
    previous = [] if before is None else [before.snapshot, *before.previous][:LONGEST_HISTORY]
    previous = [one for one in previous if one.key != snapshot.key]
    return Pointer(
        owner=owner,
        epoch=epoch,
        seq=seq,
        key=snapshot.key,
        size=snapshot.size,
        compressed=snapshot.compressed,
        sha256=snapshot.sha256,
        saved=snapshot.saved,
        position=snapshot.position,
        previous=previous,
    )


def following(current: Pointer | None, keys: list[str], owner: int) -> str:
    """The name of the next snapshot: above the current one and above all that are there, published or not."""
    numbers = [n for n in map(number, keys) if n is not None]
    if current is not None:
        numbers.append((current.epoch, current.seq))
    epoch, seq = max(numbers, default=(1, 0))
    return name(max(epoch, owner), seq + 1)


def unpublished(keys: Iterable[str], began: int, owner: int) -> bool:
    """Whether ``keys`` are surely saves of which ``current.json`` never told: it is blank since the epoch ``began``,
    when there was no snapshot, and ``owner`` is the last machine which may have uploaded one."""
    numbers = [number(key) for key in keys]
    return began > 0 and all(one is not None and began <= one[0] <= owner for one in numbers)


def surplus(keys: list[str], current: Pointer, keep: int) -> list[str]:
    """The names which history no longer needs, when ``keep`` snapshots are kept, the current one among them.

    Nothing newer than the current one (it may be on its way to be published), and none of its ``keep - 1``
    predecessors: uploads that were never published do not push out those which were."""
    older = sorted((k for k in keys if number(k) is not None and k < current.key), reverse=True)
    needed = {*older[: keep - 1], *(s.key for s in current.previous[: keep - 1])}
    return [key for key in older if key not in needed]


def decode(body: bytes) -> Pointer | Blank:
    """Raises ValueError with what is wrong."""
    if "key" not in msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        return msgspec.json.decode(body, type=Blank)
    pointer = msgspec.json.decode(body, type=Pointer)
    saved_at(pointer)
    if number(pointer.key) != (pointer.epoch, pointer.seq):
        raise ValueError("its key and its epoch and seq do not agree")
    return pointer


def encode(pointer: Pointer | Blank) -> bytes:
    return msgspec.json.format(msgspec.json.encode(pointer), indent=1)


# --- what this machine remembers ---

Stamp = tuple[int, int, int, int]  # inode, octets, mtime_ns, ctime_ns
Signature = tuple[Stamp | None, Stamp | None, Stamp | None]  # of the database, its -wal, its -journal


class Entry(Struct, frozen=True, kw_only=True):
    """What is on record of one local database.

    ``base``: the snapshot which it descends from. ``pending``: snapshots of it whose publication is not confirmed; the
    store's current one may be one of them. ``in_use``: from before the app starts until the save after its end is
    confirmed. ``signature``: of the files when their content was last known to be in the store. ``saved_at``: Unix
    time of that. ``epoch``: under which it was written here last; 0: before there were owners. In litestream mode
    ``line`` and ``renewal`` tell where it streams to, and ``txid`` is litestream's number of the last transaction
    which the store is known to have there. ``skipped``: how many clean stops left no snapshot since the last one.
    ``doubted``: its last run ended with errors as of an app that wants to leave WAL mode."""

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
        """Whether anything of it was ever written, as far as the record tells."""
        return bool(self.base or self.pending or self.in_use or self.txid or self.saved_at is not None)

    def descends_from(self, link: Link) -> bool:
        return link == self.base or link in self.pending
