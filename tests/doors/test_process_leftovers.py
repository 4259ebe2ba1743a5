"""Children which outlived their daemon, found by their records and ended; and no other process."""

import asyncio
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from sys import executable

import msgspec
import pytest

from fakes.waiting import eventually
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import child_records, leftovers, members, proc, termination
from flyatc.process.child_records import FOLDER, Record, Records
from flyatc.process.leftovers import end_leftovers

RESTLESS = str(Path(__file__).parents[1] / "apps" / "restless.py")

DAEMON = """
import asyncio, os, sys
from functools import partial
from pathlib import Path
from flyatc.config.schema import App, Tenant
from flyatc.observe.log import Log
from flyatc.process import launch_plan
from flyatc.process.members import Cgroups
from flyatc.process.child import hold
from flyatc.process.supervisor_client import Launcher
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.ports import PortPool
from flyatc.process.child_records import Records

async def main():
    data = Path(sys.argv[1])
    app = App(command=sys.argv[2:], directory=str(data))
    tenant = Tenant(user="u", name="", prefix="/u", data=data / "tenants/u/~", app=app)
    environ = dict(os.environ)
    log = Log(open(os.devnull, "wb"))
    launcher = Launcher(log, Cgroups.of("auto"), data)
    tools = dict(ports=PortPool(), log=log, records=Records(data), sockets=SocketTable(), launcher=launcher)
    async with hold(tenant, bool, plan=partial(launch_plan.plan, environ=environ), **tools) as child:
        await child.ready()
        print(child.pid, launcher.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log(io.BytesIO())
    yield log
    log.close()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Someone else's process, in a session of its own."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def killed_daemon(data: Path, *flags: str, supervised: bool = False) -> int:
    """The pid of the app that a daemon left behind when it was killed, and its supervisor with it."""
    argv = [executable, "-c", DAEMON, str(data), executable, "-I", RESTLESS, *flags]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        pid, supervisor = map(int, daemon.stdout.readline().split())
        daemon.send_signal(signal.SIGSTOP)  # or it would start another
        if not supervised:
            os.kill(supervisor, signal.SIGKILL)
        daemon.kill()
    return pid


def write_record(data: Path, record: Record) -> Path:
    path = data / FOLDER / f"{record.pid}-{record.started}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(record))
    return path


def on_record(data: Path) -> list[Path]:
    return list((data / FOLDER).glob("*"))


def reported(log: Log) -> list[str]:
    return [json.loads(entry[2])["msg"] for entry in log.journal.since(0)]


def runs(pid: int) -> bool:
    process = proc.find(pid)
    return process is not None and not process.ended


async def test_an_app_left_behind_is_ended_and_its_record_removed(tmp_path: Path, log: Log) -> None:
    pid = killed_daemon(tmp_path)
    assert runs(pid)
    await end_leftovers(tmp_path, log)
    assert not runs(pid)
    assert on_record(tmp_path) == []
    assert reported(log) == ["ended an app of an earlier run"]


async def test_what_an_app_left_behind_has_daemonized_is_ended_too(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "GRACE", 0.5)  # it ignores SIGTERM: the whole grace passes
    killed_daemon(tmp_path, "--fork-child", "session", "--ignore-term")
    (path,) = on_record(tmp_path)
    record = msgspec.json.decode(path.read_bytes(), type=Record)
    left = members.Target(record.root, record.root_started, record.mark).find()
    assert len(left) == 2
    await end_leftovers(tmp_path, log)
    assert not any(map(runs, left))
    assert not record.cgroup or not Path(record.cgroup).parent.exists()


async def test_a_run_is_found_by_its_mark_where_its_root_is_gone(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "GRACE", 0.5)  # the child of the app ignores SIGTERM
    killed_daemon(tmp_path, "--fork-child", "session")
    (path,) = on_record(tmp_path)
    record = msgspec.json.decode(path.read_bytes(), type=Record)
    left = members.Target(record.root, record.root_started, record.mark).find()
    os.kill(record.root, signal.SIGKILL)
    await end_leftovers(tmp_path, log)
    assert not any(map(runs, left))


async def test_a_run_that_was_not_on_record_yet_is_found_by_its_mark(tmp_path: Path, log: Log) -> None:
    environ = {**os.environ, members.MARK: "cafe"}
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    note = child_records.Start(boot=proc.boot(), tenant="u", mark="cafe", cgroup="")
    with subprocess.Popen(["sleep", "600"], env=environ, start_new_session=True) as app:
        (folder / "cafe.start").write_bytes(msgspec.json.encode(note))
        while b"cafe" not in Path(f"/proc/{app.pid}/environ").read_bytes():
            await asyncio.sleep(0.001)  # Popen returns amid execve(2), when it is still empty
        await end_leftovers(tmp_path, log)
        assert app.wait(20) == -signal.SIGTERM
    assert on_record(tmp_path) == []


async def test_the_supervisor_ends_the_apps_of_a_daemon_that_was_killed(tmp_path: Path) -> None:
    pid = killed_daemon(tmp_path, "--fork-child", "session", supervised=True)
    (path,) = on_record(tmp_path)
    record = msgspec.json.decode(path.read_bytes(), type=Record)
    target = members.Target(record.root, record.root_started, record.mark, record.cgroup)
    await eventually(lambda: not target.rooted() and not target.find(), within=40)
    assert not runs(pid)


async def test_the_grandchildren_of_a_dead_leader_are_found(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "GRACE", 0.2)  # they ignore SIGTERM: the whole grace passes
    pid = killed_daemon(tmp_path, "--fork-child")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not runs(pid))
    left = [p.pid for p in proc.scan() if pid in (p.group, p.session) and not p.ended]
    assert len(left) == 1
    await end_leftovers(tmp_path, log)
    assert not runs(left[0])
    assert on_record(tmp_path) == []


async def test_a_pid_that_was_given_to_another_process_is_not_hit(
    tmp_path: Path, log: Log, bystander: subprocess.Popen[bytes]
) -> None:
    now = proc.find(bystander.pid)
    assert now is not None
    write_record(tmp_path, Record(bystander.pid, now.started - 1, proc.boot(), "u"))
    write_record(tmp_path, Record(bystander.pid, now.started, "another boot", "u"))
    await end_leftovers(tmp_path, log)
    assert bystander.poll() is None
    assert on_record(tmp_path) == []
    assert reported(log) == []


async def test_a_group_of_that_number_is_not_hit_either(
    tmp_path: Path, log: Log, bystander: subprocess.Popen[bytes]
) -> None:
    """The leader's number now names a process in someone else's session."""
    with subprocess.Popen(["sleep", "600"], process_group=0) as other:
        write_record(tmp_path, Record(other.pid, 1, proc.boot(), "u"))
        await end_leftovers(tmp_path, log)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff", b"[]", b'{"pid": 1, "started": 0, "boot": "", "tenant": "u"}', b'{"pid": -1}', b"9" * 100_000],
)
async def test_a_damaged_record_is_reported_and_removed(tmp_path: Path, log: Log, damage: bytes) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "1-2.json").write_bytes(damage)
    (folder / "3-4.tmp").write_bytes(b"half")
    await end_leftovers(tmp_path, log)
    assert on_record(tmp_path) == []
    assert reported(log) == ["the record of an earlier child is damaged; removed"]


async def test_the_first_start_of_all_has_nothing_to_end(tmp_path: Path, log: Log) -> None:
    await end_leftovers(tmp_path / "new", log)
    assert reported(log) == []


async def test_what_cannot_be_ended_forbids_the_start(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "GRACE", 0.0)
    monkeypatch.setattr(
        termination, "KILL_PATIENCE", -1.0
    )  # nothing survives SIGKILL on purpose: so no one waits for it
    monkeypatch.setattr(members.Target, "kill", lambda target: None)
    pid = killed_daemon(tmp_path, "--ignore-term")
    with pytest.raises(FlyatcError, match=rf"cannot be ended: u \({pid} \(.*--ignore-term"):
        await end_leftovers(tmp_path, log)
    assert len(on_record(tmp_path)) == 1, "the next start must look again"
    monkeypatch.undo()
    monkeypatch.setattr(leftovers, "GRACE", 0.2)
    await end_leftovers(tmp_path, log)
    await eventually(lambda: not runs(pid))


def test_a_record_is_there_as_long_as_its_group(tmp_path: Path) -> None:
    ours = Records(tmp_path)
    leader = termination.Group(4242, 99)
    ours.add("u/a", leader)
    (path,) = on_record(tmp_path)
    assert msgspec.json.decode(path.read_bytes(), type=Record) == Record(4242, 99, proc.boot(), "u/a")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert ours.known() == {4242}
    ours.remove(leader)
    assert on_record(tmp_path) == []
    assert ours.known() == set()
