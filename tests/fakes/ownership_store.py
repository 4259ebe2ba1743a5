"""A store for records, in memory and in the loop's time, and machines which keep their records in it: each by a link of
its own, which fails on demand."""

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Awaitable, Callable
from typing import ClassVar

from flyatc.kit import tasks
from flyatc.kit.machine_clocks import Clock
from flyatc.objects.store import ConditionFailed, Seen, StoreUnavailable
from flyatc.observe.log import Log
from flyatc.ownership import record
from flyatc.ownership.lease import HeldLease
from flyatc.ownership.lease_manager import LeaseManager
from flyatc.ownership.record import Me, Owner, Process, Session, Successor
from flyatc.ownership.rules import Terms

TRIP = 0.02  # s; there and back
PATIENCE = 3.0  # s; until a call that gets no answer fails


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeStore:
    """Records what all links lead to. Etags are made of the body, as in S3."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}
        self.ahead = 0.0  # s; of its Date before its Last-Modified

    def look(self, key: str) -> Seen | None:
        found = self._objects.get(key)
        return Seen(found[0], _etag(found[0]), now() - found[1] + self.ahead) if found is not None else None

    def put(self, key: str, body: bytes, create: bool, match: str | None) -> str:
        found = self._objects.get(key)
        if create and found is not None:
            raise ConditionFailed(f"{key} exists already")
        if match is not None and (found is None or _etag(found[0]) != match):
            raise ConditionFailed(f"{key} was changed by another writer")
        self.write(key, body)
        return _etag(body)

    def remove(self, key: str, match: str | None) -> None:
        if match is not None and (key not in self._objects or _etag(self.body(key)) != match):
            raise ConditionFailed(f"{key} was changed by another writer")
        self._objects.pop(key, None)

    # --- what a test does and asks ---

    def write(self, key: str, body: bytes) -> None:
        """By hand."""
        self._objects[key] = (body, now())

    def delete(self, key: str) -> None:
        """By hand."""
        del self._objects[key]

    def body(self, key: str) -> bytes:
        return self._objects[key][0]

    def owner(self, user: str = "u") -> Owner:
        return record.read(self.body(record.owner_key(user)), Owner, user)

    def session(self, machine: str) -> Session:
        return record.read(self.body(record.session_key(machine)), Session, machine)


class Link:
    """``calls``: (seconds, what, key) of each, when it was made. ``fault``: asked for each call, by what and key:
    ``"lost"``, it never arrives; ``"deaf"``, it is done and the answer is lost; ``"late"``, the answer is lost, and it
    is done ``lateness`` seconds after it was sent."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.calls: list[tuple[float, str, str]] = []
        self.fault: Callable[[str, str], str | None] = lambda what, key: None
        self.lateness = 60.0
        self.trip = TRIP

    async def look(self, key: str) -> Seen | None:
        self.calls.append((now(), "look", key))
        await self._trip(self.fault("look", key))
        return self._store.look(key)

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        self.calls.append((now(), "put", key))
        fault = self.fault("put", key)
        if fault == "late":
            asyncio.get_running_loop().call_later(self.lateness, self._try, key, body, create, match)
        if fault == "deaf":
            self._try(key, body, create, match)
        await self._trip(fault)
        return self._store.put(key, body, create, match)

    async def delete(self, key: str, *, match: str | None = None) -> None:
        self.calls.append((now(), "delete", key))
        fault = self.fault("delete", key)
        if fault == "late":
            asyncio.get_running_loop().call_later(self.lateness, self._try_to_remove, key, match)
        if fault == "deaf":
            self._try_to_remove(key, match)
        await self._trip(fault)
        self._store.remove(key, match)

    def _try_to_remove(self, key: str, match: str | None) -> None:
        with contextlib.suppress(ConditionFailed):
            self._store.remove(key, match)

    async def _trip(self, fault: str | None) -> None:
        await asyncio.sleep(self.trip if fault is None else PATIENCE)
        if fault is not None:
            raise StoreUnavailable("the store does not answer")

    def _try(self, key: str, body: bytes, create: bool, match: str | None) -> None:
        with contextlib.suppress(ConditionFailed):
            self._store.put(key, body, create, match)

    def away(self) -> None:
        self.fault = lambda what, key: "lost"

    def back(self) -> None:
        self.fault = lambda what, key: None

    def once(self, fault: str, what: str, key: str) -> None:
        """The next such call fails so; all others are answered."""
        left = [fault]
        self.fault = lambda w, k: left.pop() if left and (w, k) == (what, key) else None

    def made(self, what: str, key: str) -> list[float]:
        return [at for at, w, k in self.calls if (w, k) == (what, key)]


class FakeMachine:
    """One run of the daemon on a machine. ``skew``: how much its wall clock is ahead; ``rate``: of its clocks;
    ``lost``: for how many seconds both have stood still."""

    all: ClassVar[list["FakeMachine"]] = []  # whose story is not over

    def __init__(
        self,
        store: FakeStore,
        name: str = "m1",
        run: int = 1,
        *,
        rate: float = 1.0,
        earlier: bool = True,
        successor_declines: Callable[[str, Successor], Awaitable[bool]] | None = None,
    ) -> None:
        FakeMachine.all.append(self)
        self.name, self.skew, self.lost, self.link = name, 0.0, 0.0, Link(store)
        boots = frozenset(f"{name}.{number}" for number in range(1, run)) if earlier else frozenset()
        process = Process(kernel="k", pid=2**22 + run, started=run)  # above the kernel's limit: it never runs
        self.me = Me(name, "app", "waw", f"{name}.{run}", process, boots)
        self.log = Log(io.BytesIO(), level="debug")
        clock = Clock(
            boottime=lambda: now() * rate - self.lost, wall=lambda: now() * rate - self.lost + self.skew
        )  # fmt: skip
        self.kill_at: list[float] = []  # the deadlines that the supervisor got, on the clock of this machine
        self.boottime, tell = clock.boottime, self.kill_at.append
        more = {} if successor_declines is None else {"successor_declines": successor_declines}
        self.keeper = LeaseManager(self.link, self.me, Terms(), self.log, clock=clock, on_deadline=tell, **more)
        self._left = asyncio.Event()  # set: who lives here ends
        self._lives: list[asyncio.Task[None]] = []

    async def live(self, user: str = "u", known: int = 0) -> HeldLease:
        """Owned by a tenant, which ends when it must, or when it is asked to."""
        begun: asyncio.Future[HeldLease] = asyncio.get_running_loop().create_future()
        self._lives.append(tasks.start(self._live(user, known, begun), f"{self.name} has {user}"))
        return await begun

    async def _live(self, user: str, known: int, begun: "asyncio.Future[HeldLease]") -> None:
        left = self._left
        try:
            async with self.keeper.hold(user, known) as owned:
                begun.set_result(owned)
                await tasks.first_of(owned.ended.wait(), left.wait())
        except Exception as error:
            if begun.done():
                raise
            begun.set_exception(error)

    async def leave(self) -> None:
        """All its tenants of now end, in order."""
        self._left.set()
        lives, self._lives, self._left = self._lives, [], asyncio.Event()
        await asyncio.gather(*lives)

    def log_lines(self) -> str:
        return "\n".join(line.decode() for _, _, line in self.log.journal.since(0))

    @classmethod
    async def end_all(cls) -> None:
        while cls.all:
            machine = cls.all.pop()
            machine.link.back()
            machine.keeper.wake()
            await machine.leave()
            await machine.keeper.close()
            machine.log.close()


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
