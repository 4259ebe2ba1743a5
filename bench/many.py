"""Many machines, many users: what a replay costs, what ten thousand users cost, and a storm of users nobody knows."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cases
import children
import load
import machines
import measure
import peers
import private_dns
from report import Goal, Table

ALL = ["replay", "users", "storm"]
USERS = 10_000
RATE = 1_000  # strangers a second
LEISURE = ("think=10",)  # of the warm visitors: milliseconds between two requests of each
CALM, ELSEWHERE = "calm", "the storm goes to nginx"
HEAD = (
    "GET /far/ HTTP/1.1\r\nHost: bench.fly.dev\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/137.0.0.0\r\n"
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.7\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nCookie: session=nW3vTq0yJp8aZ1cXeR5uLk7mB2dG9hF4sQ6oI0wEtYvNzKj\r\n"
    "Cache-Control: max-age=0\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n\r\n"
)


@dataclass(frozen=True)
class Target:
    """One row. ``status``: of all its answers."""

    name: str
    proxy: peers.Proxy
    path: str
    status: int
    arguments: tuple[str, ...] = ()


def measured(place: peers.Place, name: str, *, quick: bool) -> Iterator[Table]:
    """Raises NotListening, RuntimeError, OSError."""
    dns = private_dns.Dns(machines.APP, place.rest)
    yield from {"replay": replays, "users": users, "storm": storm}[name](place, dns, quick=quick)


# --- replays ---


def replays(place: peers.Place, dns: private_dns.Dns, *, quick: bool) -> Iterator[Table]:
    with machines.nginx(place) as nginx, machines.flyatc(place, "flyatc-replay", dns) as proxy:
        targets = [
            Target("nginx, a fixed answer", nginx, "/far/", 409),
            Target("flyatc, found in the DNS", proxy, "/far/", 409),
            Target("flyatc, pinned by the file", proxy, "/pinned/", 409),
            Target("flyatc, pinned, delivery on", proxy, "/full/", 409),
            Target("flyatc, no such user", proxy, "/nobody/", 404),
            Target("flyatc, warm, by his app", proxy, "/bench/small", 200),
        ]
        found = _rounds(targets, place, seconds=1 if quick else 2, connections=64, count=1 if quick else 7)
        yield _of_replays(found)
        yield _decision(place, "flyatc-replay")


def _of_replays(found: cases.Rounds) -> Table:
    beside = next(iter(found))
    table = Table("Replays to another machine, log on, 64 connections", ["", "requests/s", "CPU µs/request", "× nginx"])
    for name, samples in found.items():
        table.rows.append([
            name,
            measure.median(s.load.requests / s.load.seconds for s in samples),
            measure.median(map(cases.micros, samples)),
            cases.ratio(found, name, beside),
        ])  # fmt: skip
    table.goals = [
        Goal("a replay, found in the DNS", float(table.rows[1][2]), 60, " µs"),
        Goal("the same beside nginx", float(table.rows[1][3]), 3.5, " ×"),
    ]
    return table


def _decision(place: peers.Place, name: str) -> Table:
    head = place.folder / "head"
    head.write_text(HEAD)
    command = [sys.executable, str(peers.HERE / "decision.py"), str(place.folder / name / "tenants.yaml"), str(head)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, place.proxy)
    )
    if done.returncode:
        raise RuntimeError(f"decision.py: {done.stderr.strip().splitlines()[-1:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    table = Table("The decision alone, in process", ["", "CPU µs"])
    table.rows = [
        ["where he is served, from the cache", told["known_us"]],
        ["the whole decision, and the header for Fly Proxy", told["sends_us"]],
    ]
    table.goals = [Goal("a decision from the cache", told["sends_us"], 60, " µs")]
    return table


# --- ten thousand users ---


def users(place: peers.Place, dns: private_dns.Dns, *, quick: bool) -> Iterator[Table]:
    names = {"three": 0, f"{USERS} listed": USERS, f"{USERS} of '*'": 0}
    memory: dict[str, list[float]] = {}
    with machines.flyatc(place, "flyatc-before", dns) as proxy:  # whoever is first makes the bytecode, in memory
        _sure(Target("before", proxy, "/far/", 409))
    with contextlib.ExitStack() as stack:
        proxies = {}
        for number, (name, others) in enumerate(names.items()):
            proxy = stack.enter_context(machines.flyatc(place, f"flyatc-users{number}", dns, others))
            proxies[name] = proxy
            memory[name] = [_resident(proxy, place)]
            for path, status in (("/bench/small", 200), ("/far/", 409)):
                _sure(Target(name, proxy, path, status))
            memory[name].append(_resident(proxy, place))
            _ask_all(proxy, place, 3 if name == "three" else USERS)
            memory[name].append(_resident(proxy, place))
        yield _of_memory(memory)
        yield _of_lookups(proxies, place, quick=quick)
        yield _of_reload(proxies, place)


def _resident(proxy: peers.Proxy, place: peers.Place) -> float:
    """MB, once it has come to rest."""
    children.pause(1.0)
    return measure.resident_octets(measure.family(proxy.pid, place.apps())) / 2**20


def _ask_all(proxy: peers.Proxy, place: peers.Place, count: int) -> None:
    """So many users in turn, each of whom is on another machine. Each press begins with the first of them."""
    url, seconds, seen = f"http://127.0.0.1:{proxy.port}/f0/", 2, 0
    while seen < USERS:
        seconds *= 2
        arguments = (f"users={count}",)
        seen = load.press(url, seconds=seconds, connections=16, cores=place.rest, headers=arguments).requests


def _of_memory(memory: Mapping[str, Sequence[float]]) -> Table:
    table = Table(
        "Resident memory, MB", ["", "at the start", "one local, one replayed", "all replayed", "KB each user more"]
    )
    empty = memory["three"]
    for name, found in memory.items():
        more = max(found[0] - empty[0], found[2] - empty[2])
        table.rows.append([name, *found, "" if name == "three" else more * 1024 / USERS])
        if name != "three":
            for column, when in ((0, "at the start"), (2, "all replayed")):
                table.goals.append(Goal(f"{name}, {when}: more than three", found[column] - empty[column], 25, " MB"))
    return table


def _of_lookups(proxies: Mapping[str, peers.Proxy], place: peers.Place, *, quick: bool) -> Table:
    table = Table("CPU a request beside three users", ["", "local, warm, µs", "×", "replayed, µs", "×", "in turn, µs"])
    seconds, count = (1, 1) if quick else (2, 7)
    kinds = {"warm": ("/bench/small", 200, ()), "replayed": ("/far/", 409, ())}
    found = {}
    for kind, (path, status, arguments) in kinds.items():
        targets = [Target(name, proxy, path, status, arguments) for name, proxy in proxies.items()]
        found[kind] = _rounds(targets, place, seconds=seconds, connections=64, count=count)
    targets = [
        Target(name, proxy, "/f0/", 409, (f"users={3 if name == 'three' else USERS}",))
        for name, proxy in proxies.items()
    ]
    found["in turn"] = _rounds(targets, place, seconds=seconds, connections=64, count=count)
    for name in proxies:
        ratios = {kind: cases.ratio(found[kind], name, "three") for kind in kinds}
        micros = {kind: measure.median(map(cases.micros, rounds[name])) for kind, rounds in found.items()}
        table.rows.append(
            [name, micros["warm"], ratios["warm"], micros["replayed"], ratios["replayed"], micros["in turn"]]
        )
        if name != "three":
            table.goals += [Goal(f"{name}, {kind}", ratio, 1.05, " ×") for kind, ratio in ratios.items()]
    return table


def _of_reload(proxies: Mapping[str, peers.Proxy], place: peers.Place) -> Table:
    table = Table("A reload (SIGHUP) of a file in which nothing has changed, mean of 5", ["", "CPU ms"])
    for number, (name, proxy) in enumerate(proxies.items()):
        log, began = place.folder / f"flyatc-users{number}" / "output.log", measure.cpu_seconds([proxy.pid])
        for _ in range(5):
            _reload(proxy, log)
        table.rows.append([name, (measure.cpu_seconds([proxy.pid]) - began) * 1000 / 5])
    return table


def _reload(proxy: peers.Proxy, log: Path) -> None:
    """Returns when it has told of it. All visitors wait for it."""
    before = log.stat().st_size
    os.kill(proxy.pid, signal.SIGHUP)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with log.open("rb") as lines:
            lines.seek(before)
            if b'"reloaded"' in lines.read():
                return
        children.pause(0.01)
    raise RuntimeError("a reload was not told of within 30 s")


# --- a storm ---


@dataclass(frozen=True)
class Weather:
    """Of one spell: what the warm visitors saw, what became of the strangers, what the DNS was asked."""

    warm: cases.Sample
    storm: dict[str, object]
    asked: dict[str, int]


def storm(place: peers.Place, dns: private_dns.Dns, *, quick: bool) -> Iterator[Table]:
    seconds, count = (3, 1) if quick else (5, 5)
    found: dict[str, list[Weather]] = {}
    first = iter(range(0, 10**9, RATE * 100))
    with machines.nginx(place) as nginx, machines.flyatc(place, "flyatc-storm", dns) as proxy:
        _sure(Target("warm", proxy, "/bench/small", 200))
        spells: dict[str, peers.Proxy | None] = {
            CALM: None,
            ELSEWHERE: nginx,
            "the storm comes here": proxy,
            "it comes, and the DNS is silent": proxy,
        }
        for _ in range(count):
            for name, at in spells.items():
                dns.silent = "silent" in name
                found.setdefault(name, []).append(_spell(proxy, place, dns, at, seconds, next(first)))
                dns.silent = False
                children.pause(3.0)  # whoever waits is told, and the DNS is asked again
    yield _of_storm(found, seconds)


def _spell(
    proxy: peers.Proxy, place: peers.Place, dns: private_dns.Dns, at: peers.Proxy | None, seconds: int, first: int
) -> Weather:
    """The warm visitors come a second after the storm has begun, and leave before its end."""
    dns.look()
    told: dict[str, object] = {}
    raging = None
    if at is not None:
        raging = _rage(place, at, seconds + 2, first)
        children.pause(1.0)
    try:
        warm = cases.press(proxy, place, "/bench/small", seconds, 8, LEISURE)
    finally:
        if raging is not None:
            out, _ = raging.communicate(timeout=60)
            told = json.loads(out)
    return Weather(warm, told, dns.look())


def _rage(place: peers.Place, at: peers.Proxy, seconds: int, first: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(peers.HERE / "strangers.py"), str(at.port), str(RATE), str(seconds), str(first)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, place.rest)
    )


def _of_storm(found: Mapping[str, Sequence[Weather]], seconds: int) -> Table:
    table = Table(
        f"{RATE} users a second whom nobody knows; warm visitors at leisure, 8 connections",
        ["", "warm requests/s", "p50 ms", "p99 ms", "× calm", "× elsewhere", "CPU %", "answered", "DNS questions/s"],
    )
    for name, spells in found.items():
        table.rows.append([
            name,
            measure.median(w.warm.load.requests / w.warm.load.seconds for w in spells),
            measure.median(w.warm.load.p50 / 1000 for w in spells),
            measure.median(w.warm.load.p99 / 1000 for w in spells),
            _slower(spells, found[CALM]),
            _slower(spells, found[ELSEWHERE]),
            measure.median(w.warm.cpu / w.warm.load.seconds * 100 for w in spells),
            _answers(spells),
            measure.median(sum(w.asked.values()) / (seconds + 2) for w in spells),
        ])  # fmt: skip
        if name not in (CALM, ELSEWHERE):
            table.goals.append(Goal(f"{name}: p99 beside calm", _slower(spells, found[CALM]), 2, " ×"))
    return table


def _slower(spells: Sequence[Weather], others: Sequence[Weather]) -> float:
    """The median of the rounds' own ratios of p99; of who was answered nothing there is none."""
    pairs = [(a.warm.load.p99, b.warm.load.p99) for a, b in zip(spells, others, strict=True)]
    return measure.median(a / b if a and b else float("inf") for a, b in pairs)


