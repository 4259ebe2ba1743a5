"""Build the simulator from its parts, all on loopback, and run it in the foreground (``flyatc sim``)."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError, cannot_listen
from flyatc.process import readiness
from flyatc.sim import dns_records, types
from flyatc.sim.api import MachinesApi
from flyatc.sim.api_server import ApiServer, LocalApis
from flyatc.sim.client import FILE, Running
from flyatc.sim.dns import FAULTS, DnsServer
from flyatc.sim.machine import LOG, Record
from flyatc.sim.machines import Machines
from flyatc.sim.proxy import Proxy
from flyatc.sim.proxy_leg import HOST, Connector
from flyatc.sim.proxy_rules import RUNNING
from flyatc.wire import connection, server
from flyatc.wire.errors import BadMessage

SWEEP_SECONDS = 1.0
TOKEN = "simulated"  # noqa: S105  # nothing to protect
SECRET = 4 * TOKEN  # as long as it must be


class Settings(Struct, frozen=True, kw_only=True):
    """Settings. ``regions``: the first is the edge for clients. Port 0: any free port. Times in seconds."""

    folder: Path
    app: str = "sim"
    regions: tuple[str, ...] = ("iad", "ams", "syd")
    port: int = 0
    api_port: int = 0
    dns_port: int = 0
    ptr: bool = True  # undocumented by Fly, so it can be switched off
    stale: float = 1.5  # a stopped machine is seen as started for so long; on Fly up to 5 minutes
    give_up: float = 8.0  # limit for reaching a machine
    grace: float = 30.0  # kill_timeout
    config: Path | None = None  # read by any flyatc command in a machine


class Simulator:
    """The simulator. ``command``: a machine's program; ``log``: called with a line for each request and DNS query."""

    def __init__(
        self, settings: Settings, command: Callable[[Record, Path], list[str]], log: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self.machines = Machines(
            settings.folder, command, self._environment, stale=settings.stale, grace=settings.grace
        )
        edge = settings.regions[0]
        self.proxy = Proxy(Connector(self.machines, edge, give_up=settings.give_up), settings.app, edge, log)
        self.dns = DnsServer(self._look_up, log)
        api = MachinesApi(self.machines, settings.regions)
        self.api = ApiServer(api, self.machines, TOKEN, self.overview, self.break_things)
        self._local = LocalApis(api, lambda: self.api.fault)
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._ports = {"proxy": 0, "api": 0, "dns": 0}

    async def open(self, users: Mapping[str, Mapping[str, str]]) -> None:
        """Listen, and start all machines. ``users``: name → metadata; missing ones are created. Raises FlyatcError."""
        wanted = self._settings
        self._ports["proxy"] = self.proxy.port = await self._listen(self.proxy.wire, wanted.port)
        self._ports["api"] = await self._listen_api(wanted.api_port)
        try:
            self._ports["dns"] = await self.dns.open(HOST, wanted.dns_port)
        except OSError as error:
            raise FlyatcError(f"cannot listen on {HOST}:{wanted.dns_port} for the DNS: {error.strerror}") from error
        self._sweeper = tasks.start(self._sweep(), "limits of connections")
        self.machines.load()
        known = {one.record.name for one in self.machines}
        for number, (name, metadata) in enumerate(users.items()):
            if name not in known:
                self.machines.create(wanted.app, wanted.regions[number % len(wanted.regions)], metadata, name)
        await self.machines.start_all()

    async def ready(self, seconds: float) -> list[str]:
        """Wait until every machine listens, at most ``seconds``; return the names of those that do not."""
        waits = {
            one.record.name: tasks.start(readiness.answering(one.record.port, None), f"wait for {one.record.name}")
            for one in self.machines
        }
        try:
            if waits:
                await asyncio.wait(waits.values(), timeout=seconds)
            return [name for name, task in waits.items() if not task.done()]
        finally:
            for task in waits.values():
                task.cancel()

    async def close(self) -> None:
        """Stop everything; machines are stopped as Fly stops them."""
        for listener in self._listeners:
            listener.close()
        await self.proxy.close()
        await self.machines.stop_all()
        await self.api.close()
        await self._local.close()
        self.dns.close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    @property
    def port(self) -> int:
        """The port of the proxy, for clients."""
        return self._ports["proxy"]

    @property
    def api_port(self) -> int:
        return self._ports["api"]

    @property
    def dns_port(self) -> int:
        return self._ports["dns"]

    def overview(self) -> types.Overview:
        folder = self._settings.folder
        return types.Overview(
            proxy=f"http://{HOST}:{self.port}",
            api=f"http://{HOST}:{self.api_port}",
            dns=f"{HOST}:{self.dns_port}",
            app=self._settings.app,
            faults=types.Faults(self.api.fault, self.dns.fault),
            machines=[types.machine_status(one, str(folder / one.record.name / LOG)) for one in self.machines],
        )

    def break_things(self, faults: types.Faults) -> None:
        """Set the faults to simulate. Raises BadMessage."""
        if faults.dns not in FAULTS:
            raise BadMessage(400, f"dns: {faults.dns!r} is none of {', '.join(FAULTS[1:])}")
        self.api.fault, self.dns.fault = faults.api, faults.dns

    def _environment(self, record: Record, folder: Path) -> Mapping[str, str]:
        """Return the variables by which a machine finds the platform and its disk."""
        config = self._settings.config
        return {
            **({"FLYATC_CONFIG": str(config)} if config is not None else {}),
            "FLYATC_HOST": HOST,
            "FLYATC_DATA": str(folder / "data"),
            "FLYATC_SECRET": os.environ.get("FLYATC_SECRET", SECRET),
            "FLYATC_RESOLVER": f"{HOST}:{self.dns_port}",
            "FLYATC_METADATA": next(iter(record.metadata), ""),  # the key that names the user, like fly.metadata
            "FLYATC_NETWORK": str(self.machines.network),
            "FLYATC_FLY_API": str(self._local.open(record.app, record.id)),
            "FLY_FLAPS_BASE_URL": f"http://{HOST}:{self.api_port}",
            "FLY_API_TOKEN": TOKEN,
        }

    def _look_up(self, name: str) -> dns_records.Found:
        known: Sequence[dns_records.KnownMachine] = [
            dns_records.KnownMachine(
                id=one.record.id, app=one.record.app, region=one.record.region, address=one.record.address,
                started=one.seen().state == RUNNING, metadata=one.record.metadata,
            )
            for one in self.machines
        ]  # fmt: skip
        return dns_records.look_up(name, known, self._settings.regions[0], ptr=self._settings.ptr)

    async def _listen(self, wire: server.Server, port: int) -> int:
        try:
            listener = await asyncio.get_running_loop().create_server(partial(connection.Connection, wire), HOST, port)
        except OSError as error:
            raise FlyatcError(cannot_listen(f"{HOST}:{port}", error)) from error
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def _listen_api(self, port: int) -> int:
        try:
            one = socket.create_server((HOST, port))
        except OSError as error:
            raise FlyatcError(cannot_listen(f"{HOST}:{port}", error)) from error
        one.setblocking(False)
        await self.api.open(one)
        return int(one.getsockname()[1])

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.proxy.wire.sweep()


PATIENCE = 20.0  # s, for the machines to listen


async def run(
    settings: Settings,
    config: Path,
    machines: Mapping[str, Mapping[str, str]],
    log: Callable[[str], None],
    ready: Callable[[Simulator, list[str]], None],
) -> None:
    """Run until SIGINT or SIGTERM. ``config``: absolute; ``machines``: name → metadata; ``ready`` is called when they
    listen or PATIENCE is over, with the names of those that do not. Raises FlyatcError."""
    command = [sys.executable, "-m", "flyatc", "serve", "--config", str(config)]
    with _locked(settings.folder):
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        simulator = Simulator(settings, lambda record, folder: command, log)
        try:
            await simulator.open(machines)
            (settings.folder / FILE).write_bytes(msgspec.json.encode(Running(HOST, simulator.api_port)))
            greeting = tasks.start(_greet(simulator, ready), "greeting")
            await stop.wait()
            greeting.cancel()
        finally:
            await simulator.close()


async def _greet(simulator: Simulator, ready: Callable[[Simulator, list[str]], None]) -> None:
    ready(simulator, await simulator.ready(PATIENCE))


LOCK = "lock"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, for one simulator. Raises FlyatcError."""
    durable_files.make_folder(folder)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FlyatcError(
                f"another flyatc sim runs with {folder}: stop it first, or name another --data"
            ) from error
        yield
    finally:
        os.close(descriptor)
