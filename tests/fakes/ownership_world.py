"""A small world in which machines follow the rules of ownership: clocks that drift, a network that loses and delays,
pauses, suspensions, crashes, wiped disks. Deterministic: a seed is a history.

A machine serves one user, with one database. What it may do is decided by ``Rules``, as in the daemon; what surrounds
them (which waits for which) is written here once more, as generators: ``yield Look(…)``, ``Put(…)`` or ``Sleep(…)``."""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from flyatc.ownership import release_rules
from flyatc.ownership.record import Me, Owner, Process, Session, State, owner_key, session_key
from flyatc.ownership.rules import (
    Break,
    Elsewhere,
    Found,
    Landed,
    Outcome,
    Promised,
    Refused,
    Rules,
    Take,
    Unsure,
    Wait,
)

USER, POINTER = owner_key("u"), "users/u/current.json"
AFTER_CRASH = 5.0  # s; supervisor.GRACE
TIMEOUT = 3.0  # s; of the machines' clients
KILL = 2.0  # s; an app that is killed at the deadline may write for so long


@dataclass(frozen=True)
class Node:
    """A state of the database: one write after another."""

    depth: int
    before: "Node | None" = None

    def then(self) -> "Node":
        return Node(self.depth + 1, self)

    def descends_from(self, other: "Node") -> bool:
        node: Node | None = self
        while node is not None and node.depth > other.depth:
            node = node.before
        return node is other


@dataclass(frozen=True)
class Pointer:
    nonce: str
    epoch: int
    boot: str
    node: Node
    stamp: bool


Stored = Session | Owner | Pointer


@dataclass(frozen=True)
class Look:
    key: str


@dataclass(frozen=True)
class Put:
    key: str
    new: Stored
    match: str | None


@dataclass(frozen=True)
class Delete:
    key: str
    match: str


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Seen:
    record: Any
    etag: str
    age: float


class Silence:
    """No answer in time, or a refusal, reported by the store."""


SILENCE, NO = Silence(), Silence()
Ask = Look | Put | Delete | Sleep
Story = Generator[Ask, Any, Any]


class Store:
    def __init__(self, world: "World") -> None:
        self._world, self._etags = world, itertools.count(1)
        self._objects: dict[str, tuple[Stored, str, float]] = {}

    def look(self, key: str) -> Seen | None:
        found = self._objects.get(key)
        if found is None:
            return None
        record, etag, written = found
        return Seen(record, etag, float(int(self._world.now) - int(written)))  # whole seconds, as S3 tells them

    def put(self, key: str, new: Stored, match: str | None) -> "str | Silence":
        found = self._objects.get(key)
        if (found[1] if found is not None else None) != match:
            return NO
        etag = str(next(self._etags))
        if isinstance(new, Pointer):
            self._world.pointed(new)
        if isinstance(new, Owner):
            self._world.owners.append((new.epoch, new.holder.machine))
        self._objects[key] = (new, etag, self._world.now)
        return etag

    def delete(self, key: str, match: str) -> "str | Silence":
        found = self._objects.get(key)
        if found is None or found[1] != match:
            return NO
        del self._objects[key]
        return match


@dataclass
class Weather:
    """Of the network: how often a request or its answer is lost, and how often it is late (by up to 90 s)."""

    lost: float = 0.05
    late: float = 0.03


