"""The machine's one litestream: started when it is first needed, driven over its socket, restarted when it dies.

What it must not be trusted with was measured (0.5.17); the numbers are used where each point is dealt with:

1. its exit code: it ends with 0 though a last upload failed. So an end of it confirms nothing: the store does.
2. it opens a database a second after it was registered. Until then others may restart the WAL: see ``Stream``.
3. ``stop`` and ``unregister`` which fail forget the database all the same, and say "already" the next time. So nothing
   is concluded from them.
4. its own end takes the databases one after the other, each up to its timeout: we let go of each before.
5. a database that is replaced under it makes a replica that cannot be restored: see ``Stream``.
6. nothing keeps a stale copy from overwriting a newer replica: see ``lines``, and who calls ``attach``.
7. its retries on a store that is away take minutes, or for ever: each call has a timeout of ours.
8. ``register`` of a path which it has with another URL changes nothing and says "already_registered".
9. what it was told is in memory only. A new one is told nothing: where an app has written meanwhile, it would go on
   behind a gap. Whoever streams attaches anew: see ``Stream``.
10. ``/sync`` damages what it confirms: see ``control``. It is not called.

What this room needs of ``process``, which it may not import: handed in by the daemon.
"""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from flyatc.databases.litestream import client
from flyatc.databases.litestream.client import Control, ControlFailed, Progress, Refused, Relay
from flyatc.kit import backoff, durable_files, tasks
from flyatc.kit.errors import FlyatcError, StartFailed
from flyatc.kit.threads import Threads
from flyatc.kit.types import Exit
from flyatc.observe.log import Log


class Running(Protocol):
    """A program. Leaving its hold ends its whole process group."""

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
    ) -> AbstractAsyncContextManager[Running]:
        """Spawned on the way in, on record for the next daemon; on the way out SIGTERM, ``grace`` seconds, SIGKILL, or
        SIGKILL at once where ``hurry()``. ``hear`` gets the stream's name and each line. Raises StartFailed."""


T = TypeVar("T")

START = 10.0  # s; until its socket answers
GRACE = 5.0  # s; from SIGTERM to SIGKILL; it has no databases by then
STEADY = 60.0  # s; who ran for so long and dies is started again at once
LETTING_GO = 1.0  # s; for the upload which comes with unregister, where it is not needed
FRESH = 0.1  # s; what is known of all databases is that old at most

SETTINGS, SOCKET = "litestream.yml", "litestream.sock"

# No databases: they come by the socket, which is named from within its folder (unix(7): 108 octets at most). The
# timeouts at its end are for those which we could not let go of.
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
    """litestream did not do it, or nobody knows whether it did."""


class _State(Enum):
    DOWN = "down"  # no process
    OPENING = "opening"
    UP = "up"


