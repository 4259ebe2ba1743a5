"""A folder as a store: the async door. What it does to the disk is in ``disk``."""

from functools import partial
from pathlib import Path

from flyatc.kit.progress import Progress
from flyatc.objects import conditions
from flyatc.objects.calls import SECONDS, Calls
from flyatc.objects.disk import Disk
from flyatc.objects.store import Seen, Stored
from flyatc.observe.log import Log

HURRIED = 10.0  # s; a local disk under load may take longer to write than a bucket


class FolderStore:
    """An ObjectStore. Call ``open`` first; several processes may use one folder."""

    def __init__(self, root: Path, *, hurried: bool = False, log: Log | None = None) -> None:
        """``hurried``: calls are given up sooner, see HURRIED."""
        seconds = HURRIED if hurried else None
        self._disk = Disk(root, 0.75 * (seconds or SECONDS))
        self._calls = Calls("store", str(root), log, seconds=seconds, replace=lambda: None)
        self.conditional_deletes = False

    async def open(self) -> None:
        """Makes the folder if it is not there. If it vanishes later it is not made again: that is StoreUnavailable."""
        await self._calls.small("open", self._disk.open)

    async def check(self) -> None:
        """The self-test before first use. Raises StoreUnavailable."""
        self.conditional_deletes = await conditions.check(self)

    async def get(self, key: str) -> tuple[bytes, str] | None:
        return await self._calls.small(f"get {key}", partial(self._disk.get, key))

    async def look(self, key: str) -> Seen | None:
        return await self._calls.small(f"get {key}", partial(self._disk.look, key))

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        return await self._calls.small(f"put {key}", partial(self._disk.put, key, body, create=create, match=match))

    async def head(self, key: str) -> Stored | None:
        return await self._calls.small(f"head {key}", partial(self._disk.head, key))

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        return await self._calls.pages(f"list {prefix}", partial(self._disk.list, prefix))

    async def delete(self, key: str, *, match: str | None = None) -> None:
        await self._calls.small(f"delete {key}", partial(self._disk.delete, key, match=match))

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        work = partial(self._disk.download, key, path)
        await self._calls.transfer(f"download {key}", work, "download", progress)

    async def borrow(self, key: str, path: Path, progress: Progress) -> None:
        """A folder's keys have no slashes in front: they are left out."""
        await self.download(key.strip("/"), path, progress)

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        work = partial(self._disk.upload, key, path, create)
        return await self._calls.transfer(f"upload {key}", work, "upload", progress)

    async def hang_up(self) -> None:
        """There is nobody at the other end."""

    def close(self) -> None:
        self._calls.close()
