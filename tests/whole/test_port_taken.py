"""Another process on an app's port: it gets no request, and is named."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flyatc.tenants import app_start
from whole.conftest import StartDaemon
from whole.daemon import config, eventually, restless
from whole.wrapped import wrapping

# Binds the port named by a file as soon as it can, answers everything, and writes down what it is sent.
STRANGER = """
import json, pathlib, socket, sys, time
port, heard = pathlib.Path(sys.argv[1]), open(sys.argv[2], "wb", buffering=0)
while not port.exists() or not port.read_text().strip():
    time.sleep(0.005)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        s.bind(("127.0.0.1", int(port.read_text()))); s.listen()
        break
    except OSError:
        pass
print("listening", flush=True)
while True:
    one = s.accept()[0]
    one.settimeout(2)
    try:
        if data := one.recv(65536):
            heard.write(data); one.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 8\\r\\n\\r\\nSTRANGER")
    except OSError:
        pass
    one.close()
"""
SLOW = '["sh", "-c", "echo $PORT >{data}/port; sleep 1; exec \\"$@\\"", sh, '


@contextlib.contextmanager
def stranger(port: Path, heard: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Waits for a port to be written to a file. Any request to it fails the test."""
    argv = [sys.executable, "-S", "-c", STRANGER, str(port), str(heard)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as one:
        try:
            yield one
            assert heard.read_bytes() == b""
        finally:
            one.kill()


def bound(one: subprocess.Popen[bytes]) -> None:
    assert one.stdout is not None
    assert one.stdout.readline() == b"listening\n"


def test_a_process_that_takes_the_port_before_the_app_is_named_and_the_app_gets_another(
    start: StartDaemon, tmp_path: Path
) -> None:
    slow = SLOW + restless().removeprefix("[")
    daemon = start(config(users=f"users: {{slow: {{command: {slow}}}}}", app="  ready: /up\n  waiting_page_after: 60s"))
    port, first = daemon.folder / "data/tenants/slow/~/port", tmp_path / "first"
    with stranger(first, tmp_path / "heard") as other, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(daemon.post, "/slow/add", b"secret", {"Cookie": "session=secret"})
        eventually(lambda: port.exists() and port.read_text().strip(), 20, "the start")
        first.write_text(port.read_text())
        bound(other)
        assert (answer.result().status, answer.result().json) == (200, {"count": 1})
        warned = daemon.until_reported("the app is started again at another port", tenant="slow")
        assert f"(pid {other.pid}, `{sys.executable} -S -c" in warned["reason"]
        assert port.read_text() != first.read_text()
        assert not daemon.reported("the start failed")


def test_a_process_that_takes_each_port_of_a_start_fails_it(start: StartDaemon, tmp_path: Path) -> None:
    slow = SLOW + restless().removeprefix("[")
    daemon = start(config(users=f"users: {{slow: {{command: {slow}}}}}", app="  ready: /up\n  waiting_page_after: 60s"))
    port = daemon.folder / "data/tenants/slow/~/port"
    with contextlib.ExitStack() as others, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(daemon.post, "/slow/add", b"secret")
        seen: list[str] = []
        while len(seen) < app_start.PORTS:
            eventually(lambda: port.exists() and port.read_text().strip() not in {"", *seen}, 20, "the next start")
            seen.append(port.read_text().strip())
            file = tmp_path / f"port{len(seen)}"
            other = others.enter_context(stranger(file, tmp_path / f"heard{len(seen)}"))
            file.write_text(seen[-1])
            bound(other)
        assert answer.result().status == 502
        assert answer.result().headers["Retry-After"]
        failed = daemon.until_reported("the start failed", tenant="slow")
        assert f"(pid {other.pid}, `{sys.executable} -S -c" in failed["reason"]
        eventually(lambda: daemon.post("/slow/add").status == 200, 20, "the next start")


def test_a_process_that_takes_the_port_of_a_crashed_app_gets_nothing(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(config())
    for turn in range(3):
        file = tmp_path / f"port{turn}"
        port = daemon.get("/bob/echo?env=PORT").json["env"]["PORT"]
        with stranger(file, tmp_path / f"heard{turn}") as other:
            file.write_text(port)
            assert daemon.get("/bob/die?code=1").status == 502
            answers = [daemon.post("/bob/add", b"secret") for _ in range(3)]
            assert {one.status for one in answers} <= {200, 502}, "started anew, or in its back-off"
            bound(other)
            assert not any("STRANGER" in one.text for one in answers)
        assert daemon.cli("stop", "bob").returncode == 0  # no back-off for the next turn


def test_an_app_that_has_lost_its_port_to_another_process_is_started_anew(start: StartDaemon, tmp_path: Path) -> None:
    """Its first process lives on, so that nothing else tells of the end."""
    command = json.dumps(["sh", "-c", '"$@" & wait; sleep 60', "sh", *json.loads(restless())])
    daemon = start(config(users=f"users: {{kept: {{command: {command}}}}}"))
    before = daemon.get("/kept/echo?env=PORT").json["env"]["PORT"]
    file = tmp_path / "port"
    with stranger(file, tmp_path / "heard") as other:
        file.write_text(before)
        assert daemon.get("/kept/die?code=1").status == 502
        bound(other)
        assert daemon.post("/kept/add", b"secret").status == 502
        assert (
            f"pid {other.pid}" in daemon.until_reported("another process has the app's port", tenant="kept")["reason"]
        )
        eventually(lambda: daemon.get("/kept/up").status == 200, 20, "the next start")
        assert daemon.get("/kept/echo?env=PORT").json["env"]["PORT"] != before


def test_the_check_can_be_turned_off_for_an_app_that_a_service_runs(start: StartDaemon, tmp_path: Path) -> None:
    relay = f'["sh", "-c", "echo $PORT >{tmp_path}/port; sleep 60"]'
    daemon = start(config(users=f"users: {{far: {{command: {relay}, verify_port: false, isolation: off}}}}"))
    argv = [sys.executable, "-S", "-c", STRANGER, str(tmp_path / "port"), str(tmp_path / "heard")]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as service:
        try:
            assert daemon.get("/far/").text == "STRANGER"
        finally:
            service.kill()


def test_flyatc_run_speaks_to_the_app_only(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    app = wrapping(tmp_path / "app", "sleep", "60", env={"START_TIMEOUT": "1"})
    with stranger(tmp_path / "port", tmp_path / "heard") as other, app as one:
        (tmp_path / "port").write_text(str(one.target))
        bound(other)
        one.start()
        assert f"pid {other.pid}" in one.until_reported("another process has the app's port")["reason"]
        assert one.get("/").status == 502


def test_flyatc_run_can_be_configured_to_accept_a_service_as_listener(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    with wrapping(tmp_path / "app", "sleep", "60", env={"VERIFY_PORT": "0"}) as one:
        (tmp_path / "port").write_text(str(one.target))
        argv = [sys.executable, "-S", "-c", STRANGER, str(tmp_path / "port"), str(tmp_path / "heard")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
            try:
                bound(other)
                one.start()
                assert one.get("/").text == "STRANGER"
            finally:
                other.kill()
