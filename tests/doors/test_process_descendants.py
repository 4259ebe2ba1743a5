"""All processes that a command starts are ended with its run: by cgroup, and by descent where there is none."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager as Hold
from functools import partial
from io import BytesIO
from pathlib import Path
from time import monotonic

import pytest

from flyatc.config.schema import App, Tenant
from flyatc.kit.errors import StartFailed, StillRunning
from flyatc.kit.streams import Streams
from flyatc.observe.log import Log
from flyatc.ownership import rules
from flyatc.process import child, launch_plan, members, supervisor_client
from flyatc.process.child import RunningChild
from flyatc.process.child_records import Records
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.members import Cgroups, locate
from flyatc.process.ports import PortPool
from flyatc.process.supervisor import boottime
from flyatc.process.supervisor_client import Launcher
from slowness import SLOWNESS

# A process that writes its pid to a file, then goes on for ever.
LASTING = "echo $$ >> {data}/pids; exec sleep 600"
DEAF = "trap '' TERM HUP; echo $$ >> {data}/pids; while :; do sleep 600; done"
WRITER = """
import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS rows(t REAL)")
open(sys.argv[2], "a").write(f"{os.getpid()}\\n")
while True:
    db.execute("INSERT INTO rows VALUES(?)", (time.time(),))
    time.sleep(0.005)
"""
STORM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
while True:  # each lives for a moment, and leaves another in its place
    if os.fork():
        time.sleep(0.002)
        os._exit(0)
    os.setsid()
"""


class Runs:
    def __init__(self, folder: Path, groups: Cgroups) -> None:
        self.folder, self.groups = folder, groups
        self.log, self.ports, self.records = Log(BytesIO()), PortPool(), Records(folder)
        self.launcher = Launcher(self.log, groups, folder)
        self.data = folder / "tenants/u/a"
        self.data.mkdir(parents=True)

    def hold(self, *command: str, grace: float = 0.3) -> Hold[RunningChild]:
        app = App(command=list(command), directory=str(self.folder), stop_grace=grace)
        tenant = Tenant(user="u", name="a", prefix="/u/a", data=self.data, app=app)
        return child.hold(
            tenant,
            bool,
            plan=partial(launch_plan.plan, environ=dict(os.environ)),
            ports=self.ports,
            log=self.log,
            records=self.records,
            launcher=self.launcher,
            sockets=SocketTable(),
        )

    async def pids(self, count: int = 1) -> list[int]:
        """Those which have written themselves down, once there are so many."""
        deadline = monotonic() + 30 * SLOWNESS
        while True:
            path = self.data / "pids"
            found = [int(line) for line in path.read_text().split()] if path.exists() else []
            if len(found) >= count:
                return found
            assert monotonic() < deadline, f"only {found} are there"
            await asyncio.sleep(0.01)


@pytest.fixture(params=["cgroup", "descent"])
async def some(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Runs]:
    groups = Cgroups.of(None if request.param == "cgroup" else "off")
    if request.param == "cgroup" and not groups.usable:
        pytest.skip("no cgroup can be made here")
    some = Runs(tmp_path, groups)
    yield some
    await some.launcher.close()
    some.log.close()


def runs(pid: int) -> bool:
    found = members.stat(pid)
    return found is not None and found[0] not in "ZX"


async def until(check: Callable[[], bool]) -> None:
    deadline = monotonic() + 30 * SLOWNESS
    while not check():
        assert monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "script",
    [
        f"setsid sh -c '{LASTING}' & exec sleep 600",
        f"(setsid sh -c '{LASTING}' </dev/null >/dev/null 2>&1 &) & exec sleep 600",
        f"(setsid env -i PATH=$PATH sh -c '{LASTING}' &) ; exec sleep 600",
        f"setsid setsid env -i PATH=$PATH sh -c '{LASTING}' & exit 0",
    ],
    ids=["new session", "forked twice", "forked twice without its environment", "alone"],
)
async def test_what_left_its_session_and_its_environment_is_ended(some: Runs, script: str) -> None:
    async with some.hold("sh", "-c", script) as app:
        (pid,) = await some.pids()
        assert pid in app.members()
        assert os.getpid() not in app.members()
    assert not runs(pid)
    assert app.members() == []


