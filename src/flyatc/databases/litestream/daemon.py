"""Supervise the one litestream process of the machine: started on first use, driven over its socket, restarted.

Its limits were measured (0.5.17); comments refer to them by these numbers:

1. Its exit code is 0 even if a last upload failed. So its exit confirms nothing; only the store does.
2. It opens a database a second after its registration. Until then others may restart the WAL: see ``Stream``.
3. A failed ``stop`` or ``unregister`` forgets the database nevertheless, and the next one says "already". So nothing
   is concluded from them.
4. Its shutdown handles one database after the other, each up to its timeout: we detach all of them before.
5. A database that is replaced while it is attached makes a replica that cannot be restored: see ``Stream``.
6. It does not prevent a stale copy from overwriting a newer replica: see ``replica_layout`` and the callers of
   ``attach``.
7. Its retries on an unreachable store take minutes, or for ever: each of our calls has a timeout.
8. ``register`` of a known path with another URL changes nothing and says "already_registered".
9. Its registrations are in memory only. A new process has none: if an app has written meanwhile, it would continue
   after a gap. So each stream attaches again: see ``Stream``.
10. ``/sync`` damages what it confirms: see ``client``. It is not called.

``Running`` and ``Run`` describe what is needed of ``process``, which may not be imported; the daemon passes it in.
"""

import asyncio
import contextlib
import hashlib
import math
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from flyatc.databases.litestream import client
from flyatc.databases.litestream.client import Control, ControlFailed, Progress, Refused, Relay
from flyatc.databases.local_files import BESIDE
from flyatc.kit import durable_files, tasks, timing
from flyatc.kit.errors import FlyatcError, StartFailed
from flyatc.kit.threads import Threads
from flyatc.kit.types import Exit
from flyatc.observe.log import Log


class Running(Protocol):
    """A running program. The exit of its context ends its whole process group."""

    @property
    def exited(self) -> asyncio.Event: ...

    @property
    def exit(self) -> Exit | None:
        """None while it runs."""


class Run(Protocol):
    def __call__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        hear: Callable[[str, str], None],
        grace: float,
        hurry: Callable[[], bool],
        directory: Path,
        /,
    ) -> AbstractAsyncContextManager[Running]:
        """Entry: spawn it, on record for the next daemon. Exit: SIGTERM, ``grace`` seconds, SIGKILL; SIGKILL at once if
        ``hurry()``. ``hear`` gets the name of the stream and each line. Raises StartFailed."""


T = TypeVar("T")

START = 10.0  # s; until its socket responds
GRACE = 5.0  # s; from SIGTERM to SIGKILL; it has no databases by then
STEADY = 60.0  # s; after a run of this length it is restarted at once
DETACH_SECONDS = 1.0  # s; for the upload that unregister makes, where it is not needed
FRESH = 0.1  # s; the greatest age of the cached progress

SETTINGS, SOCKET, HIDDEN, STREAMS = "litestream.yml", "litestream.sock", "litestream-", "streams"

# No databases: they come through the socket, which is named relative to its folder (unix(7): 108 bytes at most). The
# shutdown timeouts are for databases that could not be detached.
_CONTENT = f"""\
socket: {{enabled: true, path: {SOCKET}, permissions: 0600}}
logging: {{level: info, type: json, stderr: true}}
shutdown-sync-timeout: 1s
shutdown-sync-interval: 200ms
snapshot: {{interval: 24h, retention: 72h}}
l0-retention: 5m
l0-retention-check-interval: 2m
dbs: []
"""


class LitestreamFailed(FlyatcError):
    """litestream did not do it, or the outcome is unknown."""


class _State(Enum):
    DOWN = "down"  # no process
    OPENING = "opening"
    UP = "up"


