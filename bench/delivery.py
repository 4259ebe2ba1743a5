"""What compression, cache and files cost: beside nginx doing the same, and beside flyatc doing none of it."""

import contextlib
import http.client
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cases
import delivering
import measure
import peers
from report import Goal, Table

ALL = ["idle", "cached", "file", "packed", "memory"]
GZIP, PLAIN = "Accept-Encoding: gzip", "Accept-Encoding:"
NO_RELOAD = "Cache-Control:"  # a reload wants the answer from the app


@dataclass(frozen=True)
class Target:
    """One row. ``like``: its headers when it does what it is here for, in lower case."""

    name: str
    proxy: delivering.Deliverer
    path: str
    headers: tuple[str, ...] = ()
    like: tuple[tuple[str, str | None], ...] = ()


def _sure(target: Target) -> None:
    """Asks three times: the last answer has to be what is to be measured. Raises RuntimeError."""
    headers = dict(line.split(": ", 1) for line in target.headers if not line.endswith(":"))
    connection = http.client.HTTPConnection("127.0.0.1", target.proxy.port, timeout=30)
    for _ in range(3):
        connection.request("GET", target.path, headers=headers)
        answer = connection.getresponse()
        answer.read()
    connection.close()
    found = tuple((name, (answer.headers[name] or "").lower() or None) for name, _ in target.like)
    if (answer.status, found) != (200, target.like):
        raise RuntimeError(f"{target.name} {target.path}: {answer.status} with {found} is not what is to be measured")


def _rounds(targets: Sequence[Target], place: peers.Place, seconds: int, connections: int, count: int) -> cases.Rounds:
    """A B C A B C …, as all cases are."""

    def press(target: Target, seconds: int) -> cases.Sample:
        return cases.press(target.proxy, place, target.path, seconds, connections, target.headers)

    for target in targets:
        _sure(target)
        press(target, 1)
    found: cases.Rounds = {target.name: [] for target in targets}
    for _ in range(count):
        for target in targets:
            found[target.name].append(press(target, seconds))
    return found


def _table(title: str, found: cases.Rounds, beside: str) -> Table:
    table = Table(title, ["", "requests/s", "CPU µs/request", f"× {beside}", "octets each", "errors"])
    for name, samples in found.items():
        table.rows.append([
            name,
            measure.median(s.load.requests / s.load.seconds for s in samples),
            measure.median(map(cases.micros, samples)),
            cases.ratio(found, name, beside),
            measure.median(s.load.octets / max(1, s.load.requests) for s in samples),
            str(sum(s.load.errors for s in samples)),
        ])  # fmt: skip
    return table


