"""The drill which backups need: what the store has of a database is restored into a scratch folder, and checked.

Only the store is read, and nothing of it is changed; no running app and no local copy is touched.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Protocol

from msgspec import Struct

from flyatc.config.schema import Tenant
from flyatc.databases import files, sqlite
from flyatc.databases.inventory import Stocked
from flyatc.databases.scratch import Scratch
from flyatc.databases.tools import Tools
from flyatc.kit.errors import FlyatcError
from flyatc.kit.progress import silent
from flyatc.kit.units import human_octets

ROUNDS = 3  # a running daemon may remove old files while we read them: then there is a newer version


class Damaged(Exception):
    """It cannot be restored; says why."""


@dataclass(frozen=True)
class Found:
    """What is to be restored. ``needs``: octets on the disk, as far as is known. ``bring`` makes a whole file below an
    empty folder. It raises Damaged, StoreUnavailable, OSError."""

    version: str
    needs: int
    bring: Callable[[Path], Awaitable[Path]]


class Source(Protocol):
    """One way of keeping databases in a store."""

    @property
    def kind(self) -> str:
        """snapshot or stream."""

    def has(self, stocked: Stocked) -> bool: ...

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        """The current version; None: nothing was saved yet. Raises Damaged, StoreUnavailable."""


class Verdict(Struct, frozen=True, kw_only=True):
    """``state``: ok; damaged; unknown (it could not be tried: no room, the store is away). ``why`` it is not ok."""

    tenant: str  # its address
    database: str
    kind: str = "snapshot"  # or stream
    state: str
    version: str | None = None
    octets: int = 0
    ms: int = 0
    why: str = ""


class Compare(Protocol):
    async def __call__(self, address: str, database: str, version: str, raw: Path) -> str | None:
        """What differs between ``raw``, which the store has as ``version``, and the local file of a tenant that runs;
        None: nothing, or they cannot be compared now. Raises FlyatcError, OSError."""


async def nothing_to_compare(address: str, database: str, version: str, raw: Path) -> str | None:
    return None


class Drill:
    """One database at a time. ``scratch`` must be empty, and is, afterwards."""

    def __init__(self, sources: Sequence[Source], scratch: Scratch, tools: Tools) -> None:
        self._sources, self._scratch, self._tools = sources, scratch, tools
        self.compare: Compare = nothing_to_compare

    async def verify(self, tenant: Tenant, stocked: Stocked) -> list[Verdict]:
        """One for each way in which the store keeps it; none: nothing was saved of it yet."""
        verdicts = []
        for source in self._sources:
            if source.has(stocked):
                verdict = await self._verify(source, tenant, stocked.database)
                verdicts += [verdict] if verdict is not None else []
        return verdicts

    async def _verify(self, source: Source, tenant: Tenant, database: str) -> Verdict | None:
        began, version, octets, state, why = monotonic(), None, 0, "ok", ""
        try:
            found = await source.find(tenant, database)
            for _ in range(ROUNDS):
                if found is None:
                    return None
                version, state, why = found.version, "ok", ""
                try:
                    octets = await self._try(found, tenant.address, database)
                    break
                except Damaged as error:
                    state, why = "damaged", str(error)
                found = await source.find(tenant, database)  # or it is only out of reach: then this raises
                if found is None or found.version == version:
                    break
        except Damaged as error:
            state, why = "damaged", str(error)
        except (FlyatcError, OSError) as error:
            state, why = "unknown", str(error)
        return Verdict(
            tenant=tenant.address,
            database=database,
            kind=source.kind,
            state=state,
            version=version,
            octets=octets,
            ms=round((monotonic() - began) * 1000),
            why=why,
        )

    async def _try(self, found: Found, address: str, database: str) -> int:
        """Octets of the database. Raises Damaged, FlyatcError, OSError."""
        quick, heavy = self._tools.quick, self._tools.heavy
        lacking = await quick.run(partial(self._scratch.lacks, found.needs))
        if lacking:
            raise FlyatcError(f"no room to restore it: {human_octets(lacking)} are missing at {self._scratch.path}")
        try:
            raw = await found.bring(self._scratch.path)
            await heavy.watch(partial(sqlite.check_thoroughly, raw), "check", silent)
            if difference := await self.compare(address, database, found.version, raw):
                raise Damaged(difference)
            return await quick.run(partial(files.octets, raw))
        except sqlite.Unusable as error:
            raise Damaged(str(error)) from error
        finally:
            await quick.run(self._scratch.clear)
