"""A running app as a context manager: spawned on entry, ended with all its descendants on exit."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from flyatc.config.schema import Tenant
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import PortTaken, StartFailed, StillRunning
from flyatc.kit.streams import Streams
from flyatc.kit.types import Effort, Exit, Work
from flyatc.observe.log import Log
from flyatc.process import launch_plan, measure_work, members, proc, readiness
from flyatc.process.child_records import Records
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.output import Output
from flyatc.process.ports import PortOwner, PortPool, Verdict, listening
from flyatc.process.supervisor_client import AppProcess, Launcher
from flyatc.process.termination import EndedBy

LAST_LINES = 0.05  # s; delay of ``exited`` for the last lines of output, if a grandchild keeps the pipe open
TICKS = os.sysconf("SC_CLK_TCK")  # a second
FIRST_LOOK, LOOK_AGAIN = 0.25, 2.0  # s; while the app is not ready, where else it listens
EXIT_TIMEOUT = 5.0  # s; limit for ``exited`` to be set after all processes have ended


class RunningChild:
    """A running app or command; created by ``hold``."""

    def __init__(
        self,
        tenant: Tenant,
        launch: launch_plan.Launch,
        port: int,
        output: Output,
        sockets: SocketTable,
        streams: Streams | None = None,
    ) -> None:
        self._tenant, self._launch, self._output, self._sockets = tenant, launch, output, sockets
        self._streams = streams  # None: its output is logged
        self.port = port
        self.leased = True  # False: it does not end with the lease
        self.exited = asyncio.Event()
        self.process: AppProcess | None = None
        self.isolation = "none"
        self.port_owner: PortOwner | None = None  # None: app.verify_port is off
        self._watch: asyncio.Task[None] | None = None
        self._probed: str | None = None  # what the last failed try of ``ready`` has seen
        self._elsewhere: str | None = None  # readiness.elsewhere, at the last look

    @property
    def probe(self) -> str | None:
        """Return where the app was expected to respond, and what came instead; None: it was not tried yet."""
        if self._probed is None:
            return None
        path = "" if self._launch.ready is None else self._launch.ready
        seen = self._elsewhere if self._probed == readiness.NOTHING_LISTENS and self._elsewhere else self._probed
        return f"http://127.0.0.1:{self.port}{path}: {seen}"

    def _tell(self, seen: str) -> None:
        self._probed = seen

    @property
    def directory(self) -> str:
        return self._launch.directory

    @property
    def pid(self) -> int:
        assert self.process is not None, "spawned before it is handed out"
        return self.process.pid

    def members(self) -> list[int]:
        """Return the pids of the command's process and all its descendants: see AppProcess."""
        return self.process.members() if self.process is not None else []

    @property
    def words(self) -> list[str]:
        """The words of its command, and the values that ``app.env`` gives it."""
        return [
            *self._launch.argv,
            *(self._launch.env[name] for name in self._tenant.app.env if name in self._launch.env),
        ]

    @property
    def exit(self) -> Exit | None:
        """Exit status with the last lines of output, including late ones; None while it runs."""
        code = None if self.process is None else self.process.returncode
        if code is None:
            return None
        return Exit(code if code >= 0 else None, None if code >= 0 else -code, self._output.last)

    @property
    def stranger(self) -> str | None:
        return None if self.port_owner is None else self.port_owner.stranger

    async def effort(self) -> Effort:
        return await asyncio.to_thread(self._effort)

    def _effort(self) -> Effort:
        members = [found for pid in self.members() if (found := proc.find(pid)) is not None]
        return Effort(sum(one.ticks for one in members) / TICKS, any(one.state in "RD" for one in members))

    async def work(self, *, oldest: float, youngest: float) -> Work:
        now = measure_work.seconds_since_boot()  # before the wait for a thread, as long as it may take
        return await asyncio.to_thread(lambda: measure_work.measure(self.members(), now - oldest, now - youngest))

    async def ready(self) -> None:
        """Wait until the app responds. Raises StartFailed if it ends before that; PortTaken. Has no deadline of its
        own."""
        answering = readiness.answering(
            self.port, self._launch.ready, admit=self._admit, host=self._launch.ready_host, tell=self._tell
        )
        await tasks.first_of(self.exited.wait(), answering, self._look_elsewhere())
        if self.exited.is_set():
            stranger = await self._stranger()
            lines = "".join(f"\n  {line}" for line in self._output.last)
            said = f"; its last lines:{lines}" if lines else "; it wrote no output"
            if self._output.refused is not None:
                said += f"\n{self._output.refused}"
            error = PortTaken if stranger else StartFailed
            raise error(f"{self._tenant.address} ended before it responded ({self.exit}){stranger}{said}")

    async def _look_elsewhere(self) -> None:
        """Look now and then where the app listens while nothing listens at its port, for ``probe``. Never returns."""
        pause = FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK_AGAIN)
            self._elsewhere = await asyncio.to_thread(self._listens_elsewhere)

    def _listens_elsewhere(self) -> str | None:
        try:
            found = listening([self.pid, *self.members()], self._sockets)
        except OSError:
            return None
        return readiness.elsewhere(found, self.port)

    async def _admit(self) -> None:
        """Check which process listens, after connecting and before sending anything. Raises PortTaken; StartFailed if
        it cannot be determined; NotYet."""
        if self.port_owner is None:
            return
        owner = await self.port_owner.look()
        if owner.verdict is Verdict.UNUSED:
            raise readiness.NotYet("the socket that took the connection is closed again")
        if owner.verdict is not Verdict.OURS:
            error = PortTaken if owner.verdict is Verdict.STRANGER else StartFailed
            raise error(f"{self._tenant.address} is not started: {owner.reason}")

    async def _stranger(self) -> str:
        """Return a clause for the error if another process has the port, since then the app could not bind it."""
        if self.port_owner is None:
            return ""
        owner = await self.port_owner.look()
        return f"; {owner.reason}" if owner.verdict is Verdict.STRANGER else ""

    def signal(self, number: int) -> None:
        """Send a signal to the process group of the command, if it still runs."""
        if self.process is not None and self.process.pid in self.members():
            with contextlib.suppress(OSError):  # it has just ended
                os.killpg(self.process.pid, number)

    async def spawn(self, launcher: Launcher, mark: str, cgroup: str) -> AppProcess:
        """Start the app through the supervisor. Raises StartFailed."""
        user = None
        if launcher.sandbox is not None:
            alone = launcher.used[self._tenant.data] == 1
            confined = await launcher.sandbox.confine(self._tenant, self._launch, cgroup, alone=alone)
            self._launch, self.isolation, user = confined.launch, confined.text, confined.user
            self._output.advice = confined.advice
        streams = self._streams
        try:
            streams = streams or self._output.streams()
            process = await launcher.start(self._launch, mark, cgroup, streams, self._tenant.address)
            if self._tenant.app.verify_port:
                self.port_owner = PortOwner(self.port, process.pid, process.members, self._sockets, user=user)
        except OSError as error:  # no descriptors left
            raise StartFailed(f"the pipes for its output cannot be made: {error}") from error
        finally:
            if streams is not None:
                streams.close()  # or their other ends would not see the end of the process
        self.process = process
        self._watch = tasks.start(self._watched(process), f"child of {self._tenant.address}")
        return process

    async def _watched(self, process: AppProcess) -> None:
        await process.exited.wait()
        await self._output.wait_drained(LAST_LINES)
        self.exited.set()

    async def end(self, hurry: Callable[[], bool]) -> EndedBy:
        """End all processes of the run and close the output."""
        ended_by = EndedBy.NOTHING
        if self.process is not None:
            ended_by = await self.process.end(self._tenant.app.stop_grace, hurry)
        await self._output.close()
        if self._watch is not None:
            await asyncio.wait([self._watch], timeout=EXIT_TIMEOUT)
        return ended_by

    def __repr__(self) -> str:
        state = "running" if self.exit is None else str(self.exit)
        return f"<child {self.pid} of {self._tenant.address} on {self.port}: {state}>"


