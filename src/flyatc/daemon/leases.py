"""Who may write, for the tenants of this daemon: the ownership room with a client of the store of its own.

The tenants which have a folder on this machine, configured or not.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from flyatc.config.schema import Config, Tenant
from flyatc.databases.service import DatabaseService
from flyatc.databases.sole_owner import SoleLease
from flyatc.kit.errors import FlyatcError, OwnershipUnknown
from flyatc.objects.open_store import store_of
from flyatc.objects.store import ConditionFailed, StoreUnavailable
from flyatc.observe.log import Log
from flyatc.ownership import identity, operator, record
from flyatc.ownership.errors import HeldElsewhere
from flyatc.ownership.lease import HeldLease
from flyatc.ownership.leases import LeaseManager
from flyatc.ownership.record import Me, Owner, State, Successor
from flyatc.ownership.release_rules import Denied
from flyatc.ownership.rules import Terms

FORGETTING = 5.0  # s; the end of a daemon must not wait for longer


class DaemonLeases:
    """To be made by a daemon which holds the lock of the data folder."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        log: Log,
        vault: DatabaseService,
        on_deadline: Callable[[float], object] = lambda _: None,
    ) -> None:
        """``on_deadline``: see Heartbeat. Raises FlyatcError where this machine cannot be put on record."""
        self._config, self._vault = config, vault
        self.require: Callable[[], Awaitable[None]] | None = None  # raises OwnershipUnknown until the store can be used
        self.forsakes: Callable[[str, Successor], Awaitable[bool]] | None = (
            None  # see daemon.placing; None: nobody knows
        )
        terms = Terms.of(config.storage.session_ttl)
        self.store = store_of(config.storage, environ, hurried=terms.patience, log=log)
        self.keeper: LeaseManager | None = None
        self._machine = ""
        self._me: Me | None = None
        self.deletes: Callable[[], bool] = lambda: False  # whether the store keeps conditions on deletions
        self.present: Callable[[], Awaitable[None]] | None = None  # see daemon.data_folder
        if self.store is not None:
            me = identity.read(Path(config.server.data), environ)
            self._machine, self._me = me.machine, me
            self.keeper = LeaseManager(self.store, me, terms, log, forsakes=self._forsaken, on_deadline=on_deadline)

    def rewrite(self) -> None:
        """The data folder was deleted, and is there again. Raises OSError."""
        if self._me is not None:
            identity.rewrite(Path(self._config.server.data), self._me)

    async def open(self) -> None:
        """To be called first. Raises StoreRefused, StoreUnavailable."""
        if self.store is not None:
            await self.store.open()

    def held(self, user: str) -> bool:
        """Whether this machine owns him, or is taking him. Cheap."""
        return self.keeper is not None and self.keeper.holds(user)

    async def known(self, tenant: Tenant) -> bool:
        """Whether anything is on record of the user, here or in the store."""
        if self.keeper is None or tenant.data.is_dir():
            return True
        try:
            return await self.look(tenant.user) is not None
        except OwnershipUnknown:  # then it cannot be started either
            return False

    async def look(self, user: str) -> Owner | None:
        """Who has, or had him last. None: nobody ever. Raises OwnershipUnknown."""
        return await self.keeper.look(user) if self.keeper is not None else None

    async def release(self, tenant: Tenant, to: str | None, *, remove: bool = False) -> None:
        """None of the user's tenants is held. What an earlier run of ours left held or unsaved is taken, and given
        back. ``to``: from now on he is meant for that machine of our app. ``remove``: for none. Raises
        OwnershipUnknown, HeldElsewhere, FlyatcError where he is not ours to give."""
        if self.store is None:
            raise FlyatcError("storage.mode is none: nobody else can have what is on this disk")
        owner = await self.look(tenant.user)
        ours = owner is not None and owner.holder.machine == self._machine
        if owner is not None and ours and owner.state in (State.HELD, State.DIRTY):
            async with self.hold(tenant):
                pass
        if to is None and not remove:
            return
        terms = Terms.of(self._config.storage.session_ttl)
        decision = await operator.release(self.store, tenant.user, terms, to, remove=remove)
        if isinstance(decision, Denied):
            raise FlyatcError(decision.reason)

    async def _forsaken(self, user: str, heir: Successor) -> bool:
        return self.forsakes is not None and await self.forsakes(user, heir)

    @contextlib.asynccontextmanager
    async def hold(self, tenant: Tenant) -> AsyncIterator[HeldLease | SoleLease]:
        """Raises HeldElsewhere, OwnershipUnknown. Without a store there is nobody to agree with."""
        if self.present is not None:
            await self.present()
        if self.keeper is None:
            yield SoleLease()
            await self._forget([tenant], SoleLease())
            return
        if self.require is not None:
            await self.require()
        siblings = await kept(self._config, tenant.user)
        async with contextlib.AsyncExitStack() as held:
            hold = self.keeper.hold(tenant.user, await self._vault.known(siblings))
            try:
                owned = await held.enter_async_context(hold)
            except HeldElsewhere as error:
                with contextlib.suppress(OSError):  # tried again when it is asked for again
                    error.settled = await self._vault.give_up(tenant, error.since, str(error))
                raise
            try:
                yield owned
            finally:
                await self._tell_unsaved(owned, tenant.user)
                owned.traceless = await self._is_traceless(owned, tenant)

    async def _tell_unsaved(self, owned: HeldLease, user: str) -> None:
        """Any of the user's tenants may have, from this run or an earlier one, what the store has not: then it must not
        be released as if it had. Those which are held say the last word when they are let go: of one that is saved just
        now the record which was read may be from before. What another machine has written over since counts no more: it
        will be set aside here, and nobody need wait for that."""
        at_rest = [one for one in await kept(self._config, user) if not self._vault.holds(one)]
        for tenant in await self._vault.unsaved(at_rest):
            overtaken = 0 < await self._vault.known([tenant]) < owned.former.since
            if not overtaken and not self._vault.holds(tenant) and not owned.marked(tenant.address):
                owned.mark_dirty(f"{tenant.address} is not saved", tenant.address)

    async def _is_traceless(self, owned: HeldLease, tenant: Tenant) -> bool:
        """Whether nothing was ever written for a user whom tenants.yaml does not name. What there is besides the
        owner's record is removed: anybody can think of a million names."""
        assert self.store is not None
        assert self.keeper is not None
        user = tenant.user
        alone = self.keeper.may_forget(user)
        if user in self._config.users or alone is None or owned.dirty or not (self.deletes() and owned.valid()):
            return False  # dirty: something of the app may still run, and write
        try:
            async with asyncio.timeout(FORGETTING):
                if not await self._forget([tenant, *await kept(self._config, user)], owned):
                    return False
                left = await self.store.list(f"users/{user}/")
        except (StoreUnavailable, TimeoutError):  # what is left does no harm
            return False
        return [one.key for one in left] == [record.owner_key(user)] and self.keeper.may_forget(user) == alone

    async def _forget(self, tenants: list[Tenant], owned: HeldLease | SoleLease) -> bool:
        """Whether nothing is left of any of them, here and in the store."""
        try:
            for tenant in tenants:
                if tenant.user in self._config.users or not await self._vault.forget(tenant, owned):
                    return False
        except (StoreUnavailable, ConditionFailed, OSError):  # what is left does no harm
            return False
        return True

    async def rest(self) -> None:
        """The machine is about to be suspended: see Keeper. Raises OwnershipUnknown."""
        if self.keeper is not None:
            await self.keeper.rest()

    async def slept(self) -> bool:
        return self.keeper is not None and await self.keeper.slept()

    def wake(self) -> None:
        if self.keeper is not None:
            self.keeper.wake()

    async def leave(self) -> None:
        """No tenant is held any more: others need not wait for our session to run out."""
        if self.keeper is not None:
            await self.keeper.close()

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


async def kept(config: Config, user: str = "*") -> list[Tenant]:
    """``user``: one, whose name has no pattern in it; without it, of all."""
    return await asyncio.to_thread(_kept, config, user)


def _kept(config: Config, user: str) -> list[Tenant]:
    folders = sorted(Path(config.server.data).glob(f"tenants/{user}/*"))
    return [config.tenant_kept_as(folder.parent.name, folder.name) for folder in folders]
