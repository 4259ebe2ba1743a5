"""Real sockets and processes: the owner of an app's port."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from flyatc.process import listening_sockets, ports, proc
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.ports import LOOK_AGAIN, PortOwner, PortPool, StrangerListens, Verdict

LISTEN = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if "reuseport" in sys.argv: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if ":" in host: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int("v6only" in sys.argv))
s.bind((host, port)); s.listen()
"""
WAIT = "print('listening', flush=True); sys.stdin.read()"
WORKER = """
import os
r, w = os.pipe()
if os.fork():
    s.close(); os.write(w, b"closed"); os.wait(); os._exit(0)
os.read(r, 6)
"""
LOOK = """
import asyncio, concurrent.futures.thread, ctypes, os, socket, sys
from flyatc.process.listening_sockets import SocketTable
from flyatc.process.ports import PortOwner
with socket.create_server(("127.0.0.1", 0)) as app:
    port, (r, w) = app.getsockname()[1], os.pipe()
    pid = os.fork()
    if not pid:
        os.close(w)
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: its /proc/PID/fd is root's from now on
        os.read(r, 1)
        os._exit(0)
if not os.getuid():  # root may read everything
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for _ in range(1000):
    try: os.listdir(f"/proc/{pid}/fd")
    except PermissionError: break
print(asyncio.run(PortOwner(port, pid, lambda: [pid], SocketTable()).look()))
os.close(w)
os.waitpid(pid, 0)
"""


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Python code as a process which has printed a line, ended by the end of its input."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"listening\n"
        try:
            yield one
        finally:
            one.communicate()


