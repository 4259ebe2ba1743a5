"""Helpers for what will be done to the machines, drawn from a seed. Pure.

Two tracks run at once: what happens to the processes of a machine, and what happens to its way to the store. A fault
lasts either shorter than others wait before they take over, or longer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

MACHINES = 3
SESSION = 10.0  # s; storage.session_ttl, the smallest
TAKEN_OVER = 15.0  # s; after so long of silence others take over: session and grace
INTERVAL = 2.0  # s; storage.interval
FIRST = 2.5  # s; until then all is well
DRIFT = 0.004  # how wrong a machine's clock may run; flyatc promises to bear 0.01


class Kind(Enum):
    """To a machine's processes, to its way to the store, to its clock; or to the simulated platform."""

    KILL = "daemon killed, its children live on"
    CRASH = "all killed"
    PAUSE = "all stopped and continued"
    STALL = "daemon alone stopped and continued"
    TERM = "ended in order"
    WIPE = "all killed, disk wiped"
    APP = "apps killed"
    REFUSE = "store refuses"
    BLACK_HOLE = "store is a black hole"
    RESET = "store resets"
    DELAY = "store is slow"
    LOSE = "store loses replies"
    CONTINUE = "store ends connections within 100 Continue"
    CLOCK = "wall clock set"
    DNS = "the platform's DNS fails, or does no more"


PROCESSES = (Kind.KILL, Kind.CRASH, Kind.PAUSE, Kind.STALL, Kind.TERM, Kind.WIPE, Kind.APP)
STORE = (Kind.REFUSE, Kind.BLACK_HOLE, Kind.RESET, Kind.DELAY, Kind.LOSE, Kind.CONTINUE)
AWAY = (Kind.REFUSE, Kind.BLACK_HOLE, Kind.RESET)


@dataclass(frozen=True)
class Fault:
    at: float  # s from the beginning
    kind: Kind
    lasts: float  # s
    target: int | None  # a machine's number; None: whichever serves by then
    amount: float = 0.0  # s; of a delay, of a clock
    until_taken: bool = False  # it ends as soon as another machine has taken over

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    def __str__(self) -> str:
        target = "the serving machine" if self.target is None else f"m{self.target}"
        amount = f" by {self.amount:+.1f} s" if self.amount else ""
        return f"{self.at:6.1f} s: {target}: {self.kind.value}{amount}, for {self.lasts:.1f} s"


@dataclass(frozen=True)
class Habits:
    """Records what the apps do by themselves, beside serving requests."""

    writer: str = ""  # a process that writes ten rows a second: "child", "session" (setsid), "daemon" (forked twice)
    checkpoint: str = ""  # the mode of a WAL checkpoint every second: TRUNCATE, RESTART
    burst: float = 0.0  # s between bursts of large transactions; 0: none

    @property
    def environ(self) -> dict[str, str]:
        return {"ROWS_WRITER": self.writer, "ROWS_CHECKPOINT": self.checkpoint, "ROWS_BURST": str(self.burst)}


@dataclass(frozen=True)
class Plan:
    seed: int
    mode: str  # snapshot, litestream; sim: behind the simulator's proxy, with snapshots
    seconds: float
    platform: bool  # it names the machines; else they name themselves, and one with a new disk is a new machine
    rates: tuple[float, ...]  # of each machine's clocks
    faults: tuple[Fault, ...]  # by their begin
    habits: Habits = Habits()


def draw(seed: int, mode: str, seconds: float) -> Plan:
    chance = random.Random(f"{seed} {mode}")
    rates = tuple(1 + chance.uniform(-DRIFT, DRIFT) for _ in range(MACHINES))
    tracks = [*_track(chance, seconds, PROCESSES), *_track(chance, seconds, STORE), *_clocks(chance, seconds)]
    if mode == "sim":
        tracks += _dns(chance, seconds)
    faults = tuple(sorted(tracks, key=lambda fault: fault.at))
    return Plan(seed, mode, seconds, chance.random() < 0.5, rates, faults, _habits(seed))


def _habits(seed: int) -> Habits:
    """Every writer comes within four seeds in a row, and every checkpoint within three."""
    return Habits(
        writer=("daemon", "", "session", "child")[seed % 4],
        checkpoint=("TRUNCATE", "", "RESTART")[seed % 3],
        burst=(5.0, 2.5)[seed % 2],
    )


def _track(chance: random.Random, seconds: float, kinds: Sequence[Kind]) -> list[Fault]:
    """Each kind comes once before any comes twice."""
    found: list[Fault] = []
    bag: list[Kind] = []
    at = FIRST + chance.uniform(0, 3)
    while at < seconds:
        bag = bag or chance.sample(kinds, len(kinds))
        kind = bag.pop()
        found.append(_fault(chance, kind, at))
        at += chance.uniform(3, 6) + (found[-1].lasts if chance.random() < 0.5 else 0.0)
    return found


def _fault(chance: random.Random, kind: Kind, at: float) -> Fault:
    long = chance.random() < (0.5 if kind in (Kind.CRASH, Kind.PAUSE, Kind.STALL, *AWAY) else 0.25)
    lasts = chance.uniform(TAKEN_OVER, TAKEN_OVER + 7) if long else chance.uniform(0.2, 5)
    target = None if chance.random() < 0.75 else chance.randrange(MACHINES)
    amount = chance.uniform(0.05, 0.8) if kind is Kind.DELAY else 0.0
    return Fault(at, kind, 0.0 if kind is Kind.APP else lasts, target, amount)


def _clocks(chance: random.Random, seconds: float) -> list[Fault]:
    found = []
    at = FIRST + chance.uniform(0, 15)
    while at < seconds:
        amount = chance.choice((-7200.0, -40.0, -3.0, 3.0, 40.0, 7200.0)) * chance.uniform(0.8, 1.2)
        found.append(Fault(at, Kind.CLOCK, 0.0, chance.choice((None, 0, 1, 2)), amount))
        at += chance.uniform(10, 30)
    return found


def _dns(chance: random.Random, seconds: float) -> list[Fault]:
    """``amount``: 0: it answers; else how it fails."""
    found = []
    at = FIRST + chance.uniform(0, 15)
    while at < seconds:
        lasts = chance.uniform(2, 12)
        found += [Fault(at, Kind.DNS, 0.0, 0, chance.choice((1, 2, 3))), Fault(at + lasts, Kind.DNS, 0.0, 0)]
        at += lasts + chance.uniform(3, 20)
    return found


def short(mode: str) -> Plan:
    """Some of everything in half a minute: a crash after which others must take over, and what is soon over."""
    faults = (
        Fault(0.5, Kind.APP, 0.0, None),
        Fault(1.5, Kind.CRASH, 3 * TAKEN_OVER, None, until_taken=True),
        Fault(3.0, Kind.LOSE, 1.0, 1),
        Fault(5.0, Kind.CLOCK, 0.0, 2, 3600.0),
        Fault(8.0, Kind.DELAY, 3.0, 2, 0.2),
        Fault(19.0, Kind.WIPE, 0.2, None),
        Fault(20.2, Kind.KILL, 0.2, None),
        Fault(20.5, Kind.BLACK_HOLE, 1.5, None),
        Fault(20.8, Kind.PAUSE, 1.0, None),
    )
    return Plan(0, mode, 22.0, True, (1.003, 0.997, 1.0), faults, Habits("daemon", "TRUNCATE", 4.0))
