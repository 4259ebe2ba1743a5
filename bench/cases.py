"""What is measured: requests under load, open connections, a cold start, the start of the daemon."""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import children
import load
import measure
import peers
from report import Goal, Table

UPGRADES = 1000
FLYATC_OFF = "flyatc-off"  # compresses and caches nothing, as the peers


@dataclass(frozen=True)
class Sample:
    """One press of one proxy."""

    load: load.Load
    user: float  # seconds of CPU
    system: float
    resident: int  # octets, right after

    @property
    def cpu(self) -> float:
        return self.user + self.system


Rounds = dict[str, list[Sample]]


def press(
    proxy: peers.Proxy, place: peers.Place, path: str, seconds: int, connections: int, headers: Sequence[str] = ()
) -> Sample:
    url = f"http://127.0.0.1:{proxy.port}{path}"
    pids = measure.family(proxy.pid, place.apps())
    user, system = measure.cpu_times(pids)
    seen = load.press(url, seconds=seconds, connections=connections, cores=place.rest, headers=headers)
    after = measure.cpu_times(pids)
    return Sample(seen, after[0] - user, after[1] - system, measure.resident_octets(pids))


def rounds(
    proxies: Sequence[peers.Proxy], place: peers.Place, path: str, *, seconds: int, connections: int, count: int
) -> Rounds:
    """A B C A B C …: whatever else the machine does then meets them all."""
    found: Rounds = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:  # warm: the pools filled
        press(proxy, place, path, 1, connections)
    for _ in range(count):
        for proxy in proxies:
            found[proxy.name].append(press(proxy, place, path, seconds, connections))
    return found


def micros(sample: Sample) -> float:
    return sample.cpu * 1e6 / max(1, sample.load.requests)


def user_micros(sample: Sample) -> float:
    return sample.user * 1e6 / max(1, sample.load.requests)


def per_gigabyte(sample: Sample) -> float:
    return sample.cpu * 1e3 / max(1e-9, sample.load.octets / 1e9)


def ratio(found: Rounds, one: str, other: str, cost: Callable[[Sample], float] = micros) -> float:
    """What ``one`` costs beside ``other``: the median of the rounds' own ratios. Not a number where one is not here."""
    pairs = zip(found.get(one, []), found.get(other, []), strict=False)
    return measure.median(cost(a) / cost(b) for a, b in pairs if cost(b))


def small_answers(found: Rounds) -> Table:
    table = Table(
        "Small answers, warm, log on, 64 connections",
        [
            "", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "of it user", "× nginx", "× Caddy", "resident MB",
            "errors",
        ],
    )  # fmt: skip
    for name, samples in found.items():
        table.rows.append([
            name,
            measure.median(s.load.requests / s.load.seconds for s in samples),
            measure.median(s.load.p50 / 1000 for s in samples),
            measure.median(s.load.p99 / 1000 for s in samples),
            measure.median(map(micros, samples)),
            measure.median(map(user_micros, samples)),
            ratio(found, name, "nginx"),
            ratio(found, name, "caddy"),
            measure.median(s.resident / 2**20 for s in samples),
            str(sum(s.load.errors for s in samples)),
        ])  # fmt: skip
    table.goals = [
        Goal("flyatc's CPU a request beside nginx", ratio(found, "flyatc", "nginx"), 3.0, " ×"),
        Goal("with delivery off, beside nginx", ratio(found, FLYATC_OFF, "nginx"), 2.9, " ×"),
        Goal("flyatc's CPU a request beside Caddy", ratio(found, "flyatc", "caddy"), 0.65, " ×"),
        Goal("with 10 000 tenants, beside two", ratio(found, "flyatc-10k", "flyatc"), 1.05, " ×"),
    ]
    if "thruster" in found:
        table.goals.append(Goal("as installed, beside thruster", ratio(found, "flyatc", "thruster"), 0.25, " ×"))
    return table


def long_answers(size: str, found: Rounds, connections: int = 8) -> Table:
    table = Table(f"Answers of {size}, {connections} connections", ["", "MB/s", "CPU ms/GB", "× nginx", "errors"])
    for name, samples in found.items():
        table.rows.append([
            name,
            measure.median(s.load.octets / s.load.seconds / 1e6 for s in samples),
            measure.median(map(per_gigabyte, samples)),
            ratio(found, name, "nginx", per_gigabyte),
            str(sum(s.load.errors for s in samples)),
        ])  # fmt: skip
    if size == "64 KB":
        reached = ratio(found, FLYATC_OFF, "nginx", per_gigabyte)
        table.goals = [Goal("flyatc's CPU a gigabyte beside nginx", reached, 1.5, " ×")]
    if size == "10 MB":
        # beside the cheapest the ratio is the largest
        beside = [ratio(found, FLYATC_OFF, other, per_gigabyte) for other in found if other != FLYATC_OFF]
        reached = max(beside, default=float("nan"))
        table.goals = [Goal("flyatc's CPU a gigabyte beside the best", reached, 1.1, " ×")]
    return table