def listening(host: str, port: int, *flags: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return process(LISTEN + WAIT, host, str(port), *flags)


def of(port: int, leader: int, *members: int) -> PortOwner:
    return PortOwner(port, leader, lambda: members, SocketTable())


@pytest.fixture(params=["inet_diag", "proc"])
def sockets(request: pytest.FixtureRequest) -> Iterator[SocketTable]:
    table = SocketTable()
    table.fast = request.param == "inet_diag"
    yield table
    assert table.fast == (request.param == "inet_diag")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
async def test_an_app_may_listen_on_any_address_that_takes_ipv4(sockets: SocketTable, host: str) -> None:
    port = PortPool().take()
    with listening(host, port) as app:
        owner = PortOwner(port, app.pid, list, sockets)
        assert (await owner.look()).verdict is Verdict.OURS
        await owner.admit()
        if sockets.fast:
            assert sockets.receiver("127.0.0.1", port) in {one.inode for one in sockets.listeners("127.0.0.1", port)}
    assert (await owner.look()).verdict is Verdict.UNUSED
    assert sockets.receiver("127.0.0.1", port) is None
    owner.doubt()
    with pytest.raises(StrangerListens, match="not listened on any more"):
        await owner.admit()


async def test_an_app_that_listens_on_localhost_in_ipv6_is_its_owner_there(sockets: SocketTable) -> None:
    port = PortPool().take()
    with listening("::1", port) as app, listening("127.0.0.1", port) as other:
        owner = PortOwner(port, app.pid, list, sockets)
        assert (await owner.look("::1")).verdict is Verdict.OURS
        assert f"pid {other.pid}" in (await owner.look("127.0.0.1")).reason


async def test_both_ways_to_read_the_table_agree() -> None:
    port = PortPool().take()
    with listening("127.0.0.1", port), listening("::", port, "v6only"), listening("127.0.0.2", port):
        fast, slow = SocketTable(), SocketTable()
        slow.fast = False
        assert [one.address for one in fast.listeners("127.0.0.1", port)] == ["127.0.0.1"]
        # /proc does not tell which socket takes IPv6 only: there it counts for IPv4 too
        assert [one.address for one in slow.listeners("127.0.0.1", port)] == ["127.0.0.1", "::"]
        (only,) = fast.listeners("::1", port)
        assert only.v6only
        assert [one.inode for one in slow.listeners("::1", port)] == [only.inode]


async def test_a_stranger_is_named_by_pid_and_command_line() -> None:
    port = PortPool().take()
    with listening("127.0.0.1", port) as stranger:
        owner = of(port, os.getpid())
        seen = await owner.look()
        assert seen.verdict is Verdict.STRANGER
        assert f"pid {stranger.pid}, `{sys.executable} -S -c" in seen.reason
        assert "app.verify_port: false" in seen.reason
        assert "\n" not in seen.reason
        assert len(seen.reason) < 500
        assert owner.stranger == seen.reason
        with pytest.raises(ConnectionRefusedError, match=f"pid {stranger.pid}"):
            await owner.admit()


async def test_beside_an_app_that_shares_its_port_a_stranger_is_found() -> None:
    port = PortPool().take()
    with listening("127.0.0.1", port, "reuseport") as app:
        owner = of(port, app.pid)
        await owner.admit()
        with listening("127.0.0.1", port, "reuseport") as second:
            assert f"pid {second.pid}" in (await owner.look()).reason
            assert (await of(port, app.pid, second.pid).look()).verdict is Verdict.OURS


async def test_a_process_that_joins_a_shared_port_is_found_when_all_are_listed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = PortPool().take()
    with listening("127.0.0.1", port, "reuseport") as app:
        owner = of(port, app.pid)
        await owner.admit()
        with listening("127.0.0.1", port, "reuseport") as second:
            monkeypatch.setattr(ports, "monotonic", lambda: time.monotonic() + LOOK_AGAIN + 1)
            with pytest.raises(StrangerListens, match=f"pid {second.pid}"):
                await owner.admit()


async def test_a_socket_which_a_worker_of_the_run_has_inherited_is_ours() -> None:
    port = PortPool().take()
    with process(LISTEN + WORKER + WAIT, "127.0.0.1", str(port)) as supervisor:

        def members() -> list[int]:
            return [one.pid for one in proc.descendants(supervisor.pid)]

        owner = PortOwner(port, supervisor.pid, members, SocketTable())
        assert (await owner.look()).verdict is Verdict.OURS
        assert (await of(port, supervisor.pid).look()).verdict is Verdict.STRANGER, "the leader has closed its own"


async def test_a_foreign_process_on_the_port_of_an_ended_app_gets_no_connection() -> None:
    port = PortPool().take()
    with listening("127.0.0.1", port) as app:
        owner = of(port, app.pid)
        await owner.admit()
    with listening("127.0.0.1", port) as stranger, pytest.raises(StrangerListens, match=f"pid {stranger.pid}"):
        await owner.admit()  # no connection was refused in between


async def test_an_app_that_listens_anew_is_proved_anew() -> None:
    port = PortPool().take()
    with listening("127.0.0.1", port) as first, listening("127.0.0.2", port) as leader:
        owner = of(port, leader.pid, first.pid)
        await owner.admit()
    with listening("127.0.0.1", port) as second:
        owner._members = lambda: [second.pid]
        await owner.admit()
        assert owner.stranger is None


async def test_descriptors_that_cannot_be_read_are_no_proof() -> None:
    look = await asyncio.create_subprocess_exec(sys.executable, "-c", LOOK, stdout=subprocess.PIPE)
    said = (await look.communicate())[0].decode()
    assert "UNKNOWN" in said
    assert "capability SYS_PTRACE" in said


async def test_a_kernel_without_inet_diag_is_read_by_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_sockets, "SOCK_DIAG_BY_FAMILY", 99)
    port = PortPool().take()
    with listening("127.0.0.1", port) as app:
        sockets = SocketTable()
        assert [one.address for one in sockets.listeners("127.0.0.1", port)] == ["127.0.0.1"]
        assert not sockets.fast
        owner = PortOwner(port, app.pid, list, sockets)
        await owner.admit()
        await owner.admit()


async def test_a_table_that_cannot_be_read_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_sockets, "SOCK_DIAG_BY_FAMILY", 99)
    monkeypatch.setattr(listening_sockets, "PROC_FILES", ((socket.AF_INET, Path("/nowhere")),))
    seen = await of(1, os.getpid()).look()
    assert seen.verdict is Verdict.UNKNOWN
    assert "set app.verify_port: false" in seen.reason


def test_a_command_line_is_cut_and_made_printable() -> None:
    with process("import sys; print('listening', flush=True); sys.stdin.read()", "\x1b[31mred\n", "x" * 5000) as one:
        shown = ports.command_line(one.pid)
    assert "?[31mred?" in shown
    assert len(shown) <= ports.COMMAND_LINE + 2
    assert ports.command_line(2**22 + 1) == "its command line cannot be read"
