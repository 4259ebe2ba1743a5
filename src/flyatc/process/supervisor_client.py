"""The daemon's client of the supervisor: starts apps through it and sets their deadline; the started apps, as their
roots report them (see ``run_root``)."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import flyatc
from flyatc.kit import file_limit, tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.streams import Streams
from flyatc.observe.log import Log
from flyatc.process import members, termination
from flyatc.process.isolation.sandbox import Sandbox
from flyatc.process.launch_plan import Launch, without_secrets
from flyatc.process.members import MARK, Cgroups, Target
from flyatc.process.spawn import Pipe, exec_failure
from flyatc.process.termination import EndedBy

LINES = 512  # bytes read at once


class NotStarted(Exception):
    """The app could not be started. ``number``: the errno; None: the supervisor ended before the start. ``step``: of
    its confinement, or ""."""

    def __init__(self, number: int | None, step: str = "") -> None:
        super().__init__(number, step)
        self.number, self.step = number, step


class AppProcess:
    """A started app; await ``begun`` first. ``exited``: the app itself has ended. ``gone``: no process is left."""

    def __init__(self, mark: str, cgroup: str, report: Pipe, name: str) -> None:
        self.mark, self.cgroup, self.made = mark, cgroup, cgroup  # ``made``: set even if the app is not in it
        self.pid, self.started = 0, 0
        self.target: Target | None = None
        self.returncode: int | None = None
        self.exited, self.gone = asyncio.Event(), asyncio.Event()
        self.unproven = False  # its root was killed without a cgroup: descendants may have escaped
        self._report, self._begun = report, asyncio.Event()
        self._errno: int | None = None
        self._step = ""
        self._reader = tasks.start(self._read(), f"report of {name}")

    async def begun(self) -> None:
        """Wait until the program runs. Raises NotStarted."""
        await self._begun.wait()
        if self.target is None:
            raise NotStarted(self._errno, self._step)

    def members(self) -> list[int]:
        """Return the pids of all processes of this run. Costs some 50 µs each."""
        return self.target.find() if self.target is not None and not self.gone.is_set() else []

    async def end(self, grace: float, hurry: Callable[[], bool]) -> EndedBy:
        """End all processes of the run: see ``termination.end_run``."""
        if self.target is None:
            return EndedBy.NOTHING
        ended_by = await termination.end_run(
            self.target,
            leader=self.pid,
            leader_alive=lambda: not self.exited.is_set(),
            gone=self._is_gone,
            grace=grace,
            hurry=hurry,
        )
        if ended_by is not EndedBy.SURVIVED:
            self._reader.cancel()
            self._report.close()
        return EndedBy.SURVIVED if self.unproven else ended_by

    def survivors(self) -> str:
        """Describe the processes that are left, for an error message."""
        if found := self.members():
            return "; ".join(map(members.describe, found))
        return "unknown processes: their root process was killed" if self.unproven else "none"

    def _is_gone(self) -> bool:
        if not self.gone.is_set() and self._reader.done() and not self.members() and not self.members():
            self.unproven = not self.cgroup
            self.gone.set()
        return self.gone.is_set()

    async def _read(self) -> None:
        """Read the reports until the end of the root, which alone holds the other end."""
        rest = b""
        while data := await self._report.read(LINES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._handle(line.decode().split())
        if self.returncode is None:
            self.returncode = -9  # its exit status is unknown
        self._begun.set()
        self.exited.set()

    def _handle(self, words: list[str]) -> None:
        match words:
            case ["runs", root, root_started, pid, started, inside]:
                self.pid, self.started = int(pid), int(started)
                self.cgroup = self.cgroup if inside == "1" else ""
                self.target = Target(int(root), int(root_started), self.mark, self.cgroup)
                self._begun.set()
            case ["failed", number, *step]:
                self._errno, self._step = int(number), "".join(step)
            case ["exit", status]:
                self.returncode = os.waitstatus_to_exitcode(int(status))
                self.exited.set()
            case ["empty"]:
                self.gone.set()


PATIENCE = 30.0  # s; for the report that a program runs
AGAIN = 0.05  # s; from one SIGKILL to the next
MESSAGE = 64  # bytes
FAREWELL = 2.0  # s; for the supervisor to end
MOST_DEATHS, WITHIN = 5, 10.0  # ends of the supervisor, in this many seconds, after which it is not restarted
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from flyatc.process import supervisor; supervisor.main({}, {})"


class Launcher:
    """Starts the supervisor with the first app. If the supervisor dies, a new one is started at once and adopts all
    runs. If this fails, the runs are killed, since they would not be ended with the lease."""

    def __init__(self, log: Log, groups: Cgroups, data: Path, sandbox: Sandbox | None = None) -> None:
        """``data``: the daemon's folder, which identifies the supervisor in a list of processes. ``sandbox``: separates
        the apps; None: they are not separated."""
        self._data, self.sandbox = str(data), sandbox
        self._log, self._cgroups = log, groups
        self._runs: dict[str, Target] = {}
        self.survivors: dict[str, list[AppProcess]] = {}  # by tenant: what SIGKILL has not ended
        self.used: Counter[Path] = Counter()  # by a tenant's folder: its app and commands. See ``leave``
        self._deadline: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)

    @property
    def pid(self) -> int | None:
        """The supervisor's pid."""
        return None if self._process is None else self._process.pid

    def cgroup(self, mark: str) -> str:
        """Create a run's cgroup and return its path; empty if it cannot be created."""
        return self._cgroups.make(mark)

    async def start(self, launch: Launch, mark: str, cgroup: str, streams: Streams, name: str) -> AppProcess:
        """Start an app and wait until it runs. Raises StartFailed with a sentence for the operator."""
        for last in (False, True):
            try:
                return await self._start(launch, mark, cgroup, streams, name)
            except NotStarted as error:
                if error.number is not None:
                    raise StartFailed(exec_failure(launch, error.number, error.step)) from error
                if last:
                    why = "the supervisor, which starts the apps, ended meanwhile"
                    raise StartFailed(f"{launch.argv[0]!r} cannot be started: {why}") from error
        raise AssertionError("unreachable")

    async def _start(self, launch: Launch, mark: str, cgroup: str, streams: Streams, name: str) -> AppProcess:
        try:
            file, report = _launch_file(launch, mark), Pipe()
        except (OSError, ValueError) as error:
            raise StartFailed(f"{launch.argv[0]!r} cannot be started: {error}") from error
        process = AppProcess(mark, cgroup, report, name)
        try:
            self.open()
            files = [file, streams.stdout, streams.stderr, report.theirs]
            files += [] if streams.stdin is None else [streams.stdin]
            self._send(["start", mark, cgroup, *streams.terminal * ["terminal"]], files)
        finally:
            os.close(file)
            os.close(report.theirs)
        try:
            async with asyncio.timeout(PATIENCE):
                await process.begun()
        except TimeoutError:
            self._replace("it does not respond")
            await _undo(process, mark, cgroup)
            raise StartFailed(f"{launch.argv[0]!r} did not run within {PATIENCE:g} s") from None
        assert process.target is not None
        self._runs[mark] = process.target
        return process

    def adopt(self, target: Target) -> None:
        """Register a run that was started otherwise. Raises StartFailed."""
        self.open()
        self._runs[target.mark] = target
        self._send_adopt(target)

    def leave(self, folder: Path) -> None:
        """Count one less that uses a tenant's folder."""
        self.used[folder] -= 1
        self.used = +self.used  # without those at 0

    def drop(self, mark: str, cgroup: str) -> None:
        """Forget a run and remove its cgroup; no process of it is left."""
        if self._runs.pop(mark, None) is not None and self._channel is not None:
            self._send(["drop", mark])
        members.remove(cgroup)

    def deadline(self, moment: float) -> None:
        """Set the time on CLOCK_BOOTTIME when all runs, also later ones, are killed unless a new deadline follows."""
        self._deadline = moment
        if self._channel is not None:
            self._send(["deadline", repr(moment)])

    def open(self) -> None:
        """Start the supervisor if it does not run; does not wait for it. Raises StartFailed."""
        if self._channel is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            folder = str(Path(flyatc.__file__).parent.parent)
            program = PROGRAM.format(theirs.fileno(), file_limit.inherited())
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program, folder, self._data],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=without_secrets(os.environ),  # an app of the same user could read it in /proc
            )
        except OSError as error:
            ours.close()
            raise StartFailed(f"the supervisor, which starts the apps, cannot be started: {error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)
        if self._deadline is not None:
            self._send(["deadline", repr(self._deadline)])
        for target in self._runs.values():
            self._send_adopt(target)

    async def close(self) -> None:
        """End the supervisor; call when no run is left."""
        self._close_channel()
        if (process := self._process) is not None:
            try:
                await asyncio.to_thread(process.wait, FAREWELL)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        self._cgroups.close()

    # --- parts ---

    def _send_adopt(self, target: Target) -> None:
        numbers = target.root, target.started, *target.spared
        self._send(["adopt", target.mark, target.cgroup, *map(str, numbers)])

    def _send(self, words: list[str], files: list[int] | None = None) -> None:
        assert self._channel is not None
        try:
            socket.send_fds(self._channel, ["\0".join(words).encode("utf-8", "surrogateescape")], files or [])
        except BlockingIOError:
            self._replace("it reads no messages")
        except OSError:  # it has ended: the reader is about to notice
            return

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            message = self._channel.recv(MESSAGE)
        except BlockingIOError:
            return
        except ConnectionError:
            message = b""
        if not message:
            return self._replace("it has ended")
        _, _, count = message.partition(b"\0")
        what = "the lease of this machine has ended: the supervisor has killed the apps"
        self._log.event("error", what, runs=int(count))
        return None

    def _replace(self, why: str) -> None:
        self._close_channel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.event("error", "the supervisor of the apps is replaced", reason=why, runs=len(self._runs))
        now = asyncio.get_running_loop().time()
        self._deaths.append(now)
        try:
            if len(self._deaths) == MOST_DEATHS and self._deaths[0] > now - WITHIN:
                raise StartFailed(f"the supervisor has ended {MOST_DEATHS} times in {WITHIN:g} s")
            self.open()
        except StartFailed as error:
            self._log.event("error", "the apps are killed: they have no supervisor", reason=str(error))
            for target in self._runs.values():
                target.kill()

    def _close_channel(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None


async def _undo(process: AppProcess, mark: str, cgroup: str) -> None:
    """Kill a start that may succeed late: what is found by mark or cgroup, until the run's root has ended."""
    target = Target(0, 0, mark, cgroup)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not process.exited.is_set():
                await asyncio.to_thread(target.kill)
                await asyncio.sleep(AGAIN)


def _launch_file(launch: Launch, mark: str) -> int:
    """Return a file with argv, confinement, environment and directory for ``run_root``. Raises OSError, ValueError."""
    env = {**launch.env, MARK: mark}
    strings = [*launch.argv, *launch.confinement, *(f"{name}={value}" for name, value in env.items())]
    counts = str(len(launch.argv)), str(len(launch.confinement))
    words = [os.fsencode(one) for one in (*counts, launch.directory, *strings)]
    if any(b"\0" in word for word in words):
        raise ValueError("embedded null byte")
    descriptor = os.memfd_create("launch")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(b"\0".join(words))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
