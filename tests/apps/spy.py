"""An app that tries to reach what is not its own. POST /…/spy with the targets as JSON; the response says for each
attempt "yes", or the error. Standard library only; the Python of another user id must be able to run it."""

import contextlib
import ctypes
import http.server
import json
import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(what: Callable[[], object]) -> str:
    try:
        what()
    except OSError as error:
        return f"no: {error.strerror or error}"
    except sqlite3.Error as error:
        return f"no: {error}"
    return "yes"


def append(path: str) -> None:
    with Path(path).open("ab"):
        pass


def create(folder: str) -> None:
    path = Path(folder, "made-by-the-spy")
    path.write_text("x")
    path.unlink()


def read_a_file_below(folder: str) -> None:
    found = [Path(place, name) for place, _, names in os.walk(folder, onerror=fail) for name in names]
    for path in found:
        path.read_bytes()
    if not found:
        raise OSError(0, "nothing is there")


def read_disks(disks: list[str]) -> None:
    if not disks:
        raise OSError(0, "nothing is there")
    for disk in disks:
        Path(disk).open("rb").close()


def fail(error: OSError) -> None:
    raise error


def ask(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        one.connect(path)
        one.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = one.recv(100)
    if b" 200 " not in answer:
        raise OSError(0, f"answered {answer[:40]!r}")


def environments(canary: str) -> list[str]:
    """The command lines of the processes in whose environment the canary can be read."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if canary.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:60])
    return found


def trace(pid: int) -> None:
    if LIBC.ptrace(PTRACE_ATTACH, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.waitpid(pid, 0)
    LIBC.ptrace(PTRACE_DETACH, pid, None, None)


def descriptors() -> list[str]:
    """Return what is open beside stdin, stdout, stderr."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if int(entry.name) > 2:
                found.append(str(entry.readlink()))
    return found


def spy(at: dict[str, Any]) -> dict[str, Any]:
    pid, neighbour = at["neighbour_pid"], at["neighbour"]
    found: dict[str, Any] = {
        "read the neighbour's database": attempt(lambda: Path(neighbour).read_bytes()),
        "write the neighbour's database": attempt(lambda: append(neighbour)),
        "read it through /proc": attempt(lambda: Path(f"/proc/{pid}/root{neighbour}").read_bytes()),
        "chmod the neighbour's database": attempt(lambda: Path(neighbour).chmod(0o600)),
        "list the tenants": attempt(lambda: list(Path(at["tenants"]).iterdir())),
        "read the store": attempt(lambda: read_a_file_below(at["store"])),
        "read tenants.yaml": attempt(lambda: Path(at["config"]).read_bytes()),
        "ask the control socket": attempt(lambda: ask(at["socket"])),
        "read the daemon's memory": attempt(lambda: Path(f"/proc/{at['daemon_pid']}/mem").open("rb").close()),
        "read the neighbour's memory": attempt(lambda: Path(f"/proc/{pid}/mem").open("rb").close()),
        "trace the neighbour": attempt(lambda: trace(pid)),
        "signal the neighbour": attempt(lambda: os.kill(pid, 0)),
        "signal the daemon": attempt(lambda: os.kill(at["daemon_pid"], 0)),
        "signal the root of its run": attempt(lambda: os.kill(os.getppid(), 0)),
        "write the app's folder": attempt(lambda: create(".")),
        "change the app": attempt(lambda: append(__file__)),
        "write log": attempt(lambda: create("log")),
        "write its data": attempt(lambda: create(os.environ["DATA"])),
        "write its temporary folder": attempt(lambda: create(os.environ.get("TMPDIR", "/tmp"))),
        "write /tmp": attempt(lambda: create("/tmp")),
        "open /dev/stdout": attempt(lambda: Path("/dev/stdout").open("w").close()),
        "read a disk": attempt(lambda: read_disks(at["disks"])),
        "environments with the secret": environments(at["canary"]),
        "open descriptors": descriptors(),
        "environment": dict(os.environ),
        "no new privileges": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
        "uid": os.geteuid(),
        "groups": os.getgroups(),
        "temporary": os.environ.get("TMPDIR"),
    }
    if at.get("kill"):
        found["kill the neighbour"] = attempt(lambda: os.kill(pid, 9))
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.respond({"pid": os.getpid(), "uid": os.geteuid()})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/spy"):
            return self.respond(spy(json.loads(sent)))
        # a shell command, for what a test needs beside
        return self.respond({"code": os.waitstatus_to_exitcode(os.system(sent.decode()))})

    def respond(self, what: object) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    with sqlite3.connect(Path(os.environ["DATA"], "app.sqlite3")) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("create table if not exists visits (at text)")
        database.execute("insert into visits values ('now')")
    print("serving", file=sys.stderr)
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()


main()