def _answers(spells: Sequence[Weather]) -> str:
    total: dict[str, int] = {}
    for spell in spells:
        answered = spell.storm.get("answered", {})
        assert isinstance(answered, dict)
        for status, number in answered.items():
            total[status] = total.get(status, 0) + number
    return " ".join(f"{number}×{status}" for status, number in sorted(total.items()))


# --- all ---


def _sure(target: Target) -> None:
    """Whether it is answered as it is to be. Raises RuntimeError."""
    seen = load.status(target.proxy.port, target.path)
    if seen != target.status:
        raise RuntimeError(f"{target.name} {target.path}: {seen} is not what is to be measured")


def _rounds(
    targets: Sequence[Target], place: peers.Place, *, seconds: int, connections: int, count: int
) -> cases.Rounds:
    """A B C A B C …, as all cases are."""

    def press(target: Target, seconds: int) -> cases.Sample:
        sample = cases.press(target.proxy, place, target.path, seconds, connections, target.arguments)
        refused = sample.load.requests if target.status >= 400 else 0
        if sample.load.errors != sample.load.refused or sample.load.refused != refused:
            raise RuntimeError(f"{target.name}: not all were answered with {target.status}: {sample.load}")
        return sample

    for target in targets:
        _sure(target)
        press(target, 1)
    found: cases.Rounds = {target.name: [] for target in targets}
    for _ in range(count):
        for target in targets:
            found[target.name].append(press(target, seconds))
    return found