async def test_what_ignores_sigterm_is_killed_after_the_grace(some: Runs) -> None:
    async with some.hold("sh", "-c", f'(setsid sh -c "{DEAF}" &) ; exec sleep 600', grace=0.3):
        (pid,) = await some.pids()
        begun = monotonic()
    assert 0.3 <= monotonic() - begun < 8 * SLOWNESS
    assert not runs(pid)


async def test_all_get_sigterm_first_and_may_finish_within_the_grace(some: Runs) -> None:
    quits = "trap 'echo done > {data}/done; exit' TERM; echo $$ >> {data}/pids; while :; do sleep 0.05; done"
    async with some.hold("sh", "-c", f'(setsid sh -c "{quits}" &) ; exec sleep 600', grace=20):
        await some.pids()
        begun = monotonic()
    assert monotonic() - begun < 15 * SLOWNESS
    assert (some.data / "done").read_text() == "done\n"


async def test_what_the_app_starts_while_it_ends_gets_sigterm_as_well(some: Runs) -> None:
    (some.folder / "late.sh").write_text(
        f"""
        cat > {some.data}/quits.sh <<'END'
trap 'echo done > {some.data}/done; exit' TERM
while :; do sleep 0.05; done
END
        trap 'setsid sh {some.data}/quits.sh & sleep 0.3; exit' TERM
        echo $$ >> {some.data}/pids
        while :; do sleep 0.05; done
        """
    )
    async with some.hold("sh", str(some.folder / "late.sh"), grace=20):
        await some.pids()
        begun = monotonic()
    assert monotonic() - begun < 15 * SLOWNESS
    assert (some.data / "done").read_text() == "done\n"


async def test_a_fork_storm_is_ended(some: Runs) -> None:
    storm = some.folder / "storm.py"
    storm.write_text(STORM)
    async with some.hold("sh", "-c", f"{sys.executable} -S {storm} {{data}}/pids & exec sleep 600", grace=0.2) as app:
        await some.pids()
    assert app.members() == []


async def test_a_writer_in_the_background_has_written_its_last_when_the_hold_is_left(some: Runs) -> None:
    writer, database = some.folder / "writer.py", some.data / "db"
    writer.write_text(WRITER)
    async with some.hold("sh", "-c", f"setsid {sys.executable} -S {writer} {database} {{data}}/pids & exec sleep 600"):
        (pid,) = await some.pids()
    assert not runs(pid)
    with sqlite3.connect(database) as db:
        (count,) = db.execute("SELECT count(*) FROM rows").fetchone()
        await asyncio.sleep(0.1)
        assert db.execute("SELECT count(*) FROM rows").fetchone() == (count,)
    db.close()


async def test_workers_of_an_app_that_crashed_are_ended_with_it(some: Runs) -> None:
    async with some.hold("sh", "-c", f"(setsid sh -c '{LASTING}' &) ; sleep 0.1; kill -9 $$") as app:
        (pid,) = await some.pids()
        await app.exited.wait()
        assert app.exit is not None
        assert app.exit.signal == signal.SIGKILL
        assert runs(pid)
    assert not runs(pid)


async def test_another_run_is_left_alone(some: Runs) -> None:
    async with some.hold("sh", "-c", f"(setsid sh -c '{LASTING}' &) ; exec sleep 600") as one:
        (first,) = await some.pids()
        async with some.hold("sh", "-c", f"(setsid sh -c '{LASTING}' &) ; exec sleep 600") as other:
            _, second = await some.pids(2)
            assert second in other.members()
            assert second not in one.members()
            assert first not in other.members()
        assert not runs(second)
        assert runs(first)
        assert runs(one.pid)
    assert not runs(first)


