"""Make the store for a configuration; open and test it at the start, in the background if it is away.

Until then the daemon serves what needs no store, and no tenant starts. A store that refuses us at once (credentials, no
such bucket, no conditional writes) ends the daemon: a deploy with a wrong setting must not look healthy. A later
refusal is treated like an outage: the daemon may be serving already, and the cause may pass."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from flyatc.config import check_sections
from flyatc.config.schema import Storage
from flyatc.kit import tasks, timing
from flyatc.kit.errors import OwnershipUnknown
from flyatc.objects.folder import FolderStore
from flyatc.objects.s3 import S3Store
from flyatc.objects.store import StoreRefused, StoreUnavailable
from flyatc.objects.threaded_store import ThreadedStore
from flyatc.observe.log import Log


def store_of(
    storage: Storage, environ: Mapping[str, str], *, hurried: float | None = None, log: Log | None = None
) -> ThreadedStore | None:
    """Return the store, None if ``storage.mode`` is none. ``storage`` is resolved: the environment has a bucket's
    settings.

    ``hurried``: seconds for one call on S3, without retries: see S3Store. ``log``: for calls that are given up."""
    if storage.mode == "none":
        return None
    if storage.url.startswith(check_sections.SCHEME):
        return S3Store(check_sections.bucket_of(storage.url, environ), environ, hurried=hurried, log=log)
    return FolderStore(Path(storage.url.removeprefix("file:")), hurried=hurried is not None, log=log)


def absent(storage: Storage) -> Path | None:
    """Return the folder that ``storage.url`` names, if no store has been made in it, or it is not mounted."""
    if storage.mode == "none" or storage.url.startswith(check_sections.SCHEME):
        return None
    folder = Path(storage.url.removeprefix("file:"))
    return None if (folder / ".flyatc" / "id").exists() else folder


PATIENCE = 10.0  # s; for the first attempt, before the daemon listens
MOST = 15.0  # s; between two attempts


class StoreStart:
    """``hurried``: the client for leases; it is opened first, since it fails within seconds if the store is away.
    ``store`` None: nothing is stored, and there is nothing to wait for."""

    def __init__(self, hurried: ThreadedStore | None, store: ThreadedStore | None, log: Log) -> None:
        self._stores = [one for one in (hurried, store) if one is not None]
        self._store, self._log = store, log
        self._ready, self._decided = asyncio.Event(), asyncio.Event()
        self._attempt: asyncio.Task[None] | None = None
        self.why: str | None = None  # the last attempt failed; None: not known yet, or ready
        if store is None:
            self._ready.set()

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    async def first(self) -> None:
        """Returns when the store can be used, is away, or has not answered within PATIENCE. Raises StoreRefused."""
        if self.ready:
            return
        self._attempt = tasks.start(self._try(), "open the store")
        try:
            async with asyncio.timeout(PATIENCE):
                await tasks.joined(self._attempt)
        except TimeoutError:
            self.why = f"it has not answered within {PATIENCE:g} s"
        except StoreRefused:
            raise
        except StoreUnavailable:  # reported by ``run``
            return

    async def run(self) -> None:
        """Try until it can be used."""
        failures = 0
        while not self.ready:
            attempt = self._attempt or tasks.start(self._try(), "open the store")
            self._attempt = None
            try:
                await tasks.joined(attempt)
            except StoreUnavailable as error:
                failures += 1
                self._log_failure(error)
                await asyncio.sleep(timing.delay(failures, first=0.5, most=MOST))
        if failures:
            self._log.event("info", "the store can be used: tenants may start", attempts=failures + 1)

    def _log_failure(self, error: StoreUnavailable) -> None:
        refused = isinstance(error, StoreRefused)
        message = "the store refuses us" if refused else "the store is away"
        level = "error" if refused else "warning"
        self._log.event(level, f"{message}: no tenant can start, tried again until it can be used", reason=str(error))
        self.why = str(error)
        self._decided.set()

    async def _try(self) -> None:
        for store in self._stores:
            await store.open()
        assert self._store is not None
        await self._store.check()
        self.why = None
        self._ready.set()
        self._decided.set()

    async def passed(self) -> None:
        """Wait until it can be used."""
        await self._ready.wait()

    async def require(self) -> None:
        """Wait for the first attempt if it is under way. Raises OwnershipUnknown where the store cannot be used."""
        if not self.ready:
            await self._decided.wait()
        if not self.ready:
            raise OwnershipUnknown(f"the store cannot be used yet: {self.why}")
