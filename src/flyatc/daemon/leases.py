"""The leases of this daemon's tenants: a LeaseManager with a store client of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from flyatc.config.schema import Config, Tenant
from flyatc.databases.service import DatabaseService
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, OwnershipUnknown
from flyatc.objects.open_store import store_of
from flyatc.objects.store import ConditionFailed, StoreUnavailable
from flyatc.observe.log import Log
from flyatc.ownership import identity, operator_commands, record
from flyatc.ownership.errors import HeldElsewhere
from flyatc.ownership.lease import HeldLease, Lease, SoleLease
from flyatc.ownership.lease_manager import LeaseManager
from flyatc.ownership.record import Me, Owner, State, Successor
from flyatc.ownership.release_rules import Denied
from flyatc.ownership.rules import Terms

FORGETTING = 5.0  # s; a shutdown waits no longer for the removal of traces


class DaemonLeases:
    """Leases of this daemon. Make it only while holding the lock of the data folder."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        log: Log,
        databases: DatabaseService,
        on_deadline: Callable[[float], object] = lambda _: None,
    ) -> None:
        """``on_deadline``: see SessionKeeper. Raises FlyatcError if this machine has no usable id."""
        self._config, self._databases = config, databases
        self.require: Callable[[], Awaitable[None]] | None = None  # raises OwnershipUnknown until the store can be used
        self.successor_declines: Callable[[str, Successor], Awaitable[bool]] | None = (
            None  # see user_placement.UserPlacement.successor_is_gone; None: unknown
        )
        terms = Terms.of(config.storage.session_ttl)
        self.store = store_of(config.storage, environ, hurried=terms.patience, log=log)
        self.keeper: LeaseManager | None = None
        self.machine = ""  # the id of this machine; empty without a store
        self._me: Me | None = None
        self.deletes: Callable[[], bool] = lambda: False  # True if the store supports conditional deletes
        self.present: Callable[[], Awaitable[None]] | None = None  # see data_folder.DataFolder.present
        if self.store is not None:
            me = identity.read(Path(config.server.data), environ)
            self.machine, self._me = me.machine, me
            self.keeper = LeaseManager(
                self.store, me, terms, log, successor_declines=self._successor_is_gone, on_deadline=on_deadline
            )
        # Return whether this machine holds the user's lease or is acquiring it: called for each replay.
        self.held: Callable[[str], bool] = (lambda _: False) if self.keeper is None else self.keeper.holds

    def rewrite(self) -> None:
        """Write the machine id again, after the data folder was deleted and restored. Raises OSError."""
        if self._me is not None:
            identity.rewrite(Path(self._config.server.data), self._me)

    async def open(self) -> None:
        """Open the store. Call it first. Raises StoreRefused, StoreUnavailable."""
        if self.store is not None:
            await self.store.open()

    async def known(self, tenant: Tenant) -> bool:
        """True if the tenant has a folder here or the user a lease record in the store."""
        if self.keeper is None or tenant.data.is_dir():
            return True
        try:
            return await self.look(tenant.user) is not None
        except OwnershipUnknown:  # then the tenant cannot be started either
            return False

    async def look(self, user: str) -> Owner | None:
        """Lease record of the user. None: there has never been one. Raises OwnershipUnknown."""
        return await self.keeper.look(user) if self.keeper is not None else None

    async def release(self, tenant: Tenant, to: str | None, *, remove: bool = False) -> None:
        """Release a user without held tenants. A lease which an earlier run left held or dirty is acquired and
        released. ``to``: reserve the user for that machine of our app. ``remove``: for no machine. Raises
        OwnershipUnknown, HeldElsewhere, FlyatcError if another machine holds the user."""
        if self.store is None:
            raise FlyatcError("storage.mode is none: no other machine can use the data on this disk")
        owner = await self.look(tenant.user)
        ours = owner is not None and owner.holder.machine == self.machine
        if owner is not None and ours and owner.state in (State.HELD, State.DIRTY):
            async with self.hold(tenant):
                pass
        if to is None and not remove:
            return
        terms = Terms.of(self._config.storage.session_ttl)
        decision = await operator_commands.release(self.store, tenant.user, terms, to, remove=remove)
        if isinstance(decision, Denied):
            raise FlyatcError(decision.reason)

    async def _successor_is_gone(self, user: str, successor: Successor) -> bool:
        return self.successor_declines is not None and await self.successor_declines(user, successor)

    @contextlib.asynccontextmanager
    async def hold(self, tenant: Tenant) -> AsyncIterator[Lease]:
        """Hold the user's lease; without a store, a SoleLease. Raises HeldElsewhere, OwnershipUnknown."""
        if self.present is not None:
            await self.present()
        if self.keeper is None:
            yield SoleLease()
            await self._forget([tenant], SoleLease())
            return
        if self.require is not None:
            await self.require()
        if self._databases.streams is not None:
            self._databases.streams.expect()
        siblings = await local_tenants(self._config, tenant.user)
        async with contextlib.AsyncExitStack() as held:
            hold = self.keeper.hold(tenant.user, await self._databases.known(siblings))
            try:
                lease = await held.enter_async_context(hold)
            except HeldElsewhere as error:
                with contextlib.suppress(OSError):  # tried again when it is asked for again
                    error.settled = await self._databases.give_up(tenant, error.since, str(error))
                raise
            try:
                yield lease
            finally:
                marking = tasks.start(self._mark_unsaved(lease, tenant.user), f"unsaved data of {tenant.user}")
                await tasks.to_the_end(marking)
                lease.traceless = await self._is_traceless(lease, tenant)

    async def _mark_unsaved(self, lease: HeldLease, user: str) -> None:
        """Mark the lease dirty if a tenant of the user has unsaved data, from this run or an earlier one. Not to be cut
        short: the release that follows would be a clean one.

        Tenants which are held are left out: they report when they are released, and the local record read here may be
        older than a save under way. Unsaved data older than another machine's epoch is left out too: it will be set
        aside here, and no machine need wait for it."""
        at_rest = [one for one in await local_tenants(self._config, user) if not self._databases.holds(one)]
        for tenant in await self._databases.unsaved(at_rest):
            overtaken = 0 < await self._databases.known([tenant]) < lease.previous.since
            if not overtaken and not self._databases.holds(tenant) and not lease.marked(tenant.address):
                lease.mark_dirty(f"{tenant.address} is not saved", tenant.address)

    async def _is_traceless(self, lease: HeldLease, tenant: Tenant) -> bool:
        """True if nothing was ever written for a user who is not in tenants.yaml. Removes all but the lease record: a
        client can request a million names."""
        assert self.store is not None
        assert self.keeper is not None
        user = tenant.user
        alone = self.keeper.may_forget(user)
        if user in self._config.users or alone is None or lease.dirty or not (self.deletes() and lease.valid()):
            return False  # dirty: processes of the app may still run, and write
        try:
            async with asyncio.timeout(FORGETTING):
                if not await self._forget([tenant, *await local_tenants(self._config, user)], lease):
                    return False
                left = await self.store.list(f"users/{user}/")
        except (StoreUnavailable, TimeoutError):  # what is left does no harm
            return False
        return [one.key for one in left] == [record.owner_key(user)] and self.keeper.may_forget(user) == alone

    async def _forget(self, tenants: list[Tenant], lease: Lease) -> bool:
        """Remove empty tenants. True if nothing is left of any, here and in the store."""
        try:
            for tenant in tenants:
                if tenant.user in self._config.users or not await self._databases.forget(tenant, lease):
                    return False
        except (StoreUnavailable, ConditionFailed, OSError):  # what is left does no harm
            return False
        return True

    async def rest(self) -> None:
        """Release everything before the machine is suspended: see LeaseManager. Raises OwnershipUnknown."""
        if self.keeper is not None:
            await self.keeper.rest()

    async def slept(self) -> bool:
        return self.keeper is not None and await self.keeper.slept()

    def wake(self) -> None:
        if self.keeper is not None:
            self.keeper.wake()

    async def leave(self) -> None:
        """End the session, once no tenant is held: other machines need not wait for it to expire."""
        if self.keeper is not None:
            await self.keeper.close()

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


async def local_tenants(config: Config, user: str = "*") -> list[Tenant]:
    """Tenants with a folder on this machine, configured or not. ``user``: without glob characters; default: all."""
    return await asyncio.to_thread(_local_tenants, config, user)


def _local_tenants(config: Config, user: str) -> list[Tenant]:
    folders = sorted(Path(config.server.data).glob(f"tenants/{user}/*/"))  # a stray file is no tenant
    return [config.tenant_kept_as(folder.parent.name, folder.name) for folder in folders]
