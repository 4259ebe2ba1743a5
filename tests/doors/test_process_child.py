"""A real child, under both loops: how it starts, how it ends, and that none of its processes is left."""

import asyncio
import contextlib
import errno
import io
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager as Hold
from functools import partial
from pathlib import Path
from sys import executable
from time import monotonic

import pytest
import uvloop

from fakes.waiting import eventually
from flyatc.config.schema import App, Tenant
from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed, StillRunning
from flyatc.observe.log import Log
from flyatc.process import child, launch_plan, members, proc, termination
from flyatc.process.child import RunningChild
from flyatc.process.child_records import FOLDER, Records
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.members import Cgroups
from flyatc.process.ports import PortPool
from flyatc.process.spawn import exec_failure
from flyatc.process.supervisor_client import Launcher
from flyatc.tenants import interfaces as tenants

# The hook that is to replace this fixture can only stand in a conftest.py, where it would be for all.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")

RESTLESS = str(Path(__file__).parents[1] / "apps" / "restless.py")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


class Room:
    """Records what daemon.py hands to a hold."""

    def __init__(self, folder: Path, cgroups: str) -> None:
        self.folder = folder
        self.log, self.ports, self.records = Log(io.BytesIO()), PortPool(), Records(folder)
        self.sockets = SocketTable()
        self.launcher = Launcher(self.log, Cgroups.of(cgroups), folder)

    def tenant(self, *flags: str, command: list[str] | None = None, directory: str = "", **more: object) -> Tenant:
        argv = command if command is not None else [executable, "-I", RESTLESS, *flags]
        app = App(command=argv, directory=directory or str(self.folder), **{"stop_grace": 20.0, **more})  # type: ignore[arg-type]
        return Tenant(user="u", name="a", prefix="/u/a", data=self.folder / "tenants/u/a", app=app)

    def hold(self, tenant: Tenant, hurry: Callable[[], bool] = lambda: False) -> Hold[RunningChild]:
        environ = {**os.environ, "AWS_SECRET_ACCESS_KEY": "secret"}
        return child.hold(
            tenant,
            hurry,
            plan=partial(launch_plan.plan, environ=environ),
            ports=self.ports,
            log=self.log,
            records=self.records,
            sockets=self.sockets,
            launcher=self.launcher,
        )

    def reported(self) -> list[dict[str, str]]:
        return [json.loads(entry[2]) for entry in self.log.journal.since(0)]

    def said(self, stream: str = "stdout") -> list[str]:
        return [line["msg"] for line in self.reported() if line.get("stream") == stream]

    async def grandchild(self) -> int:
        """Its pid, once it says that it stands."""
        await eventually(lambda: any(line.startswith("grandchild ") for line in self.said()))
        return next(int(line.split()[1]) for line in self.said() if line.startswith("grandchild "))

    def on_record(self) -> list[Path]:
        return list((self.folder / FOLDER).glob("*"))


