"""A daemon from start to exit: load the configuration, serve, reload, save and shut down."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Coroutine, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

import uvloop
from msgspec import structs

from flyatc import __version__
from flyatc.config import load, reload
from flyatc.config.errors import ConfigError
from flyatc.config.reload import Changes
from flyatc.config.schema import Config, Tenant
from flyatc.control.execute_server import ExecuteListener
from flyatc.control.listeners import Listeners
from flyatc.daemon import dashboard_site, rehearsal
from flyatc.daemon.data_folder import DataFolder
from flyatc.daemon.execution import Execution
from flyatc.daemon.leases import local_tenants
from flyatc.daemon.machine_idle import IdleWatcher
from flyatc.daemon.machine_sleep import DaemonMachine
from flyatc.daemon.operations import Operations
from flyatc.daemon.wiring import DataLock, Parts
from flyatc.edge.listener import Listener
from flyatc.kit import file_limit, tasks, threads
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import leftovers, proc
from flyatc.process.isolation import confine
from flyatc.routing.route import Routes

MOST_ADDRESSES = 12  # logged at the start
SWITCH_SECONDS = 0.001  # of a reload's thread: the loop waits no longer for the interpreter's lock
FAILED = 1
LAST_SECONDS = 0.5  # at least, for the last steps of a shutdown
LATER = "the local copies are kept and will be saved at the next start"


def run(path: Path) -> int:
    """Serve until a signal. Returns the exit code: 0, or 1 if the start or a save failed.

    Errors go to the log, in the log's format; on a terminal ConfigError is raised."""
    began = monotonic()
    threads.share_memory()
    try:
        config = load.load(path, os.environ)
    except ConfigError as error:
        if sys.stdout.isatty():
            raise
        with contextlib.closing(Log()) as log:
            for fault in error.faults:
                log.event("error", "not started: a setting is wrong", fault=str(fault))
        return FAILED
    with contextlib.closing(Log(text=_is_text(config), level=config.log.level)) as log:
        try:
            return run_in_event_loop(_serve(config, log, began))
        except FlyatcError as error:
            log.event("error", f"not started: {error}")
        except Exception as error:
            log_unexpected(log, {"message": "the daemon ends", "exception": error})
        return FAILED


def run_in_event_loop(main: Coroutine[Any, Any, int]) -> int:
    file_limit.raise_it()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def settle_memory() -> None:
    """Exclude all present objects from garbage collection: they live as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def log_unexpected(log: Log, context: dict[str, Any]) -> None:
    """Log a bug. ``context``: as for a loop's exception handler."""
    error = context.get("exception")
    trace = traceback.format_exception(error) if isinstance(error, BaseException) else []
    log.event(
        "error",
        "unexpected error: please report it",
        where=str(context.get("message")),
        error=repr(error),
        trace="".join(trace),
    )


def _is_text(config: Config) -> bool:
    return sys.stdout.isatty() if config.log.format == "auto" else config.log.format == "text"


async def _serve(config: Config, log: Log, began: float) -> int:
    confine.hide_process()
    lock = DataLock(Path(config.server.data))
    try:
        listener = Listener(config.server.listen)
        daemon = Daemon(config, log, listener, lock)
        await daemon.open()
        log.event("info", "listening", on=f"{config.server.listen.host or '*'}:{listener.port}", version=__version__,
                  tenants=len(config.tenants), ms=round((monotonic() - began) * 1000),
                  **{"only": config.only} if config.only else {})  # fmt: skip
        daemon.parts.sandbox.log_lacking(config)
        for url in _addresses(config, listener.port):
            log.event("info", f"open {url}")
        return await daemon.serve()
    finally:
        lock.release()


def _addresses(config: Config, port: int) -> Iterator[str]:
    host = config.server.listen.host or "localhost"
    host = f"[{host}]" if ":" in host else host
    for tenant in [one for one in config.tenants.values() if config.serves(one.user)][:MOST_ADDRESSES]:
        yield f"http://{host}:{port}{tenant.prefix}/"
    if config.dashboard is not None:
        yield f"http://{config.dashboard.host or host}:{port}{config.dashboard.path}/"


