"""The tenants whose databases are held on this machine."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases.app_files.holder import FilesHolder
from flyatc.databases.autosave import AutoSaver, Unstored
from flyatc.databases.litestream.replication import Replication
from flyatc.kit.errors import RestoreRefused
from flyatc.objects.store import ObjectStore

Held = AutoSaver | Replication | Unstored | FilesHolder


@dataclass(frozen=True)
class _Hold:
    tenant: Tenant  # its databases are those that are held, with those found by a pattern
    held: Held | None  # None: not yet, or no longer
    since: float  # Unix time


class HeldDatabases:
    """``store`` None: storage.mode none."""

    def __init__(self, store: ObjectStore | None) -> None:
        self._store = store
        self._held: dict[Path, _Hold] = {}

    def __contains__(self, tenant: Tenant) -> bool:
        return tenant.data in self._held

    @contextlib.contextmanager
    def exclusively(self, tenant: Tenant) -> Iterator[None]:
        """Keep everything else away from its databases. Raises RestoreRefused if they are in use."""
        if tenant.data in self._held:
            raise RestoreRefused(f"{tenant.address} is in use: stop it first")
        self.register(tenant, None)
        try:
            yield
        finally:
            self._held.pop(tenant.data, None)

    def register(self, tenant: Tenant, held: Held | None) -> None:
        self._held[tenant.data] = _Hold(tenant, held, time())

    def running(self) -> dict[str, float]:
        """Return the addresses of the tenants whose databases are held, and since when (Unix time)."""
        return {one.tenant.address: one.since for one in self._held.values() if one.held is not None}

    def expected(self, address: str) -> dict[str, str]:
        """Return what the store certainly has of a tenant that runs here, by database: stream or snapshot."""
        for one in self._held.values():
            if one.tenant.address == address and one.held is not None:
                return one.held.expected
        return {}

    async def compare(self, address: str, database: str, version: str, raw: Path) -> str | None:
        """Return the difference between ``raw``, which litestream has restored from ``version``, and the local file.
        None also if the tenant does not stream here or the store lags behind. Raises FlyatcError, OSError."""
        for one in list(self._held.values()):
            held = one.held.held if isinstance(one.held, FilesHolder) else one.held
            if one.tenant.address == address and isinstance(held, Replication):
                return await held.compare(database, version, raw)
        return None

    async def heal(self, address: str, database: str, kind: str, reason: str) -> bool:
        """Replace a damaged copy in the store by a new one of the local file, if the tenant runs here. Return whether
        it was done. Nothing is removed. ``kind``: stream or snapshot. Raises SaveFailed."""
        for one in list(self._held.values()):
            if one.tenant.address == address and one.held is not None:
                return await one.held.heal(database, kind, reason)
        return False

    # --- databases found while their app runs: see ``matching`` ---

    def paths(self) -> list[Path]:
        """Return the databases that flyatc itself may have open. Safe in any thread."""
        return [one.tenant.data / name for one in list(self._held.values()) for name in one.tenant.app.databases]

    def names(self, tenant: Tenant) -> list[str]:
        """Return the databases of a tenant that are saved."""
        hold = self._held.get(tenant.data)
        return (hold.tenant if hold is not None else tenant).app.databases

    async def include(self, tenant: Tenant, name: str) -> None:
        """Save a database that its app has just made. No effect if it is saved already, or the tenant is stopping.
        Raises RestoreRefused, StoreUnavailable, OSError: then it is not saved."""
        hold = self._held.get(tenant.data)
        if hold is None or hold.held is None or name in hold.tenant.app.databases:
            return
        if self._store is not None and not isinstance(hold.held, Unstored):
            await hold.held.include(name, self._store)
        hold = self._held.get(tenant.data)
        if hold is not None and hold.held is not None:
            app = structs.replace(hold.tenant.app, databases=[*hold.tenant.app.databases, name])
            self._held[tenant.data] = _Hold(structs.replace(hold.tenant, app=app), hold.held, hold.since)
