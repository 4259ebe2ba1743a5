"""Durable local record of the save state of a tenant's databases: one JSON file, replaced atomically."""

import asyncio
import errno
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.databases import links
from flyatc.databases.manifest import Entry
from flyatc.kit.durable_files import Inode, inode_of, was_replaced
from flyatc.kit.threads import Threads


class _File(Struct, frozen=True):
    databases: dict[str, Entry]
    v: int = 1


class Record:
    """``damaged``: the file could not be decoded. Then nothing is known of any database: a local copy of unknown origin
    is set aside, never saved over the store's version, and never deleted.

    It is true of the folder in which it was read, not of another one that takes its place: an older copy, a volume that
    is mounted over it."""

    def __init__(
        self, path: Path, entries: dict[str, Entry], threads: Threads, *, damaged: bool, inode: Inode | None = None
    ) -> None:
        """``inode``: of its folder; None: there was none yet."""
        self._path, self._entries, self._threads, self.damaged = path, entries, threads, damaged
        self._inode = inode
        self._lock = asyncio.Lock()

    @classmethod
    async def read(cls, folder: Path, threads: Threads) -> "Record":
        """Read the record. Raises OSError if it exists and cannot be read: that must not count as absent."""
        path, inode = folder / "databases.json", inode_of(folder)
        try:
            body = await threads.run(partial(links.read, path))
            file = msgspec.json.decode(body, type=_File)
            if file.v != 1:
                raise ValueError("written by another release")
        except FileNotFoundError:
            return cls(path, {}, threads, damaged=False, inode=inode)
        except ValueError:  # from msgspec or UTF-8
            return cls(path, {}, threads, damaged=True, inode=inode)
        return cls(path, file.databases, threads, damaged=False, inode=inode)

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    @property
    def names(self) -> list[str]:
        """Names of the databases on record."""
        return list(self._entries)

    @property
    def in_use(self) -> bool:
        return any(entry.in_use for entry in self._entries.values())

    @property
    def epoch(self) -> int:
        """The highest epoch under which anything was written here."""
        return max((entry.epoch for entry in self._entries.values()), default=0)

    @property
    def saved_at(self) -> float | None:
        """Unix time of the last save of any of them; None: none is known."""
        return max((entry.saved_at for entry in self._entries.values() if entry.saved_at is not None), default=None)

    @property
    def deleted(self) -> bool:
        """True if the record is gone: the folder was deleted, or another one is in its place."""
        return self._replaced or not self._path.exists()

    @property
    def _replaced(self) -> bool:
        """True if another folder is in its place, but not one that an app has put there: each write refuses that, and
        the local copy is kept (``links.opened``)."""
        folder = self._path.parent
        return was_replaced(folder, self._inode) and not links.is_foreign(folder)

    async def disown(self) -> None:
        """If another folder is in its place: forget what the record there says, so that a copy of unknown origin is
        replaced by what the store has, and set aside. Raises OSError."""
        if self._replaced:
            await self._threads.run(partial(links.write, self._path, msgspec.json.encode(_File({}))))

    async def put(self, entries: dict[str, Entry]) -> None:
        """Update entries: visible at once, durable on return. Raises OSError."""
        if self._replaced:
            raise OSError(errno.ESTALE, "another folder was put in its place", str(self._path.parent))
        self._entries.update(entries)
        async with self._lock:
            body = msgspec.json.format(msgspec.json.encode(_File(self._entries)), indent=1)
            await self._threads.run(partial(links.write, self._path, body))