@asynccontextmanager
async def hold(
    tenant: Tenant,
    hurry: Callable[[], bool],
    *,
    plan: Callable[[Tenant, int], launch_plan.Launch],
    ports: PortPool,
    log: Log,
    records: Records,
    sockets: SocketTable,
    launcher: Launcher,
) -> AsyncIterator[RunningChild]:
    """Run the tenant's app inside the context. On exit every process that came from its command is ended: SIGTERM,
    ``app.stop_grace``, SIGKILL; or SIGKILL at once if ``hurry()``, which is also called during the grace. This also
    happens on cancellation. ``plan``: see launch_plan. Raises StartFailed; StillRunning on exit if a process cannot be
    ended."""
    port = ports.take()
    child = None
    try:
        child = RunningChild(tenant, plan(tenant, port), port, Output(tenant.address, log), sockets)
        async with _running(child, tenant, hurry, log, records, launcher):
            yield child
    finally:
        ports.give_back(port, contested=child is not None and child.stranger is not None)


@asynccontextmanager
async def hold_command(
    tenant: Tenant,
    hurry: Callable[[], bool],
    streams: Streams,
    *,
    plan: Callable[[Tenant, int], launch_plan.Launch],
    log: Log,
    records: Records,
    launcher: Launcher,
    leased: bool = True,
) -> AsyncIterator[RunningChild]:
    """As ``hold``, for a command of an operator (``tenant.app.command``): without a port, and with ``streams``.
    ``leased`` False: it writes nothing of the tenant, and does not end with the lease."""
    with closing(streams):
        child = RunningChild(tenant, plan(tenant, 0), 0, Output(tenant.address, log), SocketTable(), streams)
        child.leased = leased
        async with _running(child, tenant, hurry, log, records, launcher):
            yield child