@pytest.fixture(params=["auto", "off"], ids=["cgroup", "descent"])
async def room(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    before = set(our_children())  # an S3 server of the whole session may be among them
    room = Room(tmp_path, request.param)
    yield room
    await room.launcher.close()
    room.log.close()
    assert room.on_record() == [], "no record outlives its child"
    assert set(our_children()) - before == set(), "no child outlives its hold"


def our_children() -> list[int]:
    return [process.pid for process in proc.scan() if process.parent == os.getpid() and not process.ended]


def runs(pid: int) -> bool:
    process = proc.find(pid)
    return process is not None and not process.ended


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n\r\n")[2]


# --- the way in ---


async def test_an_app_is_ready_when_it_answers_and_gone_after_the_hold(room: Room) -> None:
    async with room.hold(room.tenant(ready="{prefix}/up")) as app:
        fulfilled: tenants.Child = app
        await fulfilled.ready()
        assert app.exit is None
        seen = json.loads(await ask(app.port, "/u/a/echo?env=PORT&env=AWS_SECRET_ACCESS_KEY"))
        assert seen["env"] == {"PORT": str(app.port), "AWS_SECRET_ACCESS_KEY": None}
        assert (seen["pid"], seen["directory"]) == (app.pid, str(room.folder))
        assert os.getpgid(app.pid) == os.getsid(app.pid) == app.pid
        assert stat.S_IMODE((room.folder / "tenants/u/a").stat().st_mode) == 0o700
        assert len(room.on_record()) == 1
        assert app.members() == [app.pid]
    assert not runs(app.pid)
    assert app.exit is not None
    assert app.exit.code == 0
    assert app.members() == []


async def test_an_app_that_binds_late_is_waited_for(room: Room) -> None:
    async with room.hold(room.tenant("--bind-late", "0.3")) as app:
        await app.ready()
        assert await ask(app.port, "/up") == b"up"


async def test_an_app_is_not_ready_while_it_answers_with_a_fault(room: Room) -> None:
    async with room.hold(room.tenant("--unwell-for", "0.3", ready="/up")) as app:
        await app.ready()
        assert await ask(app.port, "/up") == b"up"


async def test_garbage_is_no_response(room: Room) -> None:
    async with room.hold(room.tenant("--garbage", ready="/up")) as app:
        await eventually(lambda: any("listening" in line for line in room.said()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await app.ready()


async def test_a_stranger_on_the_port_is_asked_nothing_and_the_next_start_has_another_port(room: Room) -> None:
    """It has bound the port while the app was still at its boot."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    port = PortPool().take()
    room.ports = PortPool(port, port + 8)
    taken = []
    async with room.hold(room.tenant("--bind-late", "20", ready="/up", stop_grace=0.1)) as app:
        taken.append(app.port)
        stranger = await asyncio.start_server(hear, "127.0.0.1", app.port)
        with pytest.raises(
            StartFailed, match=rf"port {app.port} is listened on by another process \(pid {os.getpid()},"
        ):
            await app.ready()
        assert app.stranger is not None
    stranger.close()
    await stranger.wait_closed()
    for _ in range(3):
        async with room.hold(room.tenant(ready="/up")) as app:
            await app.ready()
            assert app.stranger is None
            taken.append(app.port)
    assert taken[0] not in taken[1:]
    assert not any(heard)


async def test_an_app_that_finds_its_port_taken_fails_with_the_name_of_the_process(room: Room) -> None:
    async with room.hold(room.tenant("--bind-late", "0.3", ready="/up")) as app:
        stranger = socket.create_server(("127.0.0.1", app.port))
        await app.exited.wait()  # it could not bind
        with stranger, pytest.raises(StartFailed, match=rf"another process \(pid {os.getpid()},"):
            await app.ready()


async def test_of_two_daemons_with_the_same_ports_each_ends_up_with_its_own_app(room: Room) -> None:
    port = PortPool().take()
    ours, theirs = PortPool(port, port + 1), PortPool(port, port + 1)
    room.ports = ours
    async with room.hold(room.tenant("--bind-late", "20", ready="/up", stop_grace=0.1)) as late:
        room.ports = theirs
        async with room.hold(room.tenant(ready="/up")) as early:
            await early.ready()
            with pytest.raises(StartFailed, match=f"pid {early.pid}"):
                await late.ready()


async def test_without_the_check_any_listener_is_the_app(room: Room) -> None:
    async with room.hold(room.tenant(command=["sleep", "60"], verify_port=False, stop_grace=0.1)) as app:
        with socket.create_server(("127.0.0.1", app.port)):
            await app.ready()
            assert app.port_owner is None


async def test_an_app_that_exits_at_once_fails_with_its_last_words(room: Room) -> None:
    async with room.hold(room.tenant("--exit-at-once", "7", "--last-words", "no database here")) as app:
        with pytest.raises(StartFailed, match=r"u/a ended before it responded \(exit code 7\)") as failed:
            await app.ready()
    assert "about to exit with 7" in str(failed.value)
    assert "no database here" in str(failed.value)
    assert app.exit is not None
    assert set(app.exit.output) == {"about to exit with 7", "no database here"}


async def test_a_folder_of_path_that_is_closed_is_not_blamed_for_a_program_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    for program, sentence in (("missing", "there is no such program on PATH"), ("there", "it may not be executed")):
        launch = launch_plan.Launch((program,), {"PATH": f"/nowhere:{tmp_path}"}, "/", None)
        assert sentence in exec_failure(launch, errno.EACCES, "")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["no-such-program-anywhere"], r"'no-such-program-anywhere' cannot be started: there is no such program"),
        (["{data}"], r"may not be executed"),
        (["./plain"], r"may not be executed"),
        (["./nonsense"], r"'./nonsense' cannot be started"),
        (["app\0name"], r"cannot be started"),
        (["${NOT_SET_ANYWHERE}"], r"needs the variable NOT_SET_ANYWHERE"),
    ],
)
async def test_a_command_that_cannot_be_run_says_so(room: Room, command: list[str], sentence: str) -> None:
    (room.folder / "plain").write_text("#!/bin/sh\n")
    (room.folder / "nonsense").write_bytes(b"\x7fELF\0 not really")
    (room.folder / "nonsense").chmod(0o755)
    with pytest.raises(StartFailed, match=sentence):
        async with room.hold(room.tenant(command=command)):
            pass


async def test_a_directory_that_is_missing_says_so(room: Room) -> None:
    with pytest.raises(StartFailed, match=r"/nowhere, does not exist"):
        async with room.hold(room.tenant(directory="/nowhere")):
            pass


async def test_a_folder_that_cannot_be_made_says_so(room: Room) -> None:
    (room.folder / "tenants").write_text("a file stands in the way")
    with pytest.raises(StartFailed, match=r"data folder of u/a cannot be made"):
        async with room.hold(room.tenant()):
            pass


async def test_an_app_that_cannot_be_put_on_record_does_not_run(room: Room) -> None:
    (room.folder / ".flyatc").write_text("a file stands in the way")
    with pytest.raises(StartFailed, match=r"cannot be recorded"):
        async with room.hold(room.tenant()):
            pass


async def test_users_cannot_add_arguments(room: Room) -> None:
    async with room.hold(room.tenant("--db", "{data}/a b; touch x.sqlite3")) as app:
        await app.ready()
        assert json.loads(await ask(app.port, "/count")) == {"count": 0}
    assert (room.folder / "tenants/u/a/a b; touch x.sqlite3").exists()


# --- the way out ---


async def test_an_app_that_ignores_term_is_killed_after_its_grace(room: Room) -> None:
    async with room.hold(room.tenant("--ignore-term", stop_grace=0.2)) as app:
        await app.ready()
        begun = monotonic()
    assert monotonic() - begun >= 0.2
    assert app.exit is not None
    assert app.exit.signal == signal.SIGKILL
    assert any(line["msg"] == "the app did not end by itself and was killed" for line in room.reported())


async def test_an_app_that_survives_is_named_and_stays_on_record_until_it_has_ended(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing survives SIGKILL on purpose, so no test waits for it
    monkeypatch.setattr(termination, "KILL_PATIENCE", -1.0)
    monkeypatch.setattr(child, "EXIT_TIMEOUT", 0.2)
    monkeypatch.setattr(members.Target, "kill", lambda target: None)
    with pytest.raises(StillRunning) as failed:
        async with room.hold(room.tenant("--ignore-term"), hurry=lambda: True) as app:
            await app.ready()
    assert f"{app.pid} ({executable} -I {RESTLESS} --ignore-term)" in str(failed.value)
    assert any("survived SIGKILL" in line["msg"] for line in room.reported())
    assert len(room.on_record()) == 1
    with pytest.raises(StillRunning, match="has not ended yet"):
        await child.settle("u/a", room.log, room.records, room.launcher)
    monkeypatch.undo()
    await child.settle("u/a", room.log, room.records, room.launcher)
    assert not runs(app.pid)


async def test_an_app_that_is_slow_to_end_is_let_end(room: Room) -> None:
    async with room.hold(room.tenant("--slow-term", "0.3")) as app:
        await app.ready()
    assert app.exit is not None
    assert app.exit.code == 0


async def test_in_a_hurry_the_app_gets_no_sigterm(room: Room) -> None:
    async with room.hold(room.tenant("--ignore-term"), hurry=lambda: True) as app:
        await app.ready()
    assert app.exit is not None
    assert app.exit.signal == signal.SIGKILL


async def test_a_hurry_cuts_the_grace_short(room: Room) -> None:
    begun = monotonic()
    async with room.hold(
        room.tenant("--ignore-term", stop_grace=3600.0), hurry=lambda: monotonic() > begun + 0.6
    ) as app:
        await app.ready()
    assert not runs(app.pid)


@pytest.mark.parametrize("where", ["same", "group", "session"])
async def test_grandchildren_that_ignore_term_are_gone_with_the_hold(room: Room, where: str) -> None:
    async with room.hold(room.tenant("--fork-child", where, "--child-holds-db", stop_grace=0.2)):
        grandchild = await room.grandchild()
        assert runs(grandchild)
    assert not runs(grandchild)


async def test_grandchildren_of_an_app_that_died_are_ended_too(room: Room) -> None:
    async with room.hold(room.tenant("--fork-child", stop_grace=0.1)) as app:
        grandchild = await room.grandchild()
        os.kill(app.pid, signal.SIGKILL)
        await app.exited.wait()
        assert app.exit is not None
        assert app.exit.signal == signal.SIGKILL
        assert runs(grandchild)
    assert not runs(grandchild)


async def test_an_exit_is_known_at_once_with_its_code(room: Room) -> None:
    async with room.hold(room.tenant("--die-after", "0.2")) as app:
        await app.exited.wait()
        assert str(app.exit) == "exit code 9"
        assert repr(app) == f"<child {app.pid} of u/a on {app.port}: exit code 9>"


async def test_a_cancelled_run_ends_its_group_first(room: Room) -> None:
    up = asyncio.Event()

    async def live() -> None:
        async with room.hold(room.tenant("--fork-child", stop_grace=0.2)):
            await room.grandchild()
            up.set()
            await asyncio.Event().wait()

    life = tasks.start(live(), "life")
    await up.wait()
    grandchild = await room.grandchild()
    life.cancel()
    await asyncio.sleep(0)
    life.cancel()  # a caller that gives up changes nothing
    with pytest.raises(asyncio.CancelledError):
        await life
    assert not runs(grandchild)


async def test_a_run_cancelled_at_any_step_leaves_nothing(room: Room) -> None:
    for turns in range(12):
        life = tasks.start(_one_life(room), "life")
        for _ in range(turns):
            await asyncio.sleep(0)
        life.cancel()
        with pytest.raises(asyncio.CancelledError):
            await life
        assert room.on_record() == []
        assert not room.ports._taken


async def _one_life(room: Room) -> None:
    async with room.hold(room.tenant("--ready-after", "5")) as app:
        await app.ready()


# --- what it says ---


async def test_output_of_any_bytes_arrives_as_text(room: Room) -> None:
    async with room.hold(room.tenant("--binary-output", "--long-line", "40000")):
        await eventually(lambda: any("listening" in line for line in room.said()))
    said = room.said()
    assert "smörgås €" in said
    assert "\N{REPLACEMENT CHARACTER}" * 2 in said
    assert [len(line) for line in said if line.startswith("yyy")] == [16384, 16384, 40000 - 2 * 16384]


async def test_the_last_line_needs_no_newline_and_the_last_lines_are_kept(room: Room) -> None:
    script = "import sys; [print(n) for n in range(1000)]; sys.stdout.write('the end')"
    async with room.hold(room.tenant(command=[executable, "-I", "-c", script])) as app:
        await app.exited.wait()
    assert room.said() == [*map(str, range(1000)), "the end"]
    assert app.exit is not None
    assert app.exit.output == (*map(str, range(981, 1000)), "the end")


async def test_an_app_may_open_its_output_by_name(room: Room) -> None:
    async with room.hold(room.tenant(command=["sh", "-c", "echo hello > /dev/stderr"])) as app:
        await app.exited.wait()
    assert room.said("stderr") == ["hello"]


async def test_a_flood_does_not_delay_the_others(room: Room) -> None:
    async with room.hold(room.tenant("--flood"), hurry=lambda: True):
        await eventually(lambda: len(room.said()) > 100)
        loop = asyncio.get_running_loop()
        late = []
        for _ in range(200):
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            late.append(loop.time() - due)
    assert sorted(late)[100] < 0.02


@pytest.mark.parametrize(("family", "host"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")])
async def test_an_app_that_listens_elsewhere_is_seen_to_do_so(room: Room, family: str, host: str) -> None:
    """Its child listens: on another port, or on the right one but not on 127.0.0.1."""
    port = "int(os.environ['PORT'])" if family == "AF_INET6" else "0"
    serve = f"import os, socket, time; s = socket.socket(socket.{family}); s.bind(('{host}', {port})); s.listen()"
    command = ["sh", "-c", f'{executable} -I -c "{serve}; time.sleep(600)" & wait']
    async with room.hold(room.tenant(command=command, stop_grace=1.0)) as app:
        waiting = asyncio.create_task(app.ready())  # noqa: TID251  # the test ends it
        await eventually(lambda: "it listens on" in (app.probe or ""))
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        assert app.probe is not None
        if family == "AF_INET6":
            assert f"it listens on [::1]:{app.port} instead: have it listen on 127.0.0.1" in app.probe
        else:
            assert "instead: use {port} in the command, or have the app read $PORT" in app.probe
            assert app.probe.startswith(f"http://127.0.0.1:{app.port}")
