"""A herd of cold starts: the first visits of many tenants at once, after a deploy or a reboot; and a warm neighbour.

python bench/herd.py [ROUNDS [LIMIT …]]: alone, with other limits. HERD_WORK=1: each app takes a second of CPU more.
"""

import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import children
import load
import peers
from report import Goal, Table

HERD = 80
NO_LIMIT = 1000
CONFIG = """
server: {{listen: "127.0.0.1:{port}", data: data}}
storage: {{url: "file:store"}}
app:
  isolation: "off"  # it writes into the bench's folder
  command: [{python}, -I, -S, {here}/herd_app.py]
  start_timeout: 2m
  databases: [app.sqlite3]
limits: {{running: 200{starting}}}
users:
  warm: {{}}
{users}
"""


@dataclass
class Seen:
    """Seconds: of the herd's first bytes, of each request of the neighbour, and how many were refused."""

    waits: list[float] = field(default_factory=list)
    neighbour: list[float] = field(default_factory=list)
    refused: int = 0


def cold_starts(place: peers.Place, rounds: int, limits: tuple[int | None, ...] = (NO_LIMIT, None)) -> Table:
    """``limits``: of limits.starting; None: the default. Interleaved."""
    found: dict[int | None, list[Seen]] = {limit: [] for limit in limits}
    for number in range(rounds):
        for limit in limits:
            found[limit].append(one_herd(place.folder / f"herd{number}-{limit}", limit))
    table = Table(
        f"{HERD} first visits at once, {len(os.sched_getaffinity(0))} cores, medians of {rounds} rounds, in ms",
        ["limits.starting", "median", "p99", "last", "neighbour's p50", "p99", "refused"],
    )
    for limit, seen in found.items():
        name = "none" if limit == NO_LIMIT else "as installed" if limit is None else str(limit)
        table.rows.append([name, *figures(seen), float(sum(one.refused for one in seen))])
    if NO_LIMIT in found and None in found:
        without, installed = figures(found[NO_LIMIT]), figures(found[None])
        table.goals = [
            Goal("median wait, as a share of that without a limit", installed[0] / without[0], 1.1),
            Goal("the neighbour's p99, as a share of that without a limit", installed[4] / without[4], 0.7),
        ]
    return table


def figures(seen: list[Seen]) -> list[float]:
    """Each the median of the rounds."""

    def ms(values: list[float]) -> float:
        return statistics.median(values) * 1000

    return [
        ms([statistics.median(one.waits) for one in seen]),
        ms([high(one.waits) for one in seen]),
        ms([max(one.waits) for one in seen]),
        ms([statistics.median(one.neighbour) for one in seen]),
        ms([high(one.neighbour) for one in seen]),
    ]


def high(values: list[float]) -> float:
    """p99."""
    return sorted(values)[int(0.99 * (len(values) - 1))]


def one_herd(home: Path, limit: int | None) -> Seen:
    home.mkdir()
    port, seen = children.free_port(), Seen()
    starting = "" if limit is None else f", starting: {limit}"
    users = "\n".join(f"  c{number}: {{}}" for number in range(HERD))
    text = CONFIG.format(port=port, python=sys.executable, here=peers.HERE, starting=starting, users=users)
    (home / "tenants.yaml").write_text(text)
    cores = os.sched_getaffinity(0)
    env = peers.flyatc_environment()
    with children.running(peers.flyatc_command(), port=port, cores=cores, output=home / "output.log", env=env):
        load.first_byte(port, "/warm/")
        over = threading.Event()
        with ThreadPoolExecutor(HERD + 1) as pool:
            neighbour = pool.submit(visit_warm, port, over, seen)
            began = time.monotonic_ns()
            herd = [pool.submit(load.first_byte, port, f"/c{number}/", 120) for number in range(HERD)]
            for one in herd:
                try:
                    seen.waits.append((one.result() - began) / 1e9)
                except (RuntimeError, OSError):
                    seen.refused += 1
            over.set()
            neighbour.result()
    return seen


def visit_warm(port: int, over: threading.Event, seen: Seen) -> None:
    """One request after the other on one connection, a hundred a second."""
    with socket.create_connection(("127.0.0.1", port), 60) as raw:
        while not over.is_set():
            began = time.monotonic()
            raw.sendall(b"GET /warm/ HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                if not (more := raw.recv(65536)):
                    raise RuntimeError(f"the warm neighbour got {answer[:60]!r}")
                answer += more
            seen.neighbour.append(time.monotonic() - began)
            time.sleep(0.01)


if __name__ == "__main__":
    rounds, *limits = [int(word) for word in sys.argv[1:]] or [3]
    folder = Path(tempfile.mkdtemp(prefix="flyatc-herd-"))
    try:
        cores = os.sched_getaffinity(0)
        print(cold_starts(peers.Place(folder, cores, cores), rounds, tuple(limits) or (NO_LIMIT, None)).text())
    finally:
        shutil.rmtree(folder)