async def test_after_the_root_of_a_run_is_killed_its_processes_are_ended_and_the_databases_count_as_in_use(
    some: Runs,
) -> None:
    holds = some.hold("sh", "-c", f"(setsid sh -c '{LASTING}' &) ; exec sleep 600")
    app = await holds.__aenter__()
    (pid,) = await some.pids()
    assert app.process is not None
    assert app.process.target is not None
    os.kill(app.process.target.root, signal.SIGKILL)
    await app.exited.wait()
    if some.groups.usable:  # an empty cgroup is a proof
        await holds.__aexit__(None, None, None)
    else:
        with pytest.raises(StillRunning, match="their root process was killed"):
            await holds.__aexit__(None, None, None)
        await child.settle("u/a", some.log, some.records, some.launcher)
    assert not runs(pid)
    assert not runs(app.pid)


async def test_no_cgroup_is_left(some: Runs) -> None:
    before = some.launcher.cgroup("base")
    with pytest.raises(StartFailed):
        async with some.hold("no-such-program-anywhere"):
            pass
    async with some.hold("sleep", "600") as app:
        assert app.process is not None
        assert bool(app.process.cgroup) == some.groups.usable
        assert not before or Path(app.process.cgroup).parent == Path(before).parent
    some.launcher.drop("base", before)
    await some.launcher.close()
    assert not before or not Path(before).parent.exists()


def test_cgroups_of_a_daemon_that_was_killed_are_removed_at_the_next_start() -> None:
    ours = Cgroups.of(None)
    if not ours.usable:
        pytest.skip("no cgroup can be made here")
    run = Path(ours.make("run"))
    killed = run.parent.with_name("flyatc-99999999")  # above the kernel's limit: it never runs
    (killed / "run").mkdir(parents=True)
    again = Cgroups.of(None)
    assert not killed.exists()
    assert run.exists(), "one of a daemon that runs"
    run.rmdir()
    again.close()


def test_the_folder_of_our_cgroup_is_found_in_every_kind_of_mount() -> None:
    v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    hybrid = "31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    part = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    v1 = "32 23 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    assert locate(v1 + v2, "0::/system.slice/flyatc.service\n") == Path("/sys/fs/cgroup/system.slice/flyatc.service")
    assert locate(v1 + hybrid, "8:pids:/x\n0::/\n") == Path("/sys/fs/cgroup/unified")
    assert locate(part, "0::/docker/abc/inner\n") == Path("/sys/fs/cgroup/inner")
    assert locate(part, "0::/elsewhere\n") is None
    assert locate(v1, "8:pids:/x\n") is None