class World:
    def __init__(
        self,
        seed: int,
        rules: Rules,
        *,
        machines: int = 3,
        stamps: bool = True,
        shy: float = 0.0,
        supervised: bool = True,
    ) -> None:
        """``shy``: how often an app writes nothing while nothing was ever written, so that its user is forgotten.
        ``supervised``: a process beside the daemon kills the app when the deadline passes. Otherwise the daemon does,
        as soon as it runs again."""
        self.random, self.rules, self.stamps, self.shy = random.Random(seed), rules, stamps, shy
        self.supervised = supervised
        self.now = 0.0
        self.weather = Weather()
        self.store = Store(self)
        self.violations: list[str] = []
        self.counts = dict.fromkeys(
            ("taken", "stolen", "resumed", "lost", "saved", "released", "directed", "declined", "kept", "forgotten"), 0
        )
        self.saved: Node | None = None  # the newest that was acknowledged as saved
        self.owners: list[tuple[int, str]] = []  # epoch, machine: of all records that landed
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.machines = [Machine(self, n) for n in range(machines)]

    def at(self, delay: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + max(0.0, delay), next(self._order), do))

    def advance(self, seconds: float) -> None:
        """Stops at the first violation."""
        until = self.now + seconds
        while self._queue and self._queue[0][0] <= until and not self.violations:
            self.now, _, do = heapq.heappop(self._queue)
            do()
            self._judge()
        self.now = until

    def _judge(self) -> None:
        writers = [machine.name for machine in self.machines if machine.awake and machine.may_write(late=KILL)]
        if len(writers) > 1:
            self.violations.append(f"{self.now:.1f}: {' and '.join(writers)} may write")
        apps = [machine.name for machine in self.machines if machine.awake and machine.app_writes()]
        if len(apps) > 1:
            self.violations.append(f"{self.now:.1f}: the apps of {' and '.join(apps)} write")

    def pointed(self, new: Pointer) -> None:
        """A write of current.json lands."""
        if self.saved is not None and not new.node.descends_from(self.saved):
            self.violations.append(f"{self.now:.1f}: a confirmed save is undone by epoch {new.epoch}")
        for machine in self.machines:
            if machine.awake and machine.may_write() and machine.epoch > new.epoch:
                self.violations.append(f"{self.now:.1f}: epoch {new.epoch} writes under epoch {machine.epoch}")

    def confirmed(self, node: Node) -> None:
        self.counts["saved"] += 1
        if self.saved is None or node.descends_from(self.saved):
            self.saved = node
        elif not self.saved.descends_from(node):
            self.violations.append(f"{self.now:.1f}: what was saved does not descend from the save before")

    def delay(self) -> float:
        if self.random.random() < self.weather.late:
            return self.random.random() * 90
        return 0.02 + self.random.random() * (5 if self.random.random() < 0.07 else 0.1)

    def spawn(self, machine: "Machine", story: Story) -> None:
        life = machine.life

        def step(answer: object = None) -> None:
            if machine.life != life:
                return
            if machine.asleep_until > self.now:
                self.at(machine.asleep_until - self.now + self.random.random() * 0.01, lambda: step(answer))
                return
            try:
                ask = story.send(answer)
            except StopIteration:
                return
            if isinstance(ask, Sleep):
                self.at(ask.seconds / machine.rate, step)
            else:
                self._send(machine, ask, step)

        step()

    def _send(self, machine: "Machine", ask: Look | Put | Delete, step: Callable[[object], None]) -> None:
        answered = False

        def answer(what: object) -> None:
            nonlocal answered
            if not answered:
                answered = True
                step(what)

        def arrive() -> None:
            what: object
            if isinstance(ask, Look):
                what = self.store.look(ask.key)
            elif isinstance(ask, Delete):
                what = self.store.delete(ask.key, ask.match)
            else:
                what = self.store.put(ask.key, ask.new, ask.match)
            if self.random.random() >= self.weather.lost:
                self.at(self.delay(), lambda: answer(what))

        if self.random.random() >= self.weather.lost:
            self.at(self.delay(), arrive)
        self.at(TIMEOUT / machine.rate, lambda: answer(SILENCE))


@dataclass
class Disk:
    boots: set[str] = field(default_factory=set)
    epoch: int = 0
    node: Node | None = None


@dataclass
class Mine:
    """The user, as far as this machine knows."""

    owner: Owner
    etag: str
    chain: int
    pointer: str | None = None  # the etag of current.json
    leaving: bool = False