def _read_again(old: Config, made: list[Tenant]) -> tuple[Changes, Routes]:
    """Read the configuration, compare it with ``old``, and build its routes. For a thread. Raises ConfigError."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        found = reload.changes(old, load.load(old.path, os.environ), made)
        return found, Routes(found.config)
    finally:
        sys.setswitchinterval(usual)


class Daemon:
    def __init__(self, config: Config, log: Log, listener: Listener, lock: DataLock) -> None:
        self.config, self.log = config, log
        self.parts = Parts(config, log, listener)
        operations = Operations(self, self.parts)
        self.control = Listeners(operations, log, self.parts.data, config.server.control, self.parts.ancestors)
        dashboard_site.connect(self.parts, operations, lambda: self.config)
        execute = Execution(self.parts).execute
        self._commands = ExecuteListener(execute, self.parts.data, log, self.parts.ancestors)
        self.stopping = False
        self._stop = asyncio.Event()
        self._looked = asyncio.Event()  # set once it is known which tenants are unsaved
        self._folder = DataFolder(self.parts.data, lock, self.parts.fleet, self._rewrite, self.stop, log)
        self.parts.leases.present = self._folder.present
        machine = DaemonMachine(self.parts, lambda: self.config, self._looked)
        self._idle_watcher = IdleWatcher(machine, lambda: self.config, self.parts.environ, self.stop, log)
        self._background: list[asyncio.Task[None]] = []
        self._reloading = asyncio.Lock()

    async def open(self) -> None:
        """Start serving. Raises FlyatcError if the store refuses us, or leftover processes cannot be ended."""
        parts, loop = self.parts, asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):  # first: a signal during the start takes effect after it
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._hup)
        proc.adopt_orphans()
        await leftovers.end_unrecorded(parts.data, parts.environ, self.log)
        await leftovers.end_leftovers(parts.data, self.log)
        await asyncio.to_thread(rehearsal.sweep, parts.data)
        await tasks.first_of(parts.store_start.first(), self._stop.wait())
        await self.control.open()
        self._commands.open()
        if parts.private is not None:
            await parts.private.open(parts.handler, self.config.limits, parts.status)
        await parts.listener.open(parts.wire)
        self._background = [
            tasks.start(parts.fleet.sweep(), "idle tenants"),
            tasks.start(proc.Reaper(parts.known).run(), "reaper"),
            tasks.start(self._open_store(), "open the store"),
            tasks.start(self._recover(), "recover what is unsaved"),
            tasks.start(self._idle_watcher.run(), "machine idle"),
            tasks.start(self._idle_watcher.watch(), "clocks"),
            tasks.start(self._folder.watch(), "data folder"),
            tasks.start(parts.usage.run(), "usage"),
        ]
        if parts.verification is not None:
            self._background.append(tasks.start(parts.verification.run(), "verify"))
        for task in self._background:
            task.add_done_callback(self._ended)
        settle_memory()

    async def serve(self) -> int:
        """Wait for the request to stop, then shut down in order. Returns the exit code."""
        await self._stop.wait()
        self.stopping = True
        self.parts.leases.wake()  # ends an attempt to sleep
        until = monotonic() + self.config.server.shutdown_timeout
        self.parts.listener.shut()
        if self.parts.private is not None:
            self.parts.private.shut()
        self.parts.maintenance.end("the daemon is going away")
        await self._wait_for_unsaved((until - monotonic()) / 4)
        losses = self._folder.losses
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((until - monotonic()) / 2):
                await self._commands.close()
        saved = await self.parts.fleet.close(until - monotonic())
        try:
            async with asyncio.timeout(max(LAST_SECONDS, until - monotonic())):
                await self._close_parts(until)
        except TimeoutError:
            self._exit_at_once()
        if self._folder.losses > losses:
            self.log.event("error", "stopped, but what was not saved when the data folder was deleted is lost")
            return 1
        if saved:
            self.log.event("info", "stopped: all is saved")
            return 0
        self.log.event("error", f"stopped, but not all could be saved: {LATER}")
        return 1

    async def _wait_for_unsaved(self, patience: float) -> None:
        """A daemon stopped right after its start still has to save what the last run could not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._looked.wait()

    async def _close_parts(self, until: float) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.wait(self._background)
        if self.parts.private is not None:
            await self.parts.private.close(max(0.1, until - monotonic() - LAST_SECONDS))
        await self.parts.listener.close(max(0.1, min(1.0, until - monotonic())))
        await self.parts.databases.still()
        await self.parts.leases.leave()
        await self.parts.leave()
        await self.control.close()
        await self.parts.launcher.close()
        await asyncio.to_thread(self.parts.close)  # waits for the threads of the store

    def _exit_at_once(self) -> NoReturn:
        """Exit although a thread hangs in the store or the disk: Python would wait for it for ever."""
        self.log.event("error", f"stopped, but the store or a disk hangs: {LATER}")
        self.log.close()
        os._exit(1)

    # --- signals ---

    def _asked_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop.is_set():
            self.log.event("warning", f"{name} again: hurrying")
            return self.parts.fleet.hurry()
        self.log.event("info", f"{name}: stopping")
        return self._stop.set()

    def _hup(self) -> None:
        tasks.start(self._reload_logged(), "reload")

    async def _reload_logged(self) -> None:
        with contextlib.suppress(FlyatcError):  # logged by reload
            await self.reload()

    async def reload(self) -> Changes:
        """Reload the configuration. Raises ConfigError; then nothing has changed. Reading ten thousand users takes half
        a second, so a thread does it while requests are served."""
        async with self._reloading:
            made = self.parts.fleet.tenants_of_pattern()
            try:
                found, routes = await asyncio.to_thread(_read_again, self.config, made)
            except ConfigError as error:
                for fault in error.faults:
                    self.log.event("error", "reload refused, nothing has changed", fault=str(fault))
                raise
            known = {one.address for one in made}
            made_since = [one for one in self.parts.fleet.tenants_of_pattern() if one.address not in known]
            if made_since:
                of_these = reload.changes(structs.replace(self.config, tenants={}), found.config, made_since)
                found = structs.replace(
                    found, changed=(*found.changed, *of_these.changed), removed=(*found.removed, *of_these.removed)
                )
            self._apply(found, routes)
        return found

    def _apply(self, found: Changes, routes: Routes) -> None:
        parts = self.parts
        self.config = found.config
        parts.fleet.apply(found.config)
        parts.handler.use(found.config, routes)
        if parts.cache is not None and (found.changed or found.removed):
            parts.cache.clear(*found.changed, *found.removed)  # stored by other rules
        if parts.user_placement is not None:
            parts.user_placement.use(found.config)
        parts.listener.use(found.config.limits)
        if parts.private is not None:
            parts.private.use(found.config.limits)
        self.log.event(
            "info", "reloaded", added=list(found.added), changed=list(found.changed), removed=list(found.removed)
        )
        if found.restart:
            self.log.event("warning", "these settings need a restart of the daemon", settings=list(found.restart))

    def _rewrite(self) -> None:
        """Write to a restored data folder what the daemon has in memory. Raises OSError."""
        self.parts.leases.rewrite()
        self.parts.maintenance.rewrite()
        self._commands.open()

    def stop(self, why: str) -> None:
        self.log.event("info", f"{why}: stopping")
        self._stop.set()

    # --- in the background ---

    async def _open_store(self) -> None:
        """Open the store. If it was away, tenants which failed for that may start again at once."""
        away = not self.parts.store_start.ready
        await self.parts.store_start.run()
        if away:
            for tenant in self.parts.fleet.known():
                tenant.reset_backoff()

    async def _recover(self) -> None:
        """Save what an earlier run left unsaved, as after a SIGKILL, without waiting for a request."""
        on_disk, start = await local_tenants(self.config), self.parts.store_start
        waits = not start.ready
        if not waits:
            await self.parts.databases.send_orphans(on_disk)
        unsaved = await self.parts.databases.unsaved(on_disk)
        self.parts.fleet.saved_before = self.parts.databases.last_saved
        self._looked.set()  # the fleet is informed before another task runs
        if unsaved:
            await self.parts.fleet.recover([tenant.address for tenant in unsaved])
        if waits:
            await start.passed()
            await self.parts.databases.send_orphans(on_disk)

    def idle_at(self) -> float | None:
        """Unix time of machine_idle.then if no request comes; None: never, or not counting down."""
        return self._idle_watcher.due_at()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Report a failed background task at once: it is awaited only at shutdown."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._unexpected(task.get_loop(), {"message": task.get_name(), "exception": error})

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log_unexpected(self.log, context)