class Bench:
    """``quick``: one round of a second, instead of five of two."""

    def __init__(self, place: peers.Place, nginx: delivering.Deliverer, flyatc: delivering.Deliverer, quick: bool):
        self._place, self._nginx, self._flyatc = place, nginx, flyatc
        self._seconds, self._count = (1, 1) if quick else (2, 5)

    def case(self, name: str) -> Table:
        if name == "memory":
            return memory(self._place)
        return {"idle": self.idle, "cached": self.cached, "file": self.file, "packed": self.packed}[name]()

    def idle(self) -> Table:
        """Switched on, and nothing to do: too small, private, no file."""
        off, on = "flyatc, all off", "flyatc, all on"
        targets = [Target(off, self._flyatc, "/bare/small"), Target(on, self._flyatc, "/full/small")]
        found = self._press(targets, 64)
        table = _table("Delivery on, but not applying: small answers, 64 connections", found, off)
        table.goals = [Goal("all of delivery beside none of it", cases.ratio(found, on, off), 1.1, " ×")]
        return table

    def cached(self) -> Table:
        def target(name: str, proxy: delivering.Deliverer, path: str, coding: str | None) -> Target:
            headers = NO_RELOAD, GZIP if coding else PLAIN
            return Target(name, proxy, path, headers, (("x-cache", "hit"), ("content-encoding", coding)))

        plain, packed, each = "nginx", "nginx, the app packs", "nginx, packs each hit"
        found = self._press([
            target(plain, self._nginx, "/cached/asset", None),
            target("flyatc", self._flyatc, "/full/asset", None),
            target(packed, self._nginx, "/cached-packed/asset", "gzip"),
            target(each, self._nginx, "/cached-gzip6/asset", "gzip"),
            target("flyatc, gzip", self._flyatc, "/full/asset", "gzip"),
        ], 64)  # fmt: skip
        table = _table("A hit of 10 KB, 64 connections", found, plain)
        table.goals = [
            Goal("plain, beside proxy_cache", cases.ratio(found, "flyatc", plain), 2.0, " ×"),
            Goal("gzip, beside what the app had packed", cases.ratio(found, "flyatc, gzip", packed), 2.0, " ×"),
            Goal("gzip, beside gzip of each hit", cases.ratio(found, "flyatc, gzip", each), 1.3, " ×"),
        ]
        return table

    def file(self) -> Table:
        targets = [
            Target("nginx", self._nginx, "/named/file", (), (("content-length", str(100 << 20)),)),
            Target("flyatc", self._flyatc, "/full/file", (), (("content-length", str(100 << 20)),)),
        ]
        found = self._press(targets, 4)
        table = cases.long_answers("100 MB which the app names", found, 4)
        reached = cases.ratio(found, "flyatc", "nginx", cases.per_gigabyte)
        table.goals = [Goal("X-Sendfile beside X-Accel-Redirect", reached, 1.1, " ×")]
        return table

    def packed(self) -> Table:
        def target(name: str, proxy: delivering.Deliverer, path: str, coding: str | None) -> Target:
            return Target(
                name, proxy, path, (f"Accept-Encoding: {coding or ''}".strip(),), (("content-encoding", coding),)
            )

        beside = "nginx, gzip 6"
        found = self._press([
            target(beside, self._nginx, "/gzip6/page", "gzip"),
            target("nginx, gzip 1", self._nginx, "/gzip1/page", "gzip"),
            target("nginx, plain", self._nginx, "/plain/page", None),
            target("flyatc, zstd", self._flyatc, "/full/page", "zstd"),
            target("flyatc, gzip", self._flyatc, "/full/page", "gzip"),
            target("flyatc, br", self._flyatc, "/full/page", "br"),
            target("flyatc, plain", self._flyatc, "/full/page", None),
        ], 16)  # fmt: skip
        table = _table("A page of 20 KB, compressed on its way, 16 connections", found, beside)
        table.goals = [
            Goal(f"{coding} beside gzip 6", cases.ratio(found, f"flyatc, {coding}", beside), 1.1, " ×")
            for coding in ("zstd", "gzip")
        ]
        return table

    def _press(self, targets: Sequence[Target], connections: int) -> cases.Rounds:
        return _rounds(targets, self._place, self._seconds, connections, self._count)


def memory(place: peers.Place) -> Table:
    """Each row a daemon of its own: what others had before would be used again."""
    table = Table("Memory of the cache", ["", "entries", "accounted MB", "resident MB more", "÷"])
    rows = ("1 KB", "note", 20_000, ()), ("10 KB", "asset", 5_000, ()), ("10 KB, and its gzip", "asset", 5_000, (GZIP,))
    for number, (name, path, count, headers) in enumerate(rows):
        with delivering.flyatc(place, f"flyatc-memory{number}") as proxy:
            _ask(proxy, "/bare/small", 2_000, ())
            _ask(proxy, f"/full/{path}", 200, headers)
            pids = measure.family(proxy.pid, place.apps())
            before, had = measure.resident_octets(pids), _accounted(proxy)
            _ask(proxy, f"/full/{path}?", count, headers)
            more, kept = measure.resident_octets(pids) - before, _accounted(proxy)
        grown = kept["bytes"] - had["bytes"]
        table.rows.append([name, kept["entries"], grown / 2**20, more / 2**20, more / grown])
        table.goals.append(Goal(f"{name}: resident beside accounted", more / grown, 1.15, " ×"))
    return table


def _ask(proxy: delivering.Deliverer, path: str, count: int, headers: Sequence[str]) -> None:
    """``count`` requests over one connection, twice each where headers ask for a form which only a hit is given. A path
    that ends in '?' is another one each time."""
    wanted = dict(header.split(": ") for header in headers)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)) as connection:
        for number in range(count):
            target = f"{path}{number}" if path.endswith("?") else path
            for _ in range(2 if headers else 1):
                connection.request("GET", target, headers=wanted)
                connection.getresponse().read()


def _accounted(proxy: delivering.Deliverer) -> dict[str, float]:
    """``bytes`` and ``entries`` of the cache, by flyatc's own count."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.control, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        told = connection.getresponse().read().decode()
    return {name: float(value) for name, value in re.findall(r"^flyatc_cache_(bytes|entries) (\S+)$", told, re.M)}