class Machine:
    def __init__(self, world: World, number: int) -> None:
        self.world, self.rules = world, world.rules
        self._random = world.random
        self.rate = 1 + self._random.uniform(-0.01, 0.01)
        self._offset = self._random.uniform(0, 1e4)
        self.platform = number % 2 == 0
        self._number, self._wipes = number, 0
        self.disk = Disk()
        self.life = 0
        self.asleep_until = 0.0
        self._stopped_at: float | None = None
        self._stood_still = 0.0  # s; how long the clock has stood
        self._suspected: float | None = None
        self._deadline = -math.inf
        self._app = False  # runs, with jobs in the background that write
        self._kill_at = -math.inf  # by the supervisor, from the last deadline that it got
        self._start()

    # --- what may befall it ---

    @property
    def name(self) -> str:
        return f"m{self._number}" + ("" if self.platform else f"w{self._wipes}")

    @property
    def awake(self) -> bool:
        """A machine whose clock stands still does nothing; a paused process cannot act, but what it started can."""
        return self._stopped_at is None

    def pause(self, seconds: float) -> None:
        self.asleep_until = max(self.asleep_until, self.world.now + seconds)

    def suspend(self, seconds: float) -> None:
        if self._stopped_at is not None:
            return
        self._stopped_at = self.world.now
        self.asleep_until = max(self.asleep_until, self.world.now + seconds)
        self.world.at(self.asleep_until - self.world.now, self._wake)

    def _wake(self) -> None:
        assert self._stopped_at is not None
        self._stood_still += self.world.now - self._stopped_at
        self._stopped_at = None
        self._suspected = self.boottime()

    def crash(self, down: float) -> None:
        if self._stopped_at is None:
            self.life += 1
            self._kill_at = min(self._deadline, self.boottime() + AFTER_CRASH)
            if self._suspected is not None:
                self._kill_at = -math.inf  # the clock stood still: as before the crash, only the fences hold
            self._forget()
            self.asleep_until = 0.0
            self.world.at(down, lambda life=self.life: self._start() if self.life == life else None)  # type: ignore[misc]

    def wipe(self, down: float) -> None:
        if self._stopped_at is None:
            self._wipes += 1
            self.disk, self._app = Disk(), False
            self.crash(down)

    # --- what it knows ---

    def boottime(self) -> float:
        now = self.world.now if self._stopped_at is None else self._stopped_at
        return (now - self._stood_still) * self.rate + self._offset

    @property
    def epoch(self) -> int:
        return self.mine.owner.epoch if self.mine is not None else 0

    def may_write(self, late: float = 0.0) -> bool:
        mine, suspected = self.mine, self._suspected is not None
        return mine is not None and self.rules.may_write(
            self.boottime() - late, self._deadline, suspected=suspected, leaving=mine.leaving
        )

    def app_writes(self) -> bool:
        """It does not ask whether it may. Where the clock has just stood still the fences hold: see design.md."""
        if not self._app or self._suspected is not None:
            return False
        return not self.world.supervised or self.boottime() - KILL < self._kill_at

    def _valid(self) -> bool:
        suspected = self._suspected is not None
        return self.rules.may_write(self.boottime(), self._deadline, suspected=suspected, leaving=False)

    def _forget(self) -> None:
        self.mine: Mine | None = None
        self._ended: Mine | None = None  # expired: to be resumed, if no one has come
        self._etag: str | None = None
        self._sent: dict[str, float] = {}
        self._deadline, self._suspected = -math.inf, None
        self._chain, self._renewing = 0, False
        self._nonces = itertools.count()

    def _start(self) -> None:
        self._forget()
        self._app = False  # ended as a leftover
        boots, boot = frozenset(self.disk.boots), f"{self.name}.{self.life}"
        self.disk.boots.add(boot)
        process = Process(kernel="k", pid=self.life + 2, started=self.life)
        self._me = Me(self.name, "app", "", boot, process, boots, platform=self.platform)
        self.world.spawn(self, self._beat())
        self.world.spawn(self, self._work())

    def _nonce(self) -> str:
        return f"{self._me.boot}#{next(self._nonces)}"

    # --- the session ---

    def _beat(self) -> Story:
        last = -math.inf
        while True:
            if self.mine is not None and (self._suspected is not None or self.boottime() >= last + 10):
                last = self.boottime()
                yield from self._renew()
                if not self._valid():
                    last = -math.inf
            if self.mine is not None and not self.mine.leaving and self.boottime() >= self._deadline:
                self.mine, self._ended, self._app = None, self.mine, False
            yield Sleep(1)

    def _ensure(self) -> Story:
        for _ in range(2):
            if self._valid() and self.boottime() < self._deadline - 5:
                return True
            yield from self._renew()
        return self._valid()

    def _renew(self) -> Story:
        if self._renewing:
            yield Sleep(0.5)
            return
        self._renewing = True
        etag = self._etag
        if etag is None:
            seen = yield Look(session_key(self.name))
            if isinstance(seen, Seen):
                decision = self.rules.begin(seen.record, seen.age, self._me, lives=False)
                if isinstance(decision, Wait):
                    seen = SILENCE
            if seen is not SILENCE:
                yield from self._write(seen.etag if isinstance(seen, Seen) else None)
        else:
            yield from self._write(etag)
        self._renewing = False

    def _write(self, matched: str | None) -> Story:
        ttl, nonce = self.rules.terms.ttl, self._nonce()
        me = self._me
        new = Session(
            machine=me.machine, app="app", region="", boot=me.boot, seq=1, nonce=nonce, ttl=ttl, process=me.process
        )
        self._sent[nonce] = self.boottime()
        outcome = yield from self._swap(session_key(me.machine), new, matched, tuple(self._sent))
        if isinstance(outcome, Landed):
            self._confirm(self._sent[outcome.nonce], outcome.etag)
        elif isinstance(outcome, Refused):
            self._lose()

    def _confirm(self, sent: float, etag: str) -> None:
        self._etag = etag
        self._sent.clear()
        if self._suspected is None or sent >= self._suspected:
            self._suspected, self._deadline = None, self.rules.deadline(sent)
            self._kill_at = self._deadline

    def _lose(self) -> None:
        self.world.counts["lost"] += self.mine is not None
        self.mine = self._ended = self._etag = None
        self._app = False
        self._sent.clear()
        self._deadline = -math.inf
        self._chain += 1

    def _swap(self, key: str, new: Stored, matched: str | None, ours: tuple[str, ...] = ()) -> Story:
        answer = yield Put(key, new, matched)
        if isinstance(answer, str):
            return Landed(answer, new.nonce)
        seen = yield Look(key)
        if seen is SILENCE:
            return Unsure("")
        found = Found(seen.etag, seen.age, seen.record.nonce) if seen is not None else None
        outcome: Outcome = self.rules.concluded({new.nonce, *ours}, matched, found)
        return outcome

    # --- the user ---

    def _work(self) -> Story:
        while True:
            if self.mine is None:
                yield from self._take()
                yield Sleep(1 + self._random.random() * 3)
            elif not self.may_write():
                yield Sleep(0.5)  # in doubt
            elif self._is_empty() and self._random.random() < self.world.shy:
                yield from self._forget_user()
                yield Sleep(self._random.random() * 20)
            else:
                self._serve()
                if self._random.random() < 0.3:
                    yield from self._save()
                if self._random.random() < 0.02:
                    yield from self._release()
                yield Sleep(0.5 + self._random.random())

    def _serve(self) -> None:
        assert self.disk.node is not None
        self.disk.node = self.disk.node.then()

    def _take(self) -> Story:
        if not (yield from self._ensure()):
            return
        chain = self._chain
        seen = yield Look(USER)
        if seen is SILENCE:
            return
        mine = self._resumed(seen, chain) or (yield from self._taken(seen, chain))
        if mine is None or not self._valid() or self._chain != chain:
            return
        mine.pointer = yield from self._stamp(mine.owner.epoch)
        if mine.pointer is not None and self._valid() and self._chain == chain:
            self._begin(mine)

    def _resumed(self, seen: Seen | None, chain: int) -> Mine | None:
        ended, self._ended = self._ended, None
        if ended is None or seen is None or ended.chain != chain or ended.etag != seen.etag:
            return None
        self.world.counts["resumed"] += 1
        return ended

    def _taken(self, seen: Seen | None, chain: int) -> Story:
        owner = seen.record if seen is not None else None
        decision = yield from self._decide(owner)
        if not isinstance(decision, Take):
            return None
        new = Owner(
            epoch=decision.epoch,
            state=State.HELD,
            holder=self._me.holder,
            nonce=self._nonce(),
            ttl=self.rules.terms.ttl,
            data=decision.data,
        )
        outcome = yield from self._swap(USER, new, seen.etag if seen is not None else None)
        if not isinstance(outcome, Landed):
            return None
        self._settle_disk(owner, new)
        return Mine(new, outcome.etag, chain)

    def _settle_disk(self, owner: Owner | None, new: Owner) -> None:
        """Return what is on the disk counts, or is set aside."""
        counts, disk = self.world.counts, self.disk
        counts["taken"] += 1
        since, epoch = (owner.data.since, owner.epoch) if owner is not None else (0, 0)
        counts["stolen"] += owner is not None and owner.state is State.HELD and owner.holder.machine != self.name
        if not since <= disk.epoch <= epoch:
            others = [name for at, name in self.world.owners if at > disk.epoch and name != self.name]
            if disk.node is not None and disk.epoch and not others:
                self.world.violations.append(f"{self.world.now:.1f}: {self.name} sets its own newest copy aside")
            disk.node = None
        counts["kept"] += disk.node is not None

    def _decide(self, owner: Owner | None) -> Story:
        decision = self.rules.take(owner, self._me, self.disk.epoch)
        if isinstance(decision, Promised):
            if self._random.random() < 0.9:
                return None
            self.world.counts["declined"] += 1  # rightly or not: that is no matter of safety
            decision = self.rules.take(owner, self._me, self.disk.epoch, declined=True)
        if owner is None or isinstance(decision, Take | Elsewhere):
            return decision
        key = session_key(owner.holder.machine)
        seen = yield Look(key)
        if seen is SILENCE:
            return None
        assert isinstance(seen, Seen), "no one deletes a session here"
        judged = self.rules.steal(owner, seen.record, seen.age, self.disk.epoch)
        if isinstance(judged, Break):
            session: Session = seen.record
            broken = structs.replace(session, broken=self.name, nonce=self._nonce())
            outcome = yield from self._swap(key, broken, seen.etag)
            return judged.take if isinstance(outcome, Landed) else None
        return judged

    def _stamp(self, epoch: int) -> Story:
        for _ in range(3):
            seen = yield Look(POINTER)
            if seen is SILENCE:
                continue
            node = seen.record.node if seen is not None else Node(0)
            if seen is not None and seen.record.epoch > epoch:
                return None
            etag = seen.etag if seen is not None else None
            if self.world.stamps:
                pointer = Pointer(self._nonce(), epoch, self._me.boot, node, stamp=True)
                outcome = yield from self._swap(POINTER, pointer, etag)
                if not isinstance(outcome, Landed):
                    continue
                etag = outcome.etag
            if etag is not None:
                self.disk.node = self.disk.node if self.disk.node is not None else node
                return etag
            yield from self._swap(POINTER, Pointer(self._nonce(), epoch, self._me.boot, node, stamp=True), None)
        return None

    def _begin(self, mine: Mine) -> None:
        self.disk.epoch = mine.owner.epoch
        self.mine, self._app = mine, True

    def _save(self) -> Story:
        mine, node = self.mine, self.disk.node
        for _ in range(3):
            if mine is None or self.mine is not mine or node is None:
                return False
            pointer = Pointer(self._nonce(), self.epoch, self._me.boot, node, stamp=False)
            outcome = yield from self._swap(POINTER, pointer, mine.pointer)
            if isinstance(outcome, Landed):
                mine.pointer = outcome.etag
                self.world.confirmed(node)
                return True
            if isinstance(outcome, Refused):
                seen = yield Look(POINTER)
                if seen is SILENCE:
                    return False
                if seen is None or (seen.record.epoch, seen.record.boot) != (pointer.epoch, pointer.boot):
                    if self.mine is mine:
                        if self.may_write() and seen is not None:
                            self.world.violations.append(f"{self.world.now:.1f}: the pointer moved under {self.name}")
                        self.mine, self._app = None, False
                    return False
                mine.pointer = seen.etag  # an earlier write of our own, landed late
        return False

    def _release(self) -> Story:
        saved = yield from self._save()
        mine = self.mine
        if not saved or mine is None:
            return
        mine.leaving, self._app = True, False
        new = structs.replace(mine.owner, state=State.RELEASED, nonce=self._nonce())
        yield from self._swap(USER, new, mine.etag)
        if self.mine is mine:
            self.mine = None
        self.world.counts["released"] += 1
        if self._random.random() < 0.5:
            yield from self._direct()
        yield Sleep(self._random.random() * 20)

    def _is_empty(self) -> bool:
        """Nothing was ever written, as far as this machine can tell."""
        return self.disk.node is not None and self.disk.node.depth == 0

    def _forget_user(self) -> Story:
        """First the disk, then the blank pointer, then the record, each on condition."""
        mine = self.mine
        if mine is None or not self.rules.may_forget(mine.owner):
            return
        mine.leaving, self._app = True, False
        self.disk.node, self.disk.epoch = None, 0
        seen = yield Look(POINTER)
        blank = isinstance(seen, Seen) and seen.record.node.depth == 0 and seen.record.epoch == mine.owner.epoch
        gone = False
        if blank:
            yield Delete(POINTER, seen.etag)
            gone = (yield Look(POINTER)) is None
        if gone:
            yield Delete(USER, mine.etag)
            self.world.counts["forgotten"] += 1
        else:
            new = structs.replace(mine.owner, state=State.RELEASED, nonce=self._nonce())
            yield from self._swap(USER, new, mine.etag)
        if self.mine is mine:
            self.mine = None

    def _direct(self) -> Story:
        """Records for which machine it was released: any machine may, on condition."""
        seen = yield Look(USER)
        if isinstance(seen, Seen) and seen.record.state is State.RELEASED:
            successor = self._random.choice(self.world.machines).name
            new = release_rules.freed(seen.record, self._nonce(), accept_loss=False, to=successor)
            yield from self._swap(USER, new, seen.etag)
            self.world.counts["directed"] += 1


def chaos(world: World) -> None:
    """Something befalls one of the machines, again and again."""
    roll, machine = world.random, world.random.choice(world.machines)
    kind = roll.random()
    if kind < 0.3:
        machine.pause(roll.choice([1, 5, 20, 40, 80]))
    elif kind < 0.4:
        machine.suspend(roll.choice([5, 20, 40, 80]))
    elif kind < 0.6:
        machine.crash(roll.random() * 20)
    elif kind < 0.65:
        machine.wipe(roll.random() * 20)
    world.at(5 + roll.random() * 55, lambda: chaos(world))
