"""Construct and join the parts of a daemon, and lock its data folder. No other module constructs a collaborator."""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from flyatc.config.private_paths import private_paths
from flyatc.config.schema import Config, Tenant
from flyatc.daemon.data_watch import DataWatch, OpenDatabases
from flyatc.daemon.leases import DaemonLeases
from flyatc.daemon.peers import PrivateListener
from flyatc.daemon.tenant_secrets import TenantSecrets
from flyatc.daemon.usage_meter import UsageMeter
from flyatc.daemon.user_placement import UserPlacement
from flyatc.daemon.verify_schedule import VerifySchedule
from flyatc.dashboard import gateway
from flyatc.databases.litestream import client
from flyatc.databases.litestream.backend import LitestreamBackend
from flyatc.databases.service import DatabaseService
from flyatc.databases.workers import Workers
from flyatc.delivery.cache.cache import Cache
from flyatc.edge import access_log, handler, maintenance, upstream
from flyatc.edge.fly_replay import FlyReplay
from flyatc.edge.listener import Listener
from flyatc.fly import environment, provision
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import ApiError
from flyatc.fly.dns_client import Dns
from flyatc.fly.machine_list import MachineList
from flyatc.fly.provision import Provisioner
from flyatc.fly.user_lookup import UserLookup
from flyatc.kit import durable_files
from flyatc.kit.durable_files import Inode, inode_of
from flyatc.kit.errors import FlyatcError, RestoreRefused, StartFailed, StillRunning
from flyatc.kit.streams import Streams
from flyatc.objects.open_store import StoreStart, store_of
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log
from flyatc.ownership import identity
from flyatc.ownership.lease import Lease
from flyatc.process import before_start, child, helper_program, launch_plan, leftovers, members
from flyatc.process.child_records import Records
from flyatc.process.isolation import machine, no_links
from flyatc.process.isolation.sandbox import Sandbox
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.members import Cgroups
from flyatc.process.ports import PortPool
from flyatc.process.supervisor_client import Launcher
from flyatc.routing import replay
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.interfaces import Databases, Tools
from flyatc.wire import server

KEYLESS = (
    "the machines share no secret, and cannot distinguish each other's replays from forged ones: "
    "fly secrets set FLYATC_SECRET=$(openssl rand -hex 32)"
)


