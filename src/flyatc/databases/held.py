"""The databases of one tenant while it is up: saved at intervals, on demand, and when it is let go."""

import asyncio
import contextlib
from collections.abc import Iterable

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases.database import Database
from flyatc.databases.record import Record
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed
from flyatc.kit.progress import Progress, silent


class Held:
    def __init__(self, tenant: Tenant, databases: list[Database], record: Record, interval: float) -> None:
        self._tenant, self._databases, self._record = tenant, databases, record
        self._leaving = asyncio.Event()
        self._rounds = tasks.start(self._save_at(interval), f"saves {tenant.address}") if interval else None

    @property
    def unsaved(self) -> bool:
        return any(database.unsaved for database in self._databases)

    @property
    def saved_at(self) -> float | None:
        return max((d.entry.saved_at for d in self._databases if d.entry.saved_at is not None), default=None)

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Begun is done: who is cancelled here waits for its end. Raises SaveFailed."""
        chosen = [d for d in self._databases if only in (None, d.name)]
        if not chosen and only is not None:
            raise SaveFailed(f"{self._tenant.address} has no database {only!r}")
        await tasks.to_the_end(tasks.start(_save(chosen, progress), f"save {self._tenant.address}"))

    async def leave(self) -> None:
        """The app has ended. The last save, on record only when confirmed. Raises SaveFailed."""
        await tasks.to_the_end(tasks.start(self._leave(), f"last save {self._tenant.address}"))

    async def _leave(self) -> None:
        self._leaving.set()
        if self._rounds is not None:
            await asyncio.wait([self._rounds])
        try:
            await _save(self._databases, silent)
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        """Those which are saved are no longer in use. What cannot be written down is saved again at the next start."""
        saved = {d.name: structs.replace(d.entry, in_use=False) for d in self._databases if not d.failed}
        try:
            await self._record.put(saved)
        except OSError as error:
            raise SaveFailed(f"{self._tenant.address}: saved, but the record cannot be written: {error}") from error

    async def _save_at(self, interval: float) -> None:
        while not self._leaving.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._leaving.wait()
                return
            with contextlib.suppress(SaveFailed):  # told by the database; the next round tries again
                await _save([d for d in self._databases if d.unsaved], silent)


async def _save(databases: Iterable[Database], progress: Progress) -> None:
    """All of them, whatever becomes of one. Raises SaveFailed with all that went wrong."""
    work = [tasks.start(database.save(progress), f"save {database}") for database in databases]
    answers = await asyncio.gather(*work, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, SaveFailed)]
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, SaveFailed):
            raise answer
    if failed:
        raise SaveFailed("; ".join(str(error) for error in failed)) from failed[0]


class Unstored:
    """storage.mode none: the folder is all there is."""

    unsaved = False
    saved_at = None

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """There is nowhere to save to."""

    async def leave(self) -> None:
        """There is nothing to give back."""
