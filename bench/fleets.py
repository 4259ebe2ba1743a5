"""Daemons of storage.py: a bucket in moto, users u0, u1 … with one database each, an app which does not touch it."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import children
import measure
import peers
import stores

CONFIG = """
server: {{listen: "127.0.0.1:{port}", data: data, shutdown_timeout: 300s}}
storage: {{mode: {mode}, session_ttl: {ttl}s}}
app:
  isolation: "off"  # it writes into the bench's folder
  command: [{python}, -I, -S, {here}/cold_app.py]
  env: {{LISTENING: "{home}/{{user}}"}}
  databases: [app.sqlite3]
  seed: {seed}
  idle: 0s
  start_timeout: 900s
limits: {{running: 1000}}
users:
{users}
"""
QUIET = 2.0  # s without a request of litestream's: it has sent all
PATIENCE = 900.0


@dataclass(frozen=True)
class Fleet:
    """What may run again and again on one bucket. ``home`` is new."""

    place: peers.Place
    store: stores.Store
    bucket: str
    mode: str
    users: int
    home: Path
    ttl: float

    @contextlib.contextmanager
    def daemon(self, seed: Path | None = None) -> Iterator["Daemon"]:
        """One which has nothing but the bucket, from when it listens until it has ended. ``seed``: for who is new."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        port = children.free_port()
        text = CONFIG.format(
            port=port, mode=self.mode, ttl=self.ttl, python=sys.executable, here=peers.HERE, home=self.home,
            seed=f'"{seed}"' if seed else "null", users="".join(f"  u{number}:\n" for number in range(self.users)),
        )  # fmt: skip
        (self.home / "tenants.yaml").write_text(text)
        cores, env = self.place.proxy | self.place.rest, self.store.environ(self.bucket)
        with children.running(
            peers.flyatc_command(), port=port, cores=cores, output=self.home / "output.log", env=env
        ) as child:
            yield Daemon(self, port, child, time.monotonic())

    def fill(self, seed: Path) -> None:
        """The bucket has the seed as the database of each user: one is saved by flyatc, the others are copies of it."""
        with self.daemon(seed) as daemon:
            daemon.visit(0)
            daemon.await_quiet()
        client = self.store.client()
        listed = client.list_objects_v2(Bucket=self.bucket, Prefix="users/u0/")["Contents"]
        for number in range(1, self.users):
            for entry in listed:
                key = entry["Key"].replace("users/u0/", f"users/u{number}/")
                client.copy_object(Bucket=self.bucket, Key=key, CopySource={"Bucket": self.bucket, "Key": entry["Key"]})


@dataclass(frozen=True)
class Daemon:
    fleet: Fleet
    port: int
    child: subprocess.Popen[bytes]
    began: float

    @property
    def pid(self) -> int:
        return self.child.pid

    def ask(self, user: int) -> socket.socket:
        """Where the answer will come."""
        visitor = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        visitor.sendall(f"GET /u{user}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return visitor

    @staticmethod
    def answered(visitor: socket.socket) -> None:
        """Raises RuntimeError unless it is a 200."""
        with visitor:
            answer = visitor.recv(4096)
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise RuntimeError(f"a visit was answered with {answer[:60]!r}")

    def visit(self, user: int) -> None:
        self.answered(self.ask(user))

    def listening(self, user: int) -> float:
        """When its app began to listen: CLOCK_MONOTONIC, in seconds."""
        return int((self.fleet.home / f"u{user}").read_text()) / 1e9

    def await_quiet(self) -> None:
        """Litestream sends the whole of a database which is new here; when it is through with it, it is silent."""
        if self.fleet.mode == "litestream":
            while any(request.by_litestream for request in self.fleet.store.requests(time.monotonic() - QUIET)):
                children.pause(0.2)

    def told(self, user: int) -> dict[str, float]:
        """The ms of each step of its start, by the name of the step, and of what happened in it."""
        found: dict[str, float] = {}
        for text in (self.fleet.home / "output.log").read_text().splitlines():
            line: dict[str, Any] = json.loads(text)
            mine = line.get("tenant") == f"u{user}" or line.get("user") == f"u{user}"
            if mine and "ms" in line:
                found.setdefault(line.get("was", line["msg"]), line["ms"])
        return found

    def family(self) -> list[int]:
        """Itself first, then litestream; without the apps."""
        apps = [pid for pid in measure.family(self.pid) if b"cold_app.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return measure.family(self.pid, apps)

    def peak(self) -> int:
        return measure.peak_octets(self.pid)