class LitestreamDaemon:
    """``folder``: for its socket, settings and state. Create it in a running loop; call ``close`` at the end."""

    def __init__(
        self, folder: Path, configured: str | None, environ: Mapping[str, str], run: Run, log: Log, threads: Threads
    ) -> None:
        self._folder, self._configured, self.environ, self._run = folder, configured, environ, run
        self._log, self._threads = log, threads
        # An app that runs as our user may connect to the socket if it knows the path: Landlock does not cover that. The
        # kernel shows the name that was bound (/proc/net/unix), but not the folder.
        self._hidden = folder / f"{HIDDEN}{secrets.token_hex(8)}"
        self._control = Control(self._hidden / SOCKET)
        self._attached: dict[Path, str] = {}
        self._locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)  # a detached database stays so
        self._state, self._changed = _State.DOWN, asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None
        self._kill, self._closing = asyncio.Event(), asyncio.Event()
        self._program: Path | None = None
        self.starts = 0  # of the process
        self._progress: dict[str, Progress] = {}
        self._progress_at = -math.inf  # by the loop's clock
        self._asking = asyncio.Lock()

    @property
    def up(self) -> bool:
        return self._state is _State.UP

    async def program(self) -> Path:
        """Return the program, checked once. Raises LitestreamMissing."""
        if self._program is None:
            found = client.find(self._configured, self.environ)
            version = await self._threads.run(partial(client.check, found))
            self._log.event("info", "litestream found", program=str(found), version=version)
            self._program = found
        return self._program

    # --- public ---

    async def begin(self) -> None:
        """Start it in the background. Raises LitestreamMissing."""
        if self._supervision is None:
            await self.program()
        if self._supervision is None:
            self._supervision = tasks.start(self._supervise(), "litestream")

    async def attach(self, path: Path, url: str) -> None:
        """Stream ``path`` to ``url``, as long as ``holds`` is true. The file may be created later. Raises
        LitestreamFailed, LitestreamMissing."""
        await self._start()
        shown, path = path, self._shown(path)
        await self._threads.run(partial(_show, shown, path))
        async with self._locks[path]:
            if self._attached.get(path, url) != url:
                await self._detach(path)  # 8
            self._attached[path] = url
            try:
                if not await self._ask(self._control.register(path, url)):
                    await self._register_again(path, url)
            except LitestreamFailed:
                await self._detach(path)
                raise
        async with self._asking:  # the cached progress of the path is of an earlier registration
            self._progress_at = -math.inf

    async def progress(self, path: Path) -> Progress | None:
        """Return its progress since it was attached; None: litestream does not have it, or does not run. One call
        serves all databases. Raises LitestreamFailed."""
        path = self._shown(path)
        if path not in self._attached or not self.up:
            return None
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._progress_at >= FRESH:
                self._progress = await self._ask(self._control.progress())
                self._progress_at = now
        return self._progress.get(str(path))

    async def detach(self, path: Path, seconds: float = DETACH_SECONDS) -> None:
        """Detach it: on return the file is closed, even if litestream has to be killed. Bounded in time. ``seconds``:
        for litestream to read and send the rest; whether it did is unknown afterwards."""
        path = self._shown(path)
        async with self._locks[path]:
            await self._detach(path, seconds)

    async def _detach(self, path: Path, seconds: float = DETACH_SECONDS) -> None:
        if self._attached.pop(path, None) is None:
            return
        while self._state is _State.OPENING:
            await self._wait_for_change()
        if self._state is _State.DOWN:
            return
        try:
            with contextlib.suppress(Refused):  # 3: forgotten nevertheless, as is checked here
                await self._control.unregister(path, max(1, round(seconds)))
                return
            if str(path) not in await self._control.listed():
                return
            reason = "it keeps a database that it was to release"
        except (ControlFailed, Refused) as error:
            reason = str(error)
        await self._replace(reason)

    def holds(self, path: Path) -> bool:
        return self._shown(path) in self._attached

    def state(self, path: Path) -> Path:
        """Return the folder in which litestream keeps its local state of this database."""
        shown = self._shown(path)
        return shown.with_name(f".{shown.name}-litestream")

    def _shown(self, path: Path) -> Path:
        """Return the path by which litestream knows the database: links in a folder of the daemon's. litestream writes
        its state beside the path and follows links there. In the tenant's folder the app could have put some, and
        litestream may write, and give away, more than the app."""
        return self._folder / STREAMS / hashlib.sha256(os.fsencode(path)).hexdigest()[:32] / path.name

    async def close(self) -> None:
        """Stop the process; it has ended on return. Later calls do nothing."""
        self._closing.set()
        self._set_state(self._state)
        supervision, self._supervision = self._supervision, None
        if supervision is not None:
            await asyncio.wait([supervision])
            await self._threads.run(partial(shutil.rmtree, self._hidden, ignore_errors=True))

    # --- the process ---

    async def _start(self) -> None:
        """Start it, and wait until it is up. Raises LitestreamFailed, LitestreamMissing."""
        await self.begin()
        await self._await(_State.UP, START)

    async def _supervise(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while not self._closing.is_set():
            began = clock()
            try:
                await self._run_once()
            except (StartFailed, LitestreamFailed, OSError) as error:
                self._log.event("error", "litestream does not start", error=str(error))
            failures = 1 if clock() - began > STEADY else failures + 1
            await _within(self._closing.wait(), timing.delay(failures, first=0.1, most=30.0))

    async def _run_once(self) -> None:
        await self._threads.run(self._write)
        argv = [str(await self.program()), "replicate", "-config", str(self._folder / SETTINGS)]
        self._kill.clear()
        self._set_state(_State.OPENING)
        try:
            hear = Relay(self._log).hear
            environ = client.environment(self.environ, client.FOR_STREAMS)
            async with self._run(argv, environ, hear, GRACE, self._kill.is_set, self._hidden) as running:
                self.starts += 1
                await self._open(running)
                self._set_state(_State.UP)
                await tasks.first_of(running.exited.wait(), self._closing.wait(), self._kill.wait())
                if running.exited.is_set():
                    self._log.event("error", "litestream has ended: it is started again", exit=str(running.exit))
        finally:
            self._attached.clear()  # 9
            self._progress_at = -math.inf
            self._set_state(_State.DOWN)

    def _write(self) -> None:
        for former in self._folder.glob(f"{HIDDEN}*"):  # so that only the new process can respond
            shutil.rmtree(former, ignore_errors=True)
        durable_files.make_folder(self._hidden)
        (self._folder / SETTINGS).write_text(_CONTENT)

    async def _open(self, running: Running) -> None:
        """Wait until its socket responds. Raises LitestreamFailed."""
        until = asyncio.get_running_loop().time() + START
        while True:
            try:
                await self._control.listed()
                break
            except (ControlFailed, Refused) as error:
                if running.exited.is_set() or self._closing.is_set():
                    raise LitestreamFailed(f"litestream has ended at its start: {running.exit}") from error
                if asyncio.get_running_loop().time() > until:
                    raise LitestreamFailed(f"litestream does not respond: {error}") from error
            await asyncio.sleep(0.01)

    async def _replace(self, reason: str) -> None:
        """Kill it: on return all databases are detached. Other streams notice with ``holds``."""
        self._log.event("warning", "litestream is killed and started again", reason=reason)
        starts = self.starts
        self._kill.set()
        while self._state is not _State.DOWN and self.starts == starts:
            await self._wait_for_change()

    async def _register_again(self, path: Path, url: str) -> None:
        """Register again, since the path was known already (8), with an unknown URL."""
        with contextlib.suppress(Refused):  # 3
            await self._control.unregister(path, round(DETACH_SECONDS))
        if not await self._ask(self._control.register(path, url)):
            await self._replace("it keeps a database that it was to release")
            await self._await(_State.UP, START)
            self._attached[path] = url
            await self._ask(self._control.register(path, url))

    def _set_state(self, state: _State) -> None:
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()

    async def _await(self, state: _State, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._state is not state:
                    if self._closing.is_set():
                        raise LitestreamFailed("litestream is being stopped")
                    await self._wait_for_change()
        except TimeoutError:
            raise LitestreamFailed("litestream does not run: see the log for why") from None

    async def _ask(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await call
        except (Refused, ControlFailed) as error:
            raise LitestreamFailed(f"litestream: {error}") from error


def _show(path: Path, shown: Path) -> None:
    durable_files.make_folder(shown.parent)
    for end in ("", *BESIDE):
        link = shown.with_name(shown.name + end)
        if not link.is_symlink():
            link.symlink_to(f"{path}{end}")


async def _within(wait: Coroutine[Any, Any, Any], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait
