"""One running app: spawned on the way in, and ended with all that came from it on the way out."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flyatc.config.schema import Tenant
from flyatc.kit import durable, tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.exits import Effort, Exit
from flyatc.observe.log import Log
from flyatc.process import command, group, readiness
from flyatc.process.leader import Leader, spawn
from flyatc.process.listeners import SocketTable
from flyatc.process.output import Output
from flyatc.process.port_owner import PortOwner, Verdict
from flyatc.process.ports import Ports
from flyatc.process.records import Records

LAST_LINES = 0.05  # s; how long the news of an end waits for its last lines, if a grandchild keeps the pipe open
TICKS = os.sysconf("SC_CLK_TCK")  # a second
REAPED = 5.0  # s; until a leader that is gone has been reaped


class RunningChild:
    """Made by ``hold``."""

    def __init__(self, tenant: Tenant, launch: command.Launch, port: int, output: Output, sockets: SocketTable) -> None:
        self._tenant, self._launch, self._output, self._sockets = tenant, launch, output, sockets
        self.port = port
        self.exited = asyncio.Event()
        self.leader: Leader | None = None
        self.port_owner: PortOwner | None = None  # None: app.verify_port is off
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self.leader is not None, "spawned before anybody gets hold of it"
        return self.leader.pid

    @property
    def environ(self) -> Mapping[str, str]:
        return self._launch.env

    @property
    def exit(self) -> Exit | None:
        """None while it runs. Lines that came late are in what is asked later."""
        code = None if self.leader is None else self.leader.returncode
        if code is None:
            return None
        return Exit(code if code >= 0 else None, None if code >= 0 else -code, self._output.last)

    @property
    def stranger(self) -> str | None:
        return None if self.port_owner is None else self.port_owner.stranger

    async def effort(self) -> Effort:
        return await asyncio.to_thread(self._effort)

    def _effort(self) -> Effort:
        members = [] if self.leader is None else self.leader.group.members()
        return Effort(sum(one.ticks for one in members) / TICKS, any(one.state in "RD" for one in members))

    async def ready(self) -> None:
        """Returns once the app answers. Raises StartFailed if it ends before that. Has no deadline of its own."""
        answering = readiness.answering(self.port, self._launch.ready, admit=self._admit)
        await tasks.first_of(self.exited.wait(), answering)
        if self.exited.is_set():
            stranger = await self._stranger()
            lines = "".join(f"\n  {line}" for line in self._output.last)
            said = f"; its last lines:{lines}" if lines else ", and said nothing"
            raise StartFailed(f"{self._tenant.address} ended before it answered ({self.exit}){stranger}{said}")

    async def _admit(self) -> None:
        """Of the connection just made, before the app is asked for anything. Raises StartFailed, NotYet."""
        if self.port_owner is None:
            return
        owner = await self.port_owner.look()
        if owner.verdict is Verdict.NOBODY:
            raise readiness.NotYet
        if owner.verdict is not Verdict.OURS:
            raise StartFailed(f"{self._tenant.address} is not started: {owner.reason}")

    async def _stranger(self) -> str:
        """Why the app may have ended at once: its port was taken before it could bind it."""
        if self.port_owner is None:
            return ""
        owner = await self.port_owner.look()
        return f"; {owner.reason}" if owner.verdict is Verdict.STRANGER else ""

    def spawn(self) -> Leader:
        """Raises StartFailed."""
        pipes: list[int] = []
        try:
            for stream in ("stdout", "stderr"):
                pipes.append(self._output.open(stream))
            self.leader = leader = spawn(self._launch, *pipes)
            if self._tenant.app.verify_port:
                self.port_owner = PortOwner(self.port, leader.pid, _pids_of(leader.group), self._sockets)
        except OSError as error:  # no descriptors left
            raise StartFailed(f"the pipes for its output cannot be made: {error}") from error
        finally:
            for pipe in pipes:
                os.close(pipe)
        self._watch = tasks.start(self._watched(leader), f"child of {self._tenant.address}")
        return leader

    async def _watched(self, leader: Leader) -> None:
        await leader.wait()
        await self._output.heard_out(LAST_LINES)
        self.exited.set()

    async def end(self, hurry: Callable[[], bool]) -> group.Needed:
        """Returns when nobody of the group is left."""
        needed = group.Needed.NOTHING
        if self.leader is not None:
            needed = await group.end(self.leader.group, self._tenant.app.stop_grace, hurry)
        await self._output.close()
        if self._watch is not None:
            await asyncio.wait([self._watch], timeout=REAPED)
        return needed

    def __repr__(self) -> str:
        state = "running" if self.exit is None else str(self.exit)
        return f"<child {self.pid} of {self._tenant.address} on {self.port}: {state}>"


@asynccontextmanager
async def hold(
    tenant: Tenant,
    hurry: Callable[[], bool],
    *,
    environ: Mapping[str, str],
    ports: Ports,
    log: Log,
    records: Records,
    sockets: SocketTable,
) -> AsyncIterator[RunningChild]:
    """The tenant's app runs inside. On the way out its whole group is ended: SIGTERM, ``app.stop_grace``, SIGKILL; or
    SIGKILL at once where ``hurry()`` says so, which is also asked during the grace. Then nobody of it is left, not even
    where the life was cancelled. Raises StartFailed."""
    port = ports.take()
    child = None
    try:
        launch = command.plan(tenant, port, environ)
        _look_at_folders(tenant, launch)
        child = RunningChild(tenant, launch, port, Output(tenant.address, log), sockets)
        try:
            await _whatever_comes(_begin(child, tenant, records), f"start of {tenant.address}")
            yield child
        finally:
            await _whatever_comes(_finish(child, tenant, hurry, log, records), f"end of {tenant.address}")
    finally:
        ports.give_back(port, contested=child is not None and child.stranger is not None)


async def _begin(child: RunningChild, tenant: Tenant, records: Records) -> None:
    try:
        with records.launching(tenant.address, child.environ, child.port):
            leader = child.spawn()
            records.add(tenant.address, leader.group)
    except OSError as error:
        raise StartFailed(
            f"the process of {tenant.address} cannot be put on record: {error}. "
            "Look at the space and the permissions of server.data"
        ) from error


async def _finish(child: RunningChild, tenant: Tenant, hurry: Callable[[], bool], log: Log, records: Records) -> None:
    needed = await child.end(hurry)
    if child.leader is None:
        return
    if needed is group.Needed.MORE:  # the record stays: the next start must not take the databases for free
        log.event("error", "the app survived SIGKILL; its databases may still be written", tenant=tenant.address)
        return
    if needed is group.Needed.KILL:
        log.event("warning", "the app did not end by itself and was killed", tenant=tenant.address, pid=child.pid)
    records.remove(child.leader.group)


def _pids_of(run: group.Group) -> Callable[[], Iterable[int]]:
    return lambda: (process.pid for process in run.members())


def _look_at_folders(tenant: Tenant, launch: command.Launch) -> None:
    if not Path(launch.directory).is_dir():
        raise StartFailed(
            f"the directory of {tenant.address}, {launch.directory}, is not there: see app.directory in tenants.yaml"
        )
    try:
        durable.make_folder(tenant.data)
    except OSError as error:
        raise StartFailed(f"the data folder of {tenant.address} cannot be made: {error}") from error


async def _whatever_comes(step: Coroutine[Any, Any, None], name: str) -> None:
    """Does the step to its end even if we are cancelled, and only then is cancelled."""
    failed = await tasks.to_the_end(tasks.start(_outcome(step), name))
    if failed is not None:
        raise failed


async def _outcome(step: Coroutine[Any, Any, None]) -> Exception | None:
    """The error of a step as a value: it is its caller's, not the death of a task."""
    try:
        await step
    except Exception as error:
        return error
    return None
