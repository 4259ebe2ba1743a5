"""A bucket as a store: the async door. The requests are in ``s3_small`` and ``s3_transfers``."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from flyatc.config.bucket import Bucket
from flyatc.kit.progress import Progress
from flyatc.kit.threads import Tick
from flyatc.objects import conditions
from flyatc.objects.calls import Calls
from flyatc.objects.s3_client import Clients
from flyatc.objects.s3_small import Small
from flyatc.objects.s3_transfers import Transfers
from flyatc.objects.store import Seen, Stored
from flyatc.observe.log import Log

T = TypeVar("T")

MAKING = 30.0  # s; the first time boto3 is imported, which takes long on a busy machine


class S3Store:
    """An ObjectStore. ``environ`` has the credentials. Each call has a deadline: see ``calls``.

    ``hurried``: one attempt, which ends within so many seconds: for records which are of no use when they come late."""

    def __init__(
        self, bucket: Bucket, environ: Mapping[str, str], *, hurried: float | None = None, log: Log | None = None
    ) -> None:
        self._hurried, self.conditional_deletes = hurried, False
        self._clients = Clients(bucket, environ, hurried=hurried)
        self._small, self._transfers = Small(self._clients), Transfers(self._clients)
        name = "s3-hurried" if hurried is not None else "s3"
        self._calls = Calls(name, bucket.place, log, seconds=hurried, replace=self._clients.replace)

    async def open(self) -> None:
        """Raises StoreRefused where credentials or bucket are wrong, StoreUnavailable."""
        await self._call("open", self._small.probe)
        if not self._hurried:
            await self._call("sweep", self._transfers.sweep)

    async def check(self) -> None:
        """The self-test before first use. Raises StoreRefused where conditions are ignored, StoreUnavailable."""
        self.conditional_deletes = await conditions.check(self)

    async def get(self, key: str) -> tuple[bytes, str] | None:
        seen = await self.look(key)
        return None if seen is None else (seen.body, seen.etag)

    async def look(self, key: str) -> Seen | None:
        return await self._call(f"get {key}", partial(self._small.look, key))

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        return await self._call(f"put {key}", partial(self._small.put, key, body, create=create, match=match))

    async def head(self, key: str) -> Stored | None:
        return await self._call(f"head {key}", partial(self._small.head, key))

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        await self._made()
        return await self._calls.pages(f"list {prefix}", partial(self._small.list, prefix))

    async def delete(self, key: str, *, match: str | None = None) -> None:
        await self._call(f"delete {key}", partial(self._small.delete, key, match=match))

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        await self._transfer("download", key, partial(self._transfers.download, key, path), progress)

    async def borrow(self, key: str, path: Path, progress: Progress) -> None:
        await self._transfer("download", key, partial(self._transfers.borrow, key, path), progress)

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        return await self._transfer("upload", key, partial(self._transfers.upload, key, path, create), progress)

    async def hang_up(self) -> None:
        """The client opens new connections when it is asked again. A call which is under way keeps its own."""
        await self._calls.small("hang up", self._clients.close)

    def close(self) -> None:
        """Waits for what is running."""
        self._calls.close()
        self._clients.close()

    async def _made(self) -> None:
        """The client is made by a call of its own, so that a short deadline need not cover it."""
        if not self._clients.made:
            await self._calls.small("make the client", self._clients.make, MAKING)

    async def _call(self, what: str, work: Callable[[], T]) -> T:
        await self._made()
        return await self._calls.small(what, work)

    async def _transfer(self, step: str, key: str, work: Callable[[Tick], T], progress: Progress) -> T:
        await self._made()
        return await self._calls.transfer(f"{step} {key}", work, step, progress)