class LitestreamDaemon:
    """``folder``: ours alone, for its socket and settings. To be made in a running loop; ``close`` it at the end."""

    def __init__(
        self, folder: Path, configured: str | None, environ: Mapping[str, str], run: Run, log: Log, threads: Threads
    ) -> None:
        self._folder, self._configured, self.environ, self._run = folder, configured, environ, run
        self._log, self._threads = log, threads
        self._control = Control(folder / SOCKET)
        self._attached: dict[Path, str] = {}
        self._locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)  # so that what is let go of stays so
        self._state, self._changed = _State.DOWN, asyncio.Event()
        self._life: asyncio.Task[None] | None = None
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
        """Raises LitestreamMissing. Asks once."""
        if self._program is None:
            found = client.find(self._configured, self.environ)
            version = await self._threads.run(partial(client.check, found))
            self._log.event("info", "litestream found", program=str(found), version=version)
            self._program = found
        return self._program

    # --- what others ask for ---

    async def begin(self) -> None:
        """It comes up, whatever else happens meanwhile. Raises LitestreamMissing."""
        if self._life is None:
            await self.program()
        if self._life is None:
            self._life = tasks.start(self._live(), "litestream")

    async def attach(self, path: Path, url: str) -> None:
        """From now on it streams to ``url``, as long as ``holds``. The file may come later. Raises EngineFailed,
        LitestreamMissing."""
        await self._start()
        async with self._locks[path]:
            if self._attached.get(path, url) != url:
                await self._let_go(path)  # 8
            self._attached[path] = url
            try:
                if not await self._ask(self._control.register(path, url)):
                    await self._anew(path, url)
            except LitestreamFailed:
                await self._let_go(path)
                raise
        async with self._asking:  # what was known of the path is of an earlier registration
            self._progress_at = -math.inf

    async def progress(self, path: Path) -> Progress | None:
        """Since it was attached; None: litestream does not have this database, or does not run. One question serves all
        databases. Raises EngineFailed."""
        if path not in self._attached or not self.up:
            return None
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._progress_at >= FRESH:
                self._progress = await self._ask(self._control.progress())
                self._progress_at = now
        return self._progress.get(str(path))

    async def detach(self, path: Path, seconds: float = LETTING_GO) -> None:
        """Nothing holds the file any more when it returns, whatever it takes; it is bounded in time. ``seconds``: for
        litestream to read and send what is left; whether it did is not known afterwards."""
        async with self._locks[path]:
            await self._let_go(path, seconds)

    async def _let_go(self, path: Path, seconds: float = LETTING_GO) -> None:
        if self._attached.pop(path, None) is None:
            return
        while self._state is _State.OPENING:
            await self._wait_for_change()
        if self._state is _State.DOWN:
            return
        try:
            with contextlib.suppress(Refused):  # 3: forgotten all the same, as we see for ourselves
                await self._control.unregister(path, max(1, round(seconds)))
                return
            if str(path) not in await self._control.listed():
                return
            reason = "it keeps a database which it was to let go of"
        except (ControlFailed, Refused) as error:
            reason = str(error)
        await self._replace(reason)

    def holds(self, path: Path) -> bool:
        return path in self._attached

    async def close(self) -> None:
        """The process has ended when it returns."""
        self._closing.set()
        self._turn(self._state)
        if self._life is not None:
            await asyncio.wait([self._life])

    # --- its life ---

    async def _start(self) -> None:
        """It is up when it returns. Raises EngineFailed, LitestreamMissing."""
        await self.begin()
        await self._await(_State.UP, START)

    async def _live(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while not self._closing.is_set():
            began = clock()
            try:
                await self._run_once()
            except (StartFailed, LitestreamFailed, OSError) as error:
                self._log.event("error", "litestream does not start", error=str(error))
            failures = 1 if clock() - began > STEADY else failures + 1
            await _within(self._closing.wait(), backoff.delay(failures, first=0.1, most=30.0))

    async def _run_once(self) -> None:
        await self._threads.run(self._write)
        argv = [str(await self.program()), "replicate", "-config", str(self._folder / SETTINGS)]
        self._kill.clear()
        self._turn(_State.OPENING)
        try:
            hear = Relay(self._log).hear
            environ = client.environment(self.environ, client.FOR_STREAMS)
            async with self._run(argv, environ, hear, GRACE, self._kill.is_set, self._folder) as running:
                self.starts += 1
                await self._open(running)
                self._turn(_State.UP)
                await tasks.first_of(running.exited.wait(), self._closing.wait(), self._kill.wait())
                if running.exited.is_set():
                    self._log.event("error", "litestream has ended: it is started again", exit=str(running.exit))
        finally:
            self._attached.clear()  # 9
            self._progress_at = -math.inf
            self._turn(_State.DOWN)

    def _write(self) -> None:
        durable_files.make_folder(self._folder)
        (self._folder / SOCKET).unlink(missing_ok=True)  # so that nobody answers but the one who is to come
        (self._folder / SETTINGS).write_text(_CONTENT)

    async def _open(self, running: Running) -> None:
        """It answers. Raises EngineFailed."""
        until = asyncio.get_running_loop().time() + START
        while True:
            try:
                await self._control.listed()
                break
            except (ControlFailed, Refused) as error:
                if running.exited.is_set() or self._closing.is_set():
                    raise LitestreamFailed(f"litestream has ended at its start: {running.exit}") from error
                if asyncio.get_running_loop().time() > until:
                    raise LitestreamFailed(f"litestream does not answer: {error}") from error
            await asyncio.sleep(0.01)

    async def _replace(self, reason: str) -> None:
        """Kills it, whatever it is doing: what it holds is free when it returns. The others see that it let go."""
        self._log.event("warning", "litestream is killed and started again", reason=reason)
        starts = self.starts
        self._kill.set()
        while self._state is not _State.DOWN and self.starts == starts:
            await self._wait_for_change()

    async def _anew(self, path: Path, url: str) -> None:
        """8: it had the path already, nobody knows with which URL."""
        with contextlib.suppress(Refused):  # 3
            await self._control.unregister(path, round(LETTING_GO))
        if not await self._ask(self._control.register(path, url)):
            await self._replace("it keeps a database which it was to let go of")
            await self._await(_State.UP, START)
            self._attached[path] = url
            await self._ask(self._control.register(path, url))

    # --- parts ---

    def _turn(self, state: _State) -> None:
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


async def _within(wait: Coroutine[Any, Any, Any], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait
