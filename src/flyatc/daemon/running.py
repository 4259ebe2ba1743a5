"""A daemon's life: from the configuration to the last save."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time

import uvloop

from flyatc import __version__
from flyatc.config import changes, load
from flyatc.config.faults import ConfigError
from flyatc.config.schema import App, Config, Tenant, make_tenant
from flyatc.control.server import Server
from flyatc.daemon.lock import DataLock
from flyatc.daemon.operations import Operations
from flyatc.daemon.parts import Parts
from flyatc.edge.listener import Listener
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import reaper, records

MOST_ADDRESSES = 12  # told at the start
IDLE_LOOK_SECONDS = 5.0


def run(path: Path) -> int:
    """Serves until a signal ends it; the exit code: 0, or 1 when something could not be saved.

    Raises ConfigError, or FlyatcError when it cannot start; then nothing was begun."""
    began = monotonic()
    config = load.load(path, os.environ)
    log = Log(text=_is_text(config), level=config.log.level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, log, began))
    finally:
        log.close()


def _is_text(config: Config) -> bool:
    return sys.stdout.isatty() if config.log.format == "auto" else config.log.format == "text"


async def _serve(config: Config, log: Log, began: float) -> int:
    lock = DataLock(Path(config.server.data))
    try:
        listener = Listener(config.server.listen)
        reaper.adopt_orphans()
        await records.end_leftovers(Path(config.server.data), log)
        daemon = Daemon(config, log, listener)
        await daemon.open()
        log.event("info", "listening", on=f"{config.server.listen.host or '*'}:{listener.port}", version=__version__,
                  tenants=len(config.tenants), ms=round((monotonic() - began) * 1000))  # fmt: skip
        for url in _addresses(config, listener.port):
            log.event("info", f"open {url}")
        return await daemon.live()
    finally:
        lock.release()


def _addresses(config: Config, port: int) -> Iterator[str]:
    host = config.server.listen.host or "localhost"
    host = f"[{host}]" if ":" in host else host
    for tenant in list(config.tenants.values())[:MOST_ADDRESSES]:
        yield f"http://{host}:{port}{tenant.prefix}/"


class Daemon:
    def __init__(self, config: Config, log: Log, listener: Listener) -> None:
        self.config, self.log = config, log
        self.parts = Parts(config, log, listener)
        self.control = Server(Operations(self), log, self.parts.data, config.server.control)
        self.stopping = False
        self._stop = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Raises FlyatcError when the store cannot be used."""
        parts, loop = self.parts, asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        if parts.store is not None:
            await parts.store.open()
            await parts.store.check()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._hup)
        await self.control.open()
        await parts.listener.open(parts.wire)
        self._background = [
            tasks.start(parts.fleet.sweep(), "idle tenants"),
            tasks.start(reaper.Reaper(parts.records.known).run(), "reaper"),
            tasks.start(self._recover(), "recover what is unsaved"),
            tasks.start(self._machine_idle(), "machine idle"),
        ]
        gc.collect()
        gc.freeze()  # what lives for ever need not be looked at again
        gc.set_threshold(20_000, 20, 50)

    async def live(self) -> int:
        """Until it is asked to stop; then the orderly end. The exit code."""
        await self._stop.wait()
        self.stopping = True
        deadline, parts = self.config.server.shutdown_timeout, self.parts
        until = monotonic() + deadline
        parts.listener.shut()
        saved = await parts.fleet.close(deadline)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await parts.listener.close(max(0.1, min(1.0, until - monotonic())))
        await self.control.close()
        parts.close()
        if saved:
            self.log.event("info", "stopped: all is saved")
            return 0
        self.log.event(
            "error",
            "stopped, but not all could be saved: the local copies are kept and will be saved at the next start",
        )
        return 1

    # --- signals ---

    def _asked_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop.is_set():
            self.log.event("warning", f"{name} again: hurrying")
            return self.parts.fleet.hurry()
        self.log.event("info", f"{name}: stopping")
        return self._stop.set()

    def _hup(self) -> None:
        with contextlib.suppress(FlyatcError):  # told by reload
            self.reload()

    def reload(self) -> changes.Changes:
        """Takes the configuration anew. Raises ConfigError, and then nothing has changed."""
        try:
            new = load.load(self.config.path, os.environ)
        except ConfigError as error:
            for fault in error.faults:
                self.log.event("error", "reload refused, nothing has changed", fault=str(fault))
            raise
        parts = self.parts
        found = changes.changes(self.config, new, parts.fleet.made())
        self.config = found.config
        parts.fleet.apply(found.config)
        parts.handler.use(found.config)
        parts.listener.use(found.config.limits)
        self.log.event(
            "info", "reloaded", added=list(found.added), changed=list(found.changed), removed=list(found.removed)
        )
        if found.restart:
            self.log.event("warning", "these settings need a restart of the daemon", settings=list(found.restart))
        return found

    def stop(self, why: str) -> None:
        self.log.event("info", f"{why}: stopping")
        self._stop.set()

    # --- in the background ---

    async def _recover(self) -> None:
        """After a SIGKILL the local copies are newer than the store: saved without waiting for a visitor."""
        on_disk = await asyncio.to_thread(lambda: list(_tenants_on_disk(self.config)))
        unsaved = await self.parts.vault.unsaved(on_disk)
        if unsaved:
            await self.parts.fleet.recover([tenant.address for tenant in unsaved])

    async def _machine_idle(self) -> None:
        while True:
            settings = self.config.machine_idle
            await asyncio.sleep(min(IDLE_LOOK_SECONDS, max(0.05, settings.after / 4)))
            if settings.then == "exit" and self.parts.fleet.quiet_for() >= settings.after:
                return self.stop(f"no visitor for {settings.after:g} s")

    def idle_exit_at(self) -> float | None:
        """Unix time at which the daemon ends itself if nobody comes."""
        settings, quiet = self.config.machine_idle, self.parts.fleet.quiet_for()
        return time() + settings.after - quiet if settings.then == "exit" and quiet else None

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        self.log.event(
            "error", "unexpected error: please report it", where=str(context.get("message")), error=repr(error)
        )


def _tenants_on_disk(config: Config) -> Iterator[Tenant]:
    """Every tenant which has a folder, configured or not."""
    for folder in sorted(Path(config.server.data).glob("tenants/*/*")):
        user, name = folder.parent.name, folder.name.replace("~", "/").strip("/")
        address = f"{user}/{name}" if name else user
        known = config.tenants.get(address) or config.tenant_of_pattern(user, name)
        yield known or make_tenant(config.server, user, name, App())