@asynccontextmanager
async def _running(
    child: RunningChild,
    tenant: Tenant,
    hurry: Callable[[], bool],
    log: Log,
    records: Records,
    launcher: Launcher,
) -> AsyncIterator[None]:
    _check_folders(tenant, child.directory)
    launcher.used[tenant.data] += 1
    try:
        await _to_the_end(_begin(child, tenant, records, launcher), f"start of {tenant.address}")
        yield
    finally:
        await _to_the_end(_finish(child, tenant, hurry, log, records, launcher), f"end of {tenant.address}")
        launcher.leave(tenant.data)


async def _begin(child: RunningChild, tenant: Tenant, records: Records, launcher: Launcher) -> None:
    mark = secrets.token_hex(8) if child.leased else f"{members.WITHOUT_LEASE}{secrets.token_hex(8)}"
    cgroup = launcher.cgroup(mark)
    try:
        with records.starting(tenant.address, mark, cgroup):
            process = await child.spawn(launcher, mark, cgroup)
            records.add_run(tenant.address, process)
    except OSError as error:
        raise StartFailed(
            f"the process of {tenant.address} cannot be recorded: {error}. "
            "Look at the space and the permissions of server.data"
        ) from error
    finally:
        if child.process is None:
            launcher.drop(mark, cgroup)


async def _finish(
    child: RunningChild, tenant: Tenant, hurry: Callable[[], bool], log: Log, records: Records, launcher: Launcher
) -> None:
    ended_by = await child.end(hurry)
    if (process := child.process) is None:
        return
    if ended_by is EndedBy.SURVIVED:  # the record stays, so that the next start knows that the databases may be written
        launcher.survivors.setdefault(tenant.address, []).append(process)
        who = process.survivors()
        log.event("error", "the app survived SIGKILL: its databases may be written", tenant=tenant.address, left=who)
        raise StillRunning(f"{tenant.address} cannot be ended: {who}. Its databases may still be written")
    if ended_by is EndedBy.KILL:
        log.event("warning", "the app did not end by itself and was killed", tenant=tenant.address, pid=child.pid)
    launcher.drop(process.mark, process.made)
    records.remove_run(process)
    if launcher.sandbox is not None and launcher.used[tenant.data] == 1:
        await launcher.sandbox.clean(tenant)


async def settle(address: str, log: Log, records: Records, launcher: Launcher) -> None:
    """End the processes that survived the last stop of this tenant. Raises StillRunning."""
    for process in list(launcher.survivors.get(address, ())):
        if await process.end(0, lambda: True) is EndedBy.SURVIVED and process.members():
            raise StillRunning(f"{address} has not ended yet: {process.survivors()}. End it, or restart the machine")
        launcher.survivors[address].remove(process)
        launcher.drop(process.mark, process.made)
        records.remove_run(process)
        log.event("info", "the processes that survived SIGKILL have ended", tenant=address)


def _check_folders(tenant: Tenant, directory: str) -> None:
    if not Path(directory).is_dir():
        raise StartFailed(
            f"the directory of {tenant.address}, {directory}, does not exist: see app.directory in tenants.yaml"
        )
    try:
        durable_files.make_folder(tenant.data)
    except OSError as error:
        raise StartFailed(f"the data folder of {tenant.address} cannot be made: {error}") from error


async def _to_the_end(step: Coroutine[Any, Any, None], name: str) -> None:
    """Run the step to its end even if cancelled; the cancellation is raised afterwards."""
    failed = await tasks.to_the_end(tasks.start(_outcome(step), name))
    if failed is not None:
        raise failed


async def _outcome(step: Coroutine[Any, Any, None]) -> Exception | None:
    """Return the error of a step as a value, so that the task does not fail and the caller raises it."""
    try:
        await step
    except Exception as error:
        return error
    return None
