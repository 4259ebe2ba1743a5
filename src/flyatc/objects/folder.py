"""A folder as a store: the async door. What it does to the disk is in ``disk``."""

from functools import partial
from pathlib import Path

from flyatc.kit.progress import Progress
from flyatc.kit.threads import Threads
from flyatc.objects import conditions
from flyatc.objects.disk import Disk
from flyatc.objects.store import Seen, Stored


class FolderStore:
    """An ObjectStore. Call ``open`` first; several processes may use one folder."""

    def __init__(self, root: Path) -> None:
        self._disk = Disk(root)
        self._threads = Threads(4, "store")

    async def open(self) -> None:
        """Makes the folder if it is not there. If it vanishes later it is not made again: that is StoreUnavailable."""
        await self._threads.run(self._disk.open)

    async def check(self) -> None:
        """The self-test before first use. Raises StoreUnavailable."""
        await conditions.check(self)

    async def get(self, key: str) -> tuple[bytes, str] | None:
        return await self._threads.run(partial(self._disk.get, key))

    async def look(self, key: str) -> Seen | None:
        return await self._threads.run(partial(self._disk.look, key))

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        return await self._threads.run(partial(self._disk.put, key, body, create=create, match=match))

    async def head(self, key: str) -> Stored | None:
        return await self._threads.run(partial(self._disk.head, key))

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        return await self._threads.run(partial(self._disk.list, prefix))

    async def delete(self, key: str) -> None:
        await self._threads.run(partial(self._disk.delete, key))

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        await self._threads.watch(partial(self._disk.download, key, path), "download", progress)

    async def borrow(self, key: str, path: Path, progress: Progress) -> None:
        """A folder's keys have no slashes in front: they are left out."""
        await self.download(key.strip("/"), path, progress)

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        return await self._threads.watch(partial(self._disk.upload, key, path, create), "upload", progress)

    async def hang_up(self) -> None:
        """There is nobody at the other end."""

    def close(self) -> None:
        self._threads.close()
