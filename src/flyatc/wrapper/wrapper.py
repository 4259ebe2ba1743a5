"""``flyatc run``: one app at ``/``, without tenants, as thruster does, and its databases saved."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from flyatc import __version__
from flyatc.config import document, load, wrapper_env
from flyatc.config.errors import ConfigError, Fault
from flyatc.config.schema import Config, Limits
from flyatc.config.schema_sections import Listen
from flyatc.config.wrapper_env import WrapperSettings
from flyatc.daemon import daemon
from flyatc.delivery.cache.cache import Cache
from flyatc.edge.access_log import Recorder
from flyatc.edge.listener import Listener
from flyatc.edge.upstream import Localhost
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, SaveFailed, StartFailed
from flyatc.observe.log import Log
from flyatc.process import proc, readiness
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.ports import PortOwner
from flyatc.wire import server
from flyatc.wrapper import databases
from flyatc.wrapper.app_process import ForegroundApp, Signals, WholeLines
from flyatc.wrapper.single_app import SingleApp

LARGEST_HEAD = 1 << 20  # bytes, as thruster's
PATIENCE = 5.0  # s; for responses in progress when the app has ended
ENDING = frozenset((signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM))
FAILED = 1


def run(command: Sequence[str], file: Path | None) -> int:
    """Run the command and return its exit code: 128 + N if signal N ended it; 1 if it could not be started or its
    databases not saved. ``file``: a tenants.yaml, for its databases. Errors are logged."""
    signals = Signals()
    try:
        settings, config = _read(command, file, os.environ)
    except ConfigError as error:
        with _log(debug=False) as log:
            for fault in error.faults:
                log.event("error", "not started: a setting is wrong", fault=str(fault))
        return FAILED
    with _log(debug=settings.debug) as log:
        try:
            with databases.lock_data_folder(config):
                return daemon.run_in_event_loop(_live(command, settings, config, log, signals))
        except SaveFailed as error:
            log.event("error", f"not saved: the local copy is kept, and will be saved at the next start. {error}")
        except StartFailed as error:
            log.event("error", str(error), command=list(command))
        except FlyatcError as error:
            log.event("error", str(error))
        return FAILED


async def _live(
    command: Sequence[str], settings: WrapperSettings, config: Config | None, log: Log, signals: Signals
) -> int:
    return await Wrapper(settings, config, log, signals).run_app(command)


def _read(
    command: Sequence[str], file: Path | None, environ: Mapping[str, str]
) -> tuple[WrapperSettings, Config | None]:
    """Read the variables and the file. Raises ConfigError with the faults of both."""
    faults: list[Fault] = []
    settings, config = WrapperSettings(), None
    try:
        settings = wrapper_env.read(environ)
    except ConfigError as error:
        faults += error.faults
    try:
        if file is not None:
            # PORT belongs to the app here
            others = {name: value for name, value in environ.items() if name != "PORT"}
            config = load.load(document.find(file), others, alone=command)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(faults)
    return settings, config


@contextlib.contextmanager
def _log(*, debug: bool) -> Iterator[Log]:
    log = Log(WholeLines(1, "wb", closefd=False), text=sys.stdout.isatty(), level="debug" if debug else "info")
    try:
        yield log
    finally:
        log.close()


class Wrapper:
    """The server and the app. Create it in its event loop."""

    def __init__(self, settings: WrapperSettings, config: Config | None, log: Log, signals: Signals) -> None:
        """Raises FlyatcError if the port is taken."""
        self._settings, self._config, self._log, self._signals = settings, config, log, signals
        self._listener = Listener(Listen(settings.host, settings.http_port), named="HTTP_PORT or FLYATC_HOST")
        self._gateway = Localhost(settings.target_port)
        records = Recorder(log, lines=settings.log_requests)
        self._single = SingleApp(
            self._gateway,
            settings,
            records,
            _cache(settings),
            self._page(),
            databases.sendfile_roots(config, settings.target_port),
        )
        warn, single = partial(log.event, "warning"), self._single
        self._wire = server.Server(single.handle, single.refuse, _limits(settings), single.exchange, warn)
        self._app: ForegroundApp | None = None
        self._main = asyncio.current_task()
        self._stop_signal: signal.Signals | None = None  # received before there was an app
        self._drained: asyncio.Task[None] | None = None

    async def run_app(self, command: Sequence[str]) -> int:
        """Run until the app has ended and its databases are saved; return its exit code. Raises FlyatcError."""
        await self._open()
        try:
            async with databases.held(self._config, self._log) as held:
                try:
                    return await self._run(command, held)
                finally:
                    self._drain()  # while the databases are saved
        except asyncio.CancelledError:
            if self._stop_signal is None:
                raise
            return 128 + self._stop_signal
        finally:
            await self._drain()

    async def _open(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: daemon.log_unexpected(self._log, context))
        proc.adopt_orphans()
        await self._listener.open(self._wire)
        self._signals.listen(self._on_signal)
        on = f"{self._settings.host or '*'}:{self._listener.port}"
        self._log.event("info", "listening", on=on, version=__version__, app=self._settings.target_port)
        if self._settings.ignored:
            self._log.event("warning", "these variables mean nothing here", variables=list(self._settings.ignored))
        self._log.flush()  # before the app writes anything

    async def _run(self, command: Sequence[str], held: databases.Held) -> int:
        """Run the app; return its exit code. Raises StartFailed."""
        environ = databases.environment(self._config, os.environ, self._settings.target_port, held)
        self._app = app = ForegroundApp(command, environ, self._signals.before)
        owner = _owner(self._settings, app.pid)
        if owner is not None:
            self._gateway.check_owner(owner)
        self._log.event("info", "app started", pid=app.pid, command=list(command))
        background = [
            tasks.start(self._release(owner), "the app's first listening"),
            tasks.start(proc.Reaper(lambda: (app.pid,)).run(), "reaper"),
        ]
        daemon.settle_memory()
        try:
            code = await app.wait()
        finally:
            for task in background:
                task.cancel()
        self._log.event("info", "app ended", code=code)
        return code

    async def _release(self, owner: PortOwner | None) -> None:
        """Wait for the app to listen, then let the waiting requests through."""
        clock = asyncio.get_running_loop().time
        began, limit, reported = clock(), self._settings.start_timeout, False
        try:
            async with asyncio.timeout(limit):
                while not await self._listens():
                    if owner is not None and owner.stranger is not None and not reported:
                        self._log.event("error", "another process has the app's port", reason=owner.stranger)
                        reported = True
                    await asyncio.sleep(readiness.pause(clock() - began))
            self._log.event("info", "app listens", ms=round((clock() - began) * 1000))
        except TimeoutError:
            where = f"port {self._settings.target_port}"
            self._log.event("warning", f"the app does not listen on {where}: from now on 502", after=limit)
        self._single.release()

    async def _listens(self) -> bool:
        try:
            connection = await self._gateway.dial()
        except OSError:
            return False
        connection.close()
        return True

    def _drain(self) -> asyncio.Task[None]:
        """Start finishing the last responses; starts once."""
        if self._drained is None:
            self._listener.shut()
            self._single.release()
            self._gateway.drain()
            self._drained = tasks.start(self._listener.close(PATIENCE), "last responses")
        return self._drained

    def _on_signal(self, number: signal.Signals, by_kernel: bool) -> None:
        if self._drained is not None:
            if number in ENDING:
                self._wire.abort()
        elif self._app is not None:
            if self._app.relay(number, by_kernel=by_kernel):
                level = "debug" if number is signal.SIGWINCH else "info"
                self._log.event(level, f"relaying {number.name} to the app")
        elif number in ENDING and self._stop_signal is None and self._main is not None:
            self._log.event("info", f"{number.name}: not started")
            self._stop_signal = number
            self._main.cancel()

    def _page(self) -> bytes | None:
        """Read the 502 page, once, before the app starts."""
        path = self._settings.bad_gateway_page
        try:
            return Path(path).read_bytes() if path else None
        except OSError as error:
            self._log.event("debug", "the page for 502 responses cannot be read", path=path, reason=error.strerror)
            return None


def _owner(settings: WrapperSettings, leader: int) -> PortOwner | None:
    """Return the port check, which counts all descendants of flyatc as the app's. None: it is turned off."""
    if not settings.verify_port:
        return None

    def members() -> Iterator[int]:
        return (process.pid for process in proc.descendants(os.getpid()))

    return PortOwner(settings.target_port, leader, members, SocketTable(), setting="VERIFY_PORT=0")


def _cache(settings: WrapperSettings) -> Cache | None:
    size, item = settings.cache_size, settings.max_cache_item_size
    return Cache(size, item) if size and item else None


def _limits(settings: WrapperSettings) -> Limits:
    return Limits(
        request_body=settings.max_request_body,
        request_header=LARGEST_HEAD,
        header_timeout=settings.http_read_timeout,
        body_timeout=settings.http_read_timeout,
        idle_timeout=settings.idle_timeout,
        write_timeout=settings.http_write_timeout,
    )
