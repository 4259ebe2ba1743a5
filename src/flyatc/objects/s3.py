"""A bucket as a store: the async door. The requests are in ``s3_small`` and ``s3_transfers``."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from flyatc.config.bucket import Bucket
from flyatc.kit.progress import Progress
from flyatc.kit.threads import Threads
from flyatc.objects import conditions
from flyatc.objects.s3_client import Clients
from flyatc.objects.s3_small import Small
from flyatc.objects.s3_transfers import Transfers
from flyatc.objects.store import Seen, Stored


class S3Store:
    """An ObjectStore. ``environ`` has the credentials. A small call ends within 40 s
    whatever happens, a transfer within a minute besides what its size takes on a slow line.

    ``hurried``: one attempt, which ends within so many seconds: for records which are of no use when they come late."""

    def __init__(self, bucket: Bucket, environ: Mapping[str, str], *, hurried: float | None = None) -> None:
        self._hurried = hurried
        self._clients = Clients(bucket, environ, hurried=hurried)
        self._small, self._transfers = Small(self._clients), Transfers(self._clients)
        self._threads = Threads(4, "s3-hurried" if hurried is not None else "s3")

    async def open(self) -> None:
        """Raises StoreRefused where credentials or bucket are wrong, StoreUnavailable."""
        await self._threads.run(self._small.probe)
        if not self._hurried:
            await self._threads.run(self._transfers.sweep)

    async def check(self) -> None:
        """The self-test before first use. Raises StoreRefused where conditions are ignored, StoreUnavailable."""
        await conditions.check(self)

    async def get(self, key: str) -> tuple[bytes, str] | None:
        seen = await self.look(key)
        return None if seen is None else (seen.body, seen.etag)

    async def look(self, key: str) -> Seen | None:
        return await self._threads.run(partial(self._small.look, key))

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        return await self._threads.run(partial(self._small.put, key, body, create=create, match=match))

    async def head(self, key: str) -> Stored | None:
        return await self._threads.run(partial(self._small.head, key))

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        return await self._threads.run(partial(self._small.list, prefix))

    async def delete(self, key: str) -> None:
        await self._threads.run(partial(self._small.delete, key))

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        await self._threads.watch(partial(self._transfers.download, key, path), "download", progress)

    async def borrow(self, key: str, path: Path, progress: Progress) -> None:
        await self._threads.watch(partial(self._transfers.borrow, key, path), "download", progress)

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        return await self._threads.watch(partial(self._transfers.upload, key, path, create), "upload", progress)

    async def hang_up(self) -> None:
        """The client opens new connections when it is asked again. A call which is under way keeps its own."""
        await self._threads.run(self._clients.close)

    def close(self) -> None:
        """Waits for what is running."""
        self._threads.close()
        self._clients.close()