def upgrades(proxies: Sequence[peers.Proxy], place: peers.Place) -> Table:
    table = Table(f"{UPGRADES} open WebSockets", ["", "resident KB each"])
    each = dict.fromkeys((proxy.name for proxy in proxies), float("nan"))
    for proxy in proxies:
        with contextlib.suppress(RuntimeError, OSError, asyncio.IncompleteReadError):
            each[proxy.name] = asyncio.run(_resident_each(proxy, place))
    table.rows = [[name, kilobytes] for name, kilobytes in each.items()]
    table.goals = [Goal("flyatc", each.get(FLYATC_OFF, float("nan")), 20, " KB")]
    return table


async def _resident_each(proxy: peers.Proxy, place: peers.Place) -> float:
    for writer in await load.open_upgrades(proxy.port, 1):
        writer.close()
    pids = measure.family(proxy.pid, place.apps())
    before = measure.resident_octets(pids)
    writers = await load.open_upgrades(proxy.port, UPGRADES)
    after = measure.resident_octets(pids)
    for writer in writers:
        writer.close()
    return (after - before) / UPGRADES / 1024


COLD = """
server: {{listen: "127.0.0.1:{port}", data: data}}
storage: {{url: "file:store"}}
app:
  isolation: "off"  # it writes into the bench's folder
  command: [{python}, -I, -S, {here}/cold_app.py]
  env: {{LISTENING: "{home}/{{user}}"}}
  databases: [app.sqlite3]
limits: {{running: 100}}
users:
{users}
"""


def cold_start(place: peers.Place, count: int) -> Table:
    """The whole machine for everybody here: flyatc and the app it starts are not made to share one core."""
    home, port, everywhere = place.folder / "cold", children.free_port(), place.proxy | place.rest
    home.mkdir()
    users = "\n".join(f"  c{number}:" for number in range(count))
    text = COLD.format(port=port, python=sys.executable, here=peers.HERE, home=home, users=users)
    (home / "tenants.yaml").write_text(text)
    own, before, after = [], [], []
    with children.running(
        peers.flyatc_command(), port=port, cores=everywhere, output=home / "output.log", env=peers.flyatc_environment()
    ):
        for number in range(count):
            own.append(own_time(place, number))
            asked = time.monotonic_ns()
            answered = load.first_byte(port, f"/c{number}/")
            listening = int((home / f"c{number}").read_text())
            before.append((listening - asked) / 1e6)
            after.append((answered - listening) / 1e6)
    mine, whole = statistics.median(own), statistics.median(map(sum, zip(before, after, strict=True)))
    return Table(
        f"Cold start, the first visit of {count} tenants in turn, medians in ms",
        ["", "ms"],
        [
            ["the app alone, from exec to listening", mine],
            ["with flyatc, from the request to listening", statistics.median(before)],
            ["from listening to the first byte", statistics.median(after)],
            ["overhead", whole - mine],
        ],
        [Goal("overhead", whole - mine, 15, " ms")],
    )


def own_time(place: peers.Place, number: int) -> float:
    """Milliseconds from exec to listening, without flyatc."""
    note, port = place.folder / f"alone-{number}", children.free_port()
    note.unlink(missing_ok=True)
    env = {"PORT": str(port), "LISTENING": str(note)}
    started = time.monotonic_ns()
    app = subprocess.Popen([sys.executable, "-I", "-S", str(peers.HERE / "cold_app.py")], env=env)
    try:
        children.await_listening(app, port, Path("/dev/null"), "the app")
        while not note.exists() or not note.read_text():
            children.pause(0.001)
        return (int(note.read_text()) - started) / 1e6
    finally:
        children.end(app)


def daemon_start(place: peers.Place, count: int) -> Table:
    table = Table(f"Start of the daemon to listening, median of {count}", ["", "ms"])
    for name in ("flyatc", "flyatc-10k"):
        found = []
        for _ in range(count):
            started = time.monotonic()
            with peers.flyatc(place, name, 10_000 if name == "flyatc-10k" else 0):
                found.append((time.monotonic() - started) * 1000)
        table.rows.append([name, statistics.median(found)])
    table.goals = [Goal("flyatc", float(table.rows[0][1]) / 1000, 0.4, " s")]
    return table
