"""The parts of a daemon and how they are joined. Nothing else constructs a collaborator."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from flyatc.config.schema import Config, Tenant
from flyatc.daemon.owning import Owning
from flyatc.daemon.placing import Placing
from flyatc.daemon.private import Private
from flyatc.daemon.store_start import StoreStart
from flyatc.daemon.streams import streams_of
from flyatc.daemon.verifying import Verifying
from flyatc.databases.owned import Sole
from flyatc.databases.vault import Vault
from flyatc.delivery.caching import Cache
from flyatc.edge import barrier, gateway, handler, recorder
from flyatc.edge.listener import Listener
from flyatc.edge.signpost import Signpost
from flyatc.fly import machine, needs
from flyatc.fly.api_errors import ApiError
from flyatc.fly.dns import Dns
from flyatc.fly.inventory import Inventory
from flyatc.fly.machines_api import MachinesApi
from flyatc.fly.making import Making
from flyatc.fly.names import Names
from flyatc.kit.errors import FlyatcError, RestoreRefused, StartFailed, StillRunning
from flyatc.objects.opened import store_of
from flyatc.observe.log import Log
from flyatc.ownership import identity
from flyatc.ownership.owned import Owned
from flyatc.process import cgroups, child, command, folder_processes
from flyatc.process.cgroups import Cgroups
from flyatc.process.launcher import Launcher
from flyatc.process.listeners import SocketTable
from flyatc.process.ports import Ports
from flyatc.process.records import Records
from flyatc.routing import replay
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.ports import Databases, Tools
from flyatc.wire import server

KEYLESS = (
    "the machines share no secret, and cannot tell each other's replays from what visitors claim: "
    "fly secrets set FLYATC_SECRET=$(openssl rand -hex 32)"
)


class Parts:
    """To be made in a running loop, by a daemon which holds the lock of the data folder."""

    def __init__(self, config: Config, log: Log, listener: Listener) -> None:
        self.log, self.listener = log, listener
        self.data = Path(config.server.data)
        self.environ = dict(os.environ) | folder_processes.environment(identity.folder_mark(self.data))
        self.records = Records(self.data)
        self.launcher = Launcher(log, Cgroups.of(self.environ.get(cgroups.SWITCH)), self.data)
        self.store = store_of(config.storage, self.environ, log=log)
        streams = streams_of(config, self.store, self.environ, self.records, log)
        self.vault = Vault(self.store, config.storage, log, self._expand, streams)
        self.owning = Owning(config, self.environ, log, self.vault, self.launcher.deadline)
        self.store_start = StoreStart(self.owning.store, self.store, log)
        self.owning.require = self.store_start.require
        self.owning.deletes = lambda: self.store is not None and self.store.conditional_deletes
        self.verifying: Verifying | None = None
        if self.store is not None and config.storage.verify != 0:
            self.verifying = Verifying(config, self.environ, self.store, self.records, log, self.vault)
        tools = Tools(
            self._owned,
            self._restored,
            self._child(Ports()),
            partial(_gateway, config.replay.trust_app),
            self._forget,
            self.owning.known,
        )
        self.fleet = Fleet(config, tools, log)
        self.cache = Cache(config.cache.size, config.cache.item) if config.cache.size else None
        self.recorder = recorder.Recorder(log, lines=config.log.requests)
        self.vault.hear_failures(self.recorder.failures)
        self.barrier = barrier.Barrier(self.data / ".flyatc", log, config.limits.held)
        self.placing: Placing | None = None
        self.private: Private | None = None
        self.api: MachinesApi | None = None
        self.handler = handler.Handler(
            config, self.fleet, self.recorder, self.cache, self.barrier, self._signpost(config)
        )
        self.wire = server.Server(self.handler.handle, self.handler.refuse, config.limits)

    def _signpost(self, config: Config) -> Signpost | None:
        """None: we are not on Fly, or cannot say who we are there."""
        try:
            me = machine.of(self.environ)
        except FlyatcError as error:  # who was served before goes on to be: 503 and the owner's name for the rest
            self.log.event("warning", "no request is replayed to other machines", reason=str(error))
            return None
        if me is None:
            return None
        dns, names = Dns(config.fly.resolver), None
        if config.fly.metadata is not None:
            names = Names(dns, me, config.fly.metadata, self.log)
        self.placing = Placing(config, me, self.owning, names, *self._platform(config, me))
        self.owning.forsakes = self.placing.forsaken
        secret = replay.secret(self.environ)
        if secret is None and (config.pins or names is not None):
            self.log.event("warning", KEYLESS)
        self.private = Private(config, me, secret, dns, self.api, self.environ, self.log)
        replays = replay.Replays(me, secret, config.replay.timeout)
        return Signpost(config, replays, self.placing, self.private.onwards)

    def _platform(self, config: Config, me: machine.Machine) -> tuple[Inventory, Making] | tuple[None, None]:
        """None: what the Machines API knows is not asked for."""
        if (why := needs.lacking(config, self.environ)) is not None:
            self.log.event("warning", "users.'*'.provision: no machine can be made", reason=why)
        try:
            self.api = api = MachinesApi(me.app, self.environ)
        except ApiError:  # nobody need have a token
            return None, None
        if (key := config.fly.metadata) is None:
            return None, None
        inventory = Inventory(api, me, key, self.log)
        return inventory, Making(api, inventory, me, key, config.fly, self.log)

    def _child(
        self, ports: Ports
    ) -> Callable[[Tenant, Callable[[], bool]], AbstractAsyncContextManager[child.RunningChild]]:
        return partial(
            child.hold,
            environ=self.environ,
            ports=ports,
            log=self.log,
            records=self.records,
            sockets=SocketTable(),
            launcher=self.launcher,
        )

    def _owned(self, tenant: Tenant) -> AbstractAsyncContextManager[Owned | Sole]:
        """The supervisor takes some 20 ms to start: it does so while the lease is taken."""
        with contextlib.suppress(StartFailed):  # told when the app is started
            self.launcher.open()
        return self.owning.hold(tenant)

    @contextlib.asynccontextmanager
    async def _restored(self, tenant: Tenant, owned: Owned | Sole) -> AsyncIterator[Databases]:
        """Only when nobody of an earlier run may still write."""
        try:
            await child.settle(tenant.address, self.log, self.records, self.launcher)
        except StillRunning as error:
            raise RestoreRefused(str(error)) from error
        async with self.vault.hold(tenant, owned) as held:
            yield held

    def _forget(self, tenant: Tenant) -> None:
        if self.cache is not None:
            self.cache.clear(tenant.address)

    def _expand(self, text: str, tenant: Tenant) -> str:
        return command.expand(text, command.words(tenant, 0), self.environ)

    def known(self) -> set[int]:
        """The pids of children that are waited for: nobody else may reap them."""
        supervisor = self.launcher.pid
        return {*self.records.known(), *([] if supervisor is None else [supervisor])}

    async def forget(self) -> None:
        """What others told, and the connections to them: after a sleep they are worth nothing."""
        if self.placing is not None:
            self.placing.forget()
        if self.api is not None:
            self.api.hang_up()
        for store in (self.store, self.owning.store):
            if store is not None:
                await store.hang_up()

    def close(self) -> None:
        self.vault.close()
        self.owning.close()
        if self.store is not None:
            self.store.close()
        if self.api is not None:
            self.api.close()


def _gateway(replays: bool, tenant: Tenant, app: child.RunningChild, may_answer: Callable[[], bool]) -> gateway.Gateway:
    return gateway.Gateway("127.0.0.1", app.port, may_answer, replays=replays, owner=app.port_owner)