async def test_a_start_without_a_reply_fails_and_leaves_nothing(some: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with some.hold("sleep", "600"):  # so that the supervisor runs
        assert some.launcher.pid is not None
        stuck = some.launcher.pid
        os.kill(stuck, signal.SIGSTOP)
        monkeypatch.setattr(supervisor_client, "PATIENCE", 0.5)
        with pytest.raises(StartFailed, match=r"'sleep' did not run within 0.5 s"):
            async with some.hold("sleep", "601"):
                pass
        monkeypatch.undo()
        assert some.launcher.pid != stuck
        async with some.hold("sleep", "602"):
            pass


async def test_a_supervisor_that_dies_is_replaced_and_knows_the_runs(some: Runs) -> None:
    async with some.hold("sh", "-c", f"(setsid sh -c '{LASTING}' &) ; exec sleep 600") as app:
        (pid,) = await some.pids()
        assert some.launcher.pid is not None
        before = some.launcher.pid
        os.kill(before, signal.SIGKILL)
        await until(lambda: some.launcher.pid != before)
        assert runs(app.pid)
        some.launcher.deadline(boottime() + 0.3)
        await app.exited.wait()
        await until(lambda: not runs(pid))
    assert app.exit is not None
    assert app.exit.signal == signal.SIGKILL


async def test_where_no_supervisor_lives_the_apps_are_killed(some: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with some.hold("sh", "-c", f"(setsid sh -c '{LASTING}' &) ; exec sleep 600") as app:
        (pid,) = await some.pids()
        assert some.launcher.pid is not None
        monkeypatch.setattr(supervisor_client, "PROGRAM", "raise SystemExit(1) # {}")
        os.kill(some.launcher.pid, signal.SIGKILL)
        await app.exited.wait()
        await until(lambda: not runs(pid))
    with pytest.raises(StartFailed, match="the supervisor, which starts the apps, ended meanwhile"):
        async with some.hold("sleep", "601"):
            pass


async def test_at_the_deadline_all_runs_are_killed_and_those_that_begin_after_it(some: Runs) -> None:
    async with (
        some.hold("sleep", "600") as one,
        some.hold("sh", "-c", f"(setsid sh -c '{DEAF}' &) ; exec sleep 600") as other,
    ):
        (pid,) = await some.pids()
        some.launcher.deadline(boottime() + 0.5)
        some.launcher.deadline(late := boottime() + 1.0)  # renewed in time
        await one.exited.wait()
        assert boottime() >= late
        await other.exited.wait()
        await until(lambda: not runs(pid))
    async with some.hold("sleep", "600") as late_one:
        await late_one.exited.wait()
    some.launcher.deadline(boottime() + 600)
    async with some.hold("sleep", "600") as again:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(again.exited.wait(), 0.2)


async def test_a_run_without_a_lease_outlives_the_deadline_and_the_supervisor_does_not_spin(some: Runs) -> None:
    app = App(command=["sh", "-c", "read line; exit 7"], directory=str(some.folder), stop_grace=0.3)
    tenant = Tenant(user="u", name="a", prefix="/u/a", data=some.data, app=app)
    stdin, says = os.pipe()
    async with child.hold_command(
        tenant,
        bool,
        Streams(stdin, os.dup(2), os.dup(2)),
        plan=partial(launch_plan.plan, environ=dict(os.environ)),
        log=some.log,
        records=some.records,
        launcher=some.launcher,
        leased=False,
    ) as command:
        some.launcher.deadline(boottime() - 1)
        async with some.hold("sleep", "600") as other:
            await other.exited.wait()
        supervisor = Path(f"/proc/{some.launcher.pid}/stat")
        before = supervisor.read_text().split()[13:15]
        await asyncio.sleep(0.3)
        assert sum(map(int, supervisor.read_text().split()[13:15])) - sum(map(int, before)) < 15, "ticks of 10 ms"
        assert not command.exited.is_set()
        os.write(says, b"\n")
        os.close(says)
        await command.exited.wait()
    assert command.exit is not None
    assert command.exit.code == 7


async def test_a_deadline_kills_though_the_daemon_is_stuck(some: Runs) -> None:
    writer, database = some.folder / "writer.py", some.data / "db"
    writer.write_text(WRITER)
    async with some.hold("sh", "-c", f"setsid {sys.executable} -S {writer} {database} {{data}}/pids & exec sleep 600"):
        (pid,) = await some.pids()
        some.launcher.deadline(boottime() + 0.3)
        deadline = time.time() + 0.3
        time.sleep(1.0 * SLOWNESS)  # noqa: TID251 - the loop stands still
        assert not runs(pid)
    with sqlite3.connect(database) as db:
        (last,) = db.execute("SELECT max(t) FROM rows").fetchone()
    db.close()
    assert last < deadline + rules.KILL


async def test_signals_to_the_terminals_group_do_not_reach_the_supervisor(some: Runs) -> None:
    async with some.hold("sleep", "600") as app:
        assert some.launcher.pid is not None
        assert app.process is not None
        assert app.process.target is not None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(some.launcher.pid, number)
        assert os.getsid(some.launcher.pid) == some.launcher.pid
        assert os.getsid(app.process.target.root) == app.process.target.root
        async with some.hold("sleep", "601"):
            pass


async def test_two_hundred_runs_are_killed_within_the_time_that_the_lease_allows(some: Runs) -> None:
    async with contextlib.AsyncExitStack() as held:
        apps = [await held.enter_async_context(some.hold("sleep", "600")) for _ in range(200)]
        deadline = boottime() + 0.2
        some.launcher.deadline(deadline)
        for app in apps:
            await app.exited.wait()
        assert boottime() - deadline < rules.KILL * SLOWNESS
