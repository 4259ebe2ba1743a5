"""What a store costs: restores, cold starts, a stop at which nothing has changed, idleness, renewals under load."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise

import cases
import children
import fleets
import measure
import peers
import restores
import stores
from report import Goal, Table

ALL = ["restore", "restore1g", "bucket", "calls", "renewal"]
MODES = "snapshot", "litestream"
TTL, SHORT_TTL = 30.0, 10.0  # s; of a session, which is renewed three times as often; short: as short as it may be
STEPS = {
    "owning": "owning",
    "user owned": "… of it the records",
    "restoring": "restoring",
    "restored": "… of it the database",
    "starting": "starting",
}
TENANTS, LOADED = 100, 10


def measured(place: peers.Place, name: str, *, quick: bool) -> Iterator[Table]:
    megabytes, rounds = {"restore": (100, 1 if quick else 5), "restore1g": (1000, 1 if quick else 3)}.get(name, (0, 0))
    if megabytes:
        yield restores.snapshots(place, megabytes, rounds)
        yield restores.streamed(place, megabytes, rounds)
    elif name == "bucket":
        yield from cold_starts(place, 3 if quick else 9)
    elif name == "calls":
        yield idle(place, 20 if quick else 60)
    else:
        yield renewals(place, 100 if quick else 300)


@contextlib.contextmanager
def _fleet(place: peers.Place, mode: str, users: int, octets: int, ttl: float = TTL) -> Iterator[fleets.Fleet]:
    """Its bucket has a database of so many octets for each user."""
    with stores.moto(place) as store:
        fleet = fleets.Fleet(place, store, store.bucket(), mode, users, place.folder / f"fleet-{mode}", ttl)
        seed = stores.database(place.folder / "seed.sqlite3", octets)
        fleet.fill(seed)
        seed.unlink()
        yield fleet


# --- cold starts, and the stop after them ---


def cold_starts(place: peers.Place, count: int) -> Iterator[Table]:
    own = statistics.median(cases.own_time(place, number) for number in range(count))
    table = Table(
        f"Cold start with a database of 10 MB from moto, medians of {count}, in ms; the app alone takes {own:.1f}",
        ["", "to listening", "to the answer", "overhead", "requests", *STEPS.values()],
    )
    stops = Table(
        "Stop when nothing was changed",
        ["", "ms", "requests", "PUTs", "of a database", "octets of a database sent since the daemon began"],
    )
    for mode in MODES:
        with _fleet(place, mode, 2, 10 << 20) as fleet:
            first, second = _Starts(), _Starts()
            for _ in range(count):
                with fleet.daemon() as daemon:
                    first.note(daemon, 0)
                    second.note(daemon, 1)
                    daemon.await_quiet()
                    since = time.monotonic()
                    children.end(daemon.child)
                    ended = time.monotonic()
                    first.note_steps(daemon, 0)
                    second.note_steps(daemon, 1)
            stops.rows.append([mode, *_stop(fleet, daemon.began, since, ended)])
            table.rows += [first.row(f"{mode}, the first of a daemon", own), second.row(f"{mode}, the next", own)]
            overhead = measure.median(first.answers) - own
            table.goals.append(Goal(f"{mode}, over the app's own", overhead / 1000, 0.35, " s"))
    yield table
    stops.goals = [Goal(f"{row[0]}, PUTs of a database at stop", float(row[4]), 0) for row in stops.rows]
    yield stops


class _Starts:
    """Times in ms. ``requests``: of flyatc and of litestream, until the app began to listen."""

    def __init__(self) -> None:
        self.listens: list[float] = []
        self.answers: list[float] = []
        self.requests: list[int] = []
        self.steps: dict[str, list[float]] = {step: [] for step in STEPS}

    def note(self, daemon: fleets.Daemon, user: int) -> None:
        asked = time.monotonic()
        daemon.visit(user)
        answered, listening = time.monotonic(), daemon.listening(user)
        self.listens.append((listening - asked) * 1000)
        self.answers.append((answered - asked) * 1000)
        self.requests.append(len(daemon.fleet.store.requests(asked, listening)))

    def note_steps(self, daemon: fleets.Daemon, user: int) -> None:
        """When the daemon has ended: the log is written in batches."""
        for step, ms in daemon.told(user).items():
            if step in self.steps:
                self.steps[step].append(ms)

    def row(self, name: str, own: float) -> list[str | float]:
        listens, answers = measure.median(self.listens), measure.median(self.answers)
        steps = [measure.median(found) for found in self.steps.values()]
        return [name, listens, answers, answers - own, measure.median(self.requests), *steps]


def _stop(fleet: fleets.Fleet, began: float, since: float, ended: float) -> list[float]:
    asked = fleet.store.requests(since, ended)
    puts = [request for request in asked if request.method in ("PUT", "POST")]
    sent = sum(request.octets for request in fleet.store.requests(began, ended) if request.of_database)
    return [(ended - since) * 1000, len(asked), len(puts), sum(request.of_database for request in puts), sent]


# --- idleness ---


def idle(place: peers.Place, seconds: int) -> Table:
    table = Table(
        f"Requests to the store in {seconds} s, {TENANTS} tenants up and idle",
        ["", "session", "flyatc's other", "litestream's", "resident MB", "… with children, no apps"],
    )
    for mode in MODES:
        with _fleet(place, mode, TENANTS, 100 << 10) as fleet, fleet.daemon() as daemon:
            for user in range(TENANTS):
                daemon.visit(user)
            daemon.await_quiet()
            children.pause(TTL / 3)
            since = time.monotonic()
            children.pause(seconds)
            asked = fleet.store.requests(since, since + seconds)
            streamed = sum(request.by_litestream for request in asked)
            session = sum(request.of_session for request in asked)
            resident = [measure.resident_octets([pid]) / 2**20 for pid in daemon.family()]
            table.rows.append([mode, session, len(asked) - session - streamed, streamed, resident[0], sum(resident)])
            expected = seconds // (TTL / 3) + 1
            table.goals.append(Goal(f"{mode}, flyatc's own", len(asked) - streamed, expected))
    return table


# --- renewals ---


def renewals(place: peers.Place, megabytes: int) -> Table:
    table = Table(
        f"Renewals of a session of {SHORT_TTL:g} s while {LOADED} databases of {megabytes} MB are restored",
        ["", "s until all are up", "renewals", "longest gap s", "later than due s", "resident MB more"],
    )
    for mode in MODES:
        with _fleet(place, mode, LOADED, megabytes << 20, SHORT_TTL) as fleet, fleet.daemon() as daemon:
            measure.forget_peak(daemon.pid)
            before, began = daemon.peak(), time.monotonic()
            visitors = [daemon.ask(user) for user in range(LOADED)]
            for visitor in visitors:
                daemon.answered(visitor)
            seconds, grown = time.monotonic() - began, daemon.peak() - before
            children.pause(SHORT_TTL / 3 + 1)
            renewed = [request.at for request in fleet.store.requests(began) if request.of_session]
            longest = max((after - former for former, after in pairwise(renewed)), default=float("nan"))
            late = longest - SHORT_TTL / 3
            table.rows.append([mode, seconds, len(renewed), longest, late, grown / 2**20])
            table.goals.append(Goal(f"{mode}, later than due", late, 1, " s"))
            table.goals.append(Goal(f"{mode}, resident growth", grown / 2**20, 40, " MB"))
    return table
