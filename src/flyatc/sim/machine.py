"""A simulated machine: its record and its processes.

States: https://fly.io/docs/machines/machine-states/. A suspended machine is stopped by SIGSTOP, so its clock goes on;
on Fly it lags after a resume (https://fly.io/docs/reference/suspend-resume/). The processes of a machine, with all
descendants, are found by an inherited environment variable and killed when it ends.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec import Struct, field

from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError
from flyatc.sim.proxy_rules import MachineView

MEMORY = "512"  # MB
RESTARTS = 10  # of policy on-failure; then it stays stopped
AGAIN_SECONDS = 0.2
LOG = "machine.log"


class WrongState(FlyatcError):
    """412: the action is not possible in the machine's state."""


class Record(Struct, kw_only=True):
    """Persistent data of a machine; outlives the simulator."""

    id: str
    name: str
    app: str
    region: str
    address: str  # 6PN, fictitious
    port: int  # where it listens on 127.0.0.1
    private: int = 0  # its port on 127.0.0.1 for other machines, in place of ``address``
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  # as given to the API
    autostart: bool = True
    created: float = 0.0  # Unix time


class Machine:
    """A machine. ``command``: its program; ``folder``: its disk; ``grace``: seconds from SIGINT to SIGKILL."""

    def __init__(self, record: Record, command: Sequence[str], environ: Mapping[str, str], folder: Path,
                 *, grace: float, stale: float) -> None:  # fmt: skip
        """``stale``: for how many seconds the proxy and the DNS still see a stopped machine as started."""
        self.record, self.folder = record, folder
        self.state = "created"
        self.updated = 0
        self.load = 0
        self.lost = False  # its host has failed; proxy, DNS and API do not know it
        self.cordoned = False
        self._command, self.environ, self._grace, self._stale = list(command), dict(environ), grace, stale
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopped_at = -stale
        self._restarts = 0
        self._changed = asyncio.Condition()
        self._lock = asyncio.Lock()

    @property
    def reachable(self) -> bool:
        return self.state == "started" and not self.lost

    def seen(self) -> MachineView:
        """Return the machine as proxy and DNS see it (stale): https://fly.io/docs/monitoring/error-codes/, PM11."""
        fresh = self.state in ("stopping", "stopped", "suspending", "suspended")
        visible = "started" if fresh and monotonic() - self._stopped_at < self._stale else self.state
        one = self.record
        return MachineView(one.id, one.app, one.region, visible, one.autostart, self.cordoned, self.load)

    async def until(self, state: str, seconds: float) -> bool:
        """Wait for the state; return False if it is not reached in ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.state == state)
                return True
        return False

    # --- actions ---

    # Once started, an action runs to its end even if the caller is cancelled.

    async def start(self) -> str:
        """Start the machine, unless it is started; return the state before. Raises WrongState."""
        return await tasks.joined(tasks.start(self._start(), f"start of {self.record.name}"))

    async def stop(self, number: int = signal.SIGINT, grace: float | None = None) -> str:
        """Stop the machine; return the state before. Raises WrongState."""
        return await tasks.joined(tasks.start(self._stop(number, grace), f"stop of {self.record.name}"))

    async def suspend(self) -> None:
        """Suspend the machine. Raises WrongState."""
        await tasks.joined(tasks.start(self._suspend(), f"suspend of {self.record.name}"))

    async def kill(self) -> None:
        """Simulate the loss of its host: kill its processes, keep its state. ``start`` brings it back."""
        await tasks.joined(tasks.start(self._kill(), f"loss of {self.record.name}"))

    async def destroy(self) -> None:
        """End the machine for good."""
        await tasks.joined(tasks.start(self._destroy(), f"end of {self.record.name}"))

    async def _start(self) -> str:
        async with self._lock:
            before = self.state
            if before not in ("created", "stopped", "suspended", "started", "failed"):
                raise WrongState(f"unable to start machine from current state: '{before}'")
            if before == "suspended" and not self.lost:
                send_signal(self.record.id, signal.SIGCONT)
                await self._set_state("started")
            elif before != "started" or self.lost:
                self._restarts = 0
                await self._spawn()
            return before

    async def _stop(self, number: int, grace: float | None) -> str:
        async with self._lock:
            before = self.state
            if before not in ("started", "suspended", "stopped"):
                raise WrongState(f"unable to stop machine from current state: '{before}'")
            if before == "suspended" or self.lost:  # the snapshot is dropped
                kill_all(self.record.id)
            if before == "stopped":
                await self._reap()  # cancels a pending restart
            else:
                await self._set_state("stopping")
                await self._stop_process(number, self._grace if grace is None else grace)
            return before

    async def _suspend(self) -> None:
        async with self._lock:
            if self.state == "suspended":
                return
            if self.state != "started" or self.lost:
                raise WrongState(f"unable to suspend machine from current state: '{self.state}'")
            await self._set_state("suspending")
            send_signal(self.record.id, signal.SIGSTOP)
            await self._set_state("suspended")

    async def _kill(self) -> None:
        async with self._lock:
            self.lost = True
            kill_all(self.record.id)
            await self._reap()

    async def _destroy(self) -> None:
        async with self._lock:
            kill_all(self.record.id)
            await self._reap()
            await self._set_state("destroyed")

    # --- its processes ---

    async def _spawn(self) -> None:
        await self._set_state("starting")
        kill_all(self.record.id)  # left by a killed simulator
        try:
            self._process = await self._run()
        except OSError as error:
            await self._set_state("failed")
            raise FlyatcError(f"{self.record.name} cannot be started: {error}") from error
        self.lost = False
        await self._set_state("started")
        self._watch = tasks.start(self._watched(self._process), f"machine {self.record.name}")

    async def _run(self) -> asyncio.subprocess.Process:
        """Start the process. Raises OSError."""
        durable_files.make_folder(self.folder)
        with (self.folder / LOG).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=self.environ,
                start_new_session=True,
            )

    async def _watched(self, process: asyncio.subprocess.Process) -> None:
        """Wait for the process to exit. Policy on-failure: after exit code 0 it stays stopped."""
        code = await process.wait()
        if self.state != "started" or self.lost:
            return
        await self._set_state("stopped")
        kill_all(self.record.id)
        if code and self._restarts < RESTARTS:
            self._restarts += 1
            await asyncio.sleep(AGAIN_SECONDS)
            async with self._lock:
                if self.state == "stopped":
                    await self._spawn()

    async def _stop_process(self, number: int, grace: float) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await process.wait()
        kill_all(self.record.id)
        await self._reap()
        self.lost = False
        await self._set_state("stopped")

    async def _reap(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGKILL)  # in case it changed its environment
            await self._process.wait()
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch.cancel()
            await asyncio.wait([watch])

    async def _set_state(self, state: str) -> None:
        if state in ("stopping", "stopped", "suspending", "suspended"):
            self._stopped_at = monotonic()
        self.state = state
        self.updated += 1
        async with self._changed:
            self._changed.notify_all()


PROC = Path("/proc")
ID_VARIABLE = "FLY_MACHINE_ID"
ROUNDS = 100  # of killing: processes forked meanwhile are found in the next round


def pids_of(machine: str) -> Iterator[int]:
    """Yield the pids of a machine's processes, without zombies (their environ is empty, proc_pid_environ(5))."""
    mark = f"{ID_VARIABLE}={machine}".encode()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def send_signal(machine: str, number: int) -> int:
    """Send a signal to all processes of a machine; return their number."""
    count = 0
    for pid in pids_of(machine):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def kill_all(machine: str) -> None:
    """Send SIGKILL until no process is left."""
    for _ in range(ROUNDS):
        if not send_signal(machine, signal.SIGKILL):
            return