class Parts:
    """All parts of a daemon. Make it in a running loop, while holding the lock of the data folder."""

    def __init__(self, config: Config, log: Log, listener: Listener) -> None:
        self.log, self.listener = log, listener
        self.data = Path(config.server.data)
        self.environ = dict(os.environ) | leftovers.folder_mark_variable(identity.folder_mark(self.data))
        self.records = Records(self.data)
        private = private_paths(config)
        self.sandbox = Sandbox(self.data, private, machine.examine(self.environ), config.server.user_ids, log)
        self.launcher = Launcher(log, Cgroups.of(self.environ.get(members.SWITCH)), self.data, self.sandbox)
        self.store = store_of(config.storage, self.environ, log=log)
        self.secrets = TenantSecrets(self.environ, self.store, self.data)
        streams = streams_of(config, self.store, self.environ, self.records, log)
        self.databases = DatabaseService(self.store, config.storage, log, self._expand, streams)
        self.leases = DaemonLeases(config, self.environ, log, self.databases, self.launcher.deadline)
        self.store_start = StoreStart(self.leases.store, self.store, log)
        self.leases.require = self.store_start.require
        self.leases.deletes = lambda: self.store is not None and self.store.conditional_deletes
        self.verification: VerifySchedule | None = None
        if self.store is not None and config.storage.verify != 0:
            self.verification = VerifySchedule(config, self.environ, self.store, self.records, log, self.databases.held)
        self.recorder = access_log.Recorder(log, lines=config.log.requests)
        stores = [one.counted for one in (self.store, self.leases.store) if one is not None]
        self.usage = UsageMeter(self.data / ".flyatc" / "usage", self.recorder.counters, stores, log)
        running = self.usage.metered(self._child(PortPool()))
        opened = OpenDatabases(log, self.databases.held, [*map(Path, private)], saves=self.store is not None)
        tools = Tools(
            self._hold_lease,
            self._hold_databases,
            partial(DataWatch.hold, files=opened),
            running,
            partial(_gateway, config.replay.trust_app),
            partial(before_start.run, running=running),
            self._forget,
            self.leases.known,
            self.command,
        )
        self.fleet = Fleet(config, tools, log)
        self.cache = Cache(config.cache.size, config.cache.item) if config.cache.size else None
        self.databases.hear_failures(self.recorder.failures)
        self.maintenance = maintenance.Maintenance(self.data / ".flyatc", log, config.limits.held)
        self.user_placement: UserPlacement | None = None
        self.private: PrivateListener | None = None
        self.api: MachinesApi | None = None
        self.machine: environment.Machine | None = None
        self.dns: Dns | None = None
        self.replays: replay.Replays | None = None
        self.dashboard = gateway.Gateway()
        self.status: Callable[[], bytes] = bytes  # of this machine, for the others
        self.handler = handler.Handler(
            config, self.fleet, self.recorder, self.cache, self.maintenance, self._fly_replay(config), self.dashboard
        )
        warn = partial(log.event, "warning")
        self.wire = server.Server(self.handler.handle, self.handler.refuse, config.limits, self.handler.exchange, warn)

    def _fly_replay(self, config: Config) -> FlyReplay | None:
        """None: not on Fly, or the identity of this machine there is unknown."""
        try:
            me = environment.this_machine(self.environ)
        except FlyatcError as error:  # users of this machine are still served; others get 503 with the owner's name
            self.log.event("warning", "no request is replayed to other machines", reason=str(error))
            return None
        self.machine = me
        if me is None:
            return None
        dns, names = Dns(config.fly.resolver), None
        self.dns = dns
        if config.fly.metadata is not None:
            names = UserLookup(dns, me, config.fly.metadata, self.log)
        self.user_placement = UserPlacement(config, me, self.leases, names, *self._platform(config, me))
        self.leases.successor_declines = self.user_placement.successor_is_gone
        secret = replay.secret(self.environ)
        if secret is None and (config.pins or names is not None):
            self.log.event("warning", KEYLESS)
        self.private = PrivateListener(config, me, secret, dns, self.api, self.environ, self.log)
        self.replays = replay.Replays(me, secret, config.replay.timeout)
        return FlyReplay(config, self.replays, self.user_placement, self.private.forwards)

    def _platform(self, config: Config, me: environment.Machine) -> tuple[MachineList, Provisioner] | tuple[None, None]:
        """Machine list and provisioner; None if the Machines API is not used."""
        if (why := provision.why_unable(config, self.environ)) is not None:
            self.log.event("warning", "users.'*'.provision: no machine can be made", reason=why)
        try:
            self.api = api = MachinesApi(me.app, self.environ)
        except ApiError:  # a token is optional
            return None, None
        if (key := config.fly.metadata) is None:
            return None, None
        inventory = MachineList(api, me, key, self.log)
        return inventory, Provisioner(api, inventory, me, key, config.fly, self.log)

    def _child(
        self, ports: PortPool
    ) -> Callable[[Tenant, Callable[[], bool]], AbstractAsyncContextManager[child.RunningChild]]:
        return partial(
            child.hold,
            plan=self._plan,
            ports=ports,
            log=self.log,
            records=self.records,
            sockets=SocketTable(),
            launcher=self.launcher,
        )

    def command(
        self, tenant: Tenant, hurry: Callable[[], bool], streams: Streams, *, leased: bool = True
    ) -> AbstractAsyncContextManager[child.RunningChild]:
        """A command of an operator, ``tenant.app.command``: see child.hold_command."""
        return child.hold_command(
            tenant,
            hurry,
            streams,
            plan=self._plan,
            log=self.log,
            records=self.records,
            launcher=self.launcher,
            leased=leased,
        )

    def _hold_lease(self, tenant: Tenant) -> AbstractAsyncContextManager[Lease]:
        """Acquire the lease; meanwhile start the supervisor, which takes some 20 ms."""
        with contextlib.suppress(StartFailed):  # reported when the app is started
            self.launcher.open()
        return self.leases.hold(tenant)

    @contextlib.asynccontextmanager
    async def _hold_databases(self, tenant: Tenant, lease: Lease) -> AsyncIterator[Databases]:
        """Restore databases, once no process of an earlier run can still write, and get the tenant's secrets."""
        try:
            await child.settle(tenant.address, self.log, self.records, self.launcher)
        except StillRunning as error:
            raise RestoreRefused(str(error)) from error
        await self.secrets.load(tenant)
        async with self.databases.hold(tenant, lease) as held:
            yield held

    def _forget(self, tenant: Tenant) -> None:
        if self.cache is not None:
            self.cache.clear(tenant.address)

    def _plan(self, tenant: Tenant, port: int) -> launch_plan.Launch:
        return launch_plan.plan(tenant, port, self.environ, self.secrets.words(tenant))

    def _expand(self, text: str, tenant: Tenant) -> str:
        return launch_plan.expand(text, launch_plan.words(tenant, 0), self.environ)

    def known(self) -> set[int]:
        """Pids of children which have a waiter: the reaper must not reap them."""
        supervisor = self.launcher.pid
        return {*self.records.known(), *([] if supervisor is None else [supervisor])}

    def ancestors(self) -> set[int]:
        """Pids whose descendants are processes of apps, and ours."""
        return {os.getpid(), *([] if self.launcher.pid is None else [self.launcher.pid])}

    async def forget(self) -> None:
        """Drop cached lookups and open connections: after a sleep they are stale."""
        if self.user_placement is not None:
            self.user_placement.forget()
        if self.api is not None:
            await self.api.close()
        for store in (self.store, self.leases.store):
            if store is not None:
                await store.hang_up()

    async def leave(self) -> None:
        """Close what looks at other machines, and the dashboard."""
        await self.dashboard.end()
        if self.user_placement is not None:
            self.user_placement.close()
        if self.api is not None:
            await self.api.close()

    def close(self) -> None:
        self.usage.close()
        self.handler.close()
        self.databases.close()
        self.leases.close()
        if self.store is not None:
            self.store.close()


def _gateway(
    replays: bool, tenant: Tenant, app: child.RunningChild, may_answer: Callable[[], bool]
) -> upstream.Gateway:
    return upstream.Gateway("127.0.0.1", app.port, may_answer, replays=replays, owner=app.port_owner)


def streams_of(
    config: Config, store: ObjectStore | None, environ: Mapping[str, str], records: Records, log: Log
) -> Callable[[Workers], LitestreamBackend] | None:
    """Factory of the litestream backend, for DatabaseService; None in another mode."""
    if config.storage.mode != "litestream" or store is None:
        return None
    data = Path(config.server.data)
    closed = partial(no_links.call, folder=data / "tenants", refused=partial(_log_links, log))
    run = partial(helper_program.hold, records=records, without_links=closed)
    try:
        client.find(config.storage.litestream, environ)
    except client.LitestreamMissing as error:  # it may be installed later, as an app's program may be
        log.event("error", "no tenant can start", reason=str(error))
    return lambda tools: LitestreamBackend(store, config.storage, environ, data / ".flyatc", run, log, tools)


def _log_links(log: Log, error: OSError) -> None:
    why = f"litestream follows links that an app puts in the place of its database: {error.strerror}"
    log.event("info", why, see="docs/isolation.md")


class DataLock:
    """Lock of the data folder, held until ``release`` or the process's end (flock(2)): one daemon per data folder."""

    def __init__(self, data: Path) -> None:
        """Make and lock the folder. Raises FlyatcError if it is locked or cannot be made."""
        self._data = data
        self._file, self._folder = self._take()

    def _take(self) -> tuple[int, Inode | None]:
        """Lock the folder. Returns the descriptor and the folder's inode."""
        folder = self._data / ".flyatc"
        try:
            for one in (folder, self._data / "tenants"):
                durable_files.make_folder(one)
                durable_files.make_folder_private(one)
            file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FlyatcError(
                f"the data folder {self._data} cannot be used: {error.strerror}. See server.data."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_at(file):
                raise FlyatcError(f"the data folder {self._data} was deleted just now: try again")
            return file, inode_of(folder)
        except OSError as error:
            os.close(file)
            raise FlyatcError(
                f"another flyatc runs on the data folder {self._data}: stop it, or set server.data"
            ) from error

    def _is_at(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), (self._data / ".flyatc" / "lock").stat())
        except OSError:
            return False

    def holds(self) -> bool:
        """True if the lock file in the folder is still the one we hold: a deleted one keeps no process out. Cheap."""
        return self._is_at(self._file)

    def same_folder(self) -> bool:
        """True if the folder is the one that was locked, with or without its lock file."""
        return self._folder is not None and inode_of(self._data / ".flyatc") == self._folder

    def retake(self) -> None:
        """Lock the present folder, or make it. Raises FlyatcError as ``__init__``; then nothing has changed."""
        file, folder = self._take()
        os.close(self._file)
        self._file, self._folder = file, folder

    def release(self) -> None:
        os.close(self._file)
