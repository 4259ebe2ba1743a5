"""Copies of databases for an operator to download: made in a scratch folder, which is removed when they were read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from flyatc.config.schema import Tenant
from flyatc.databases.decisions.version_choice import Choice
from flyatc.databases.service import DatabaseService
from flyatc.databases.verify import Scratch
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress

AT_ONCE = 2  # each needs the disk space of its database


class Copies:
    """``own``: the daemon's folder."""

    def __init__(self, databases: DatabaseService, own: Path) -> None:
        self._databases, self._own = databases, own
        self._made = 0

    @contextlib.asynccontextmanager
    async def made(self, tenant: Tenant, database: str, choice: Choice, progress: Progress) -> AsyncIterator[Path]:
        """Make a checked copy; it is removed on exit. Raises FlyatcError; then nothing is left of it."""
        if self._made >= AT_ONCE:
            raise FlyatcError(f"{AT_ONCE} copies are being made or downloaded already: try again when one has ended")
        self._made += 1
        try:
            async with self._scratch() as scratch:
                yield await self._databases.export(tenant, database, choice, scratch.path, progress)
        finally:
            self._made -= 1

    @contextlib.asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Scratch]:
        making = tasks.start(asyncio.to_thread(Scratch, self._own), "folder for a copy")
        try:
            yield await tasks.to_the_end(making)
        except OSError as error:
            raise FlyatcError(f"a copy cannot be made below {self._own}: {error.strerror or error}") from error
        finally:
            if not making.cancelled() and making.exception() is None:
                removing = tasks.start(asyncio.to_thread(making.result().remove), "end of a copy")
                await tasks.to_the_end(removing)
