"""What a long upload loses by its way over the machine which Fly Proxy has chosen: two daemons as machines of flyatc
sim, without its proxy, and one app."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import children
import measure
import peers
from report import Goal, Table

OCTETS = 100_000_000
USER = "200"  # of the second machine
HEAD = "POST /200/upload HTTP/1.1\r\nHost: bench.fly.dev\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
CONFIG = """
app: {{command: [{python}, sink.py], directory: {here}, idle: 0s}}
storage: {{mode: none}}
users: {{"*": {{match: "[0-9]+"}}}}
"""


@dataclass(frozen=True)
class Machines:
    """Their ports, and the pids of their daemons."""

    wrong: int
    owner: int
    daemons: list[int]


@dataclass(frozen=True)
class Upload:
    seconds: float
    cpu: float  # seconds, of all daemons


def uploads(place: peers.Place, count: int) -> Table:
    """Raises NotListening, RuntimeError, OSError."""
    with _machines(place) as machines:
        ways = {"direct": machines.owner, "forwarded": machines.wrong}
        for port in ways.values():  # the app is started, all is imported
            _upload(machines, port)
        rounds = [{name: _upload(machines, port) for name, port in ways.items()} for _ in range(count)]
    table = Table(f"Uploads of 100 MB, one at a time, medians of {count}", ["", "MB/s", "× direct", "CPU ms/GB"])
    for name in ways:
        table.rows.append([
            name,
            OCTETS / 1e6 / measure.median(one[name].seconds for one in rounds),
            measure.median(one["direct"].seconds / one[name].seconds for one in rounds),
            sum(one[name].cpu for one in rounds) / count * 1e3 / (OCTETS / 1e9),
        ])  # fmt: skip
    longer = measure.median(one["forwarded"].seconds / one["direct"].seconds for one in rounds)
    table.goals.append(Goal("time of a forwarded upload beside a direct one", longer, 1 / 0.7, " ×"))
    return table


@contextlib.contextmanager
def _machines(place: peers.Place) -> Iterator[Machines]:
    home, port = place.folder / "forwarding", children.free_port()
    home.mkdir(exist_ok=True)
    (home / "tenants.yaml").write_text(CONFIG.format(python=sys.executable, here=peers.HERE))
    flyatc = [sys.executable, "-m", "flyatc", "sim"]
    command = [*flyatc, "--machines", "2", "--port", str(port), "--api-port", "0", "--dns-port", "0"]
    cores, output = place.proxy | place.rest, home / "output.log"
    env = peers.flyatc_environment()
    with children.running(command, port=port, cores=cores, output=output, env=env) as simulator:
        children.await_words(output, "then ")
        told = subprocess.run([*flyatc, "ps", "--json"], cwd=home, capture_output=True, check=True).stdout
        wrong, owner = (one["port"] for one in json.loads(told)["machines"])
        yield Machines(wrong, owner, [pid for pid in measure.family(simulator.pid) if _serves(pid)])


def _serves(pid: int) -> bool:
    return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _upload(machines: Machines, port: int) -> Upload:
    """From the first octet to the answer. Raises RuntimeError."""
    before = measure.cpu_seconds(machines.daemons)
    seconds = _send(port)
    return Upload(seconds, measure.cpu_seconds(machines.daemons) - before)


def _send(port: int) -> float:
    piece = memoryview(bytes(1 << 20))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        began, left = time.perf_counter(), OCTETS
        connection.sendall(HEAD.format(length=OCTETS).encode())
        while left:
            connection.sendall(piece[:left])
            left -= min(left, len(piece))
        answer = b""
        while data := connection.recv(65536):
            answer += data
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\r\n\r\n%d" % OCTETS):
        raise RuntimeError(f"an upload was answered {answer[:200]!r}")
    return time.perf_counter() - began
