"""Session of this machine: begun, renewed while any lease is held, and ended. One for all users."""

import asyncio
import math
import uuid
from collections.abc import Callable
from typing import Any

from msgspec import structs

from flyatc import __version__
from flyatc.kit import tasks
from flyatc.kit.machine_clocks import Clock
from flyatc.objects.store import StoreUnavailable
from flyatc.observe.log import Log
from flyatc.ownership import identity, record
from flyatc.ownership.errors import OwnershipUnknown
from flyatc.ownership.lease import JUMP, HeldLease, SessionTerm
from flyatc.ownership.record import Me, Session, Unreadable
from flyatc.ownership.record_swap import RecordStore, swap
from flyatc.ownership.rules import SKEW, Landed, Refused, Rules, Wait

TICK = 1.0  # s; the longest interval between comparisons of the clocks
SHORTEST = 0.01  # s; the loop's clock and ours do not agree to the last digit
RETRY = 1.0  # s; from a failed renewal to the next
STOOD_STILL = SKEW + 1.0  # s; lead of the store's clock that shows that ours stood still
REMEMBERED = 64  # renewals with unknown outcome; should an older one land after all, the session counts as lost


class SessionKeeper:
    """Keeps the session. ``chain`` grows when the session is lost, which voids all leases based on it. ``leases``:
    leases that end with it; while any of them has not ended, the session is renewed."""

    def __init__(
        self,
        store: RecordStore,
        me: Me,
        rules: Rules,
        log: Log,
        clock: Clock,
        on_deadline: Callable[[float], object] = lambda _: None,
    ) -> None:
        """``on_deadline`` is called with each new deadline, on CLOCK_BOOTTIME: another process must kill the apps when
        it passes, since the event loop may be stuck then."""
        self._on_deadline = on_deadline
        self._store, self._me, self._rules, self._log, self._clock = store, me, rules, log, clock
        self.chain = 0
        self.leases: set[HeldLease] = set()
        self.doubted = asyncio.Event()
        self._key = record.session_key(me.machine)
        self._etag: str | None = None
        self._sent: dict[str, float] = {}  # nonce: send time; since the last that landed
        self._seq = 0
        self._deadline = self._due = -math.inf  # changed by _set_deadline only
        self.term = SessionTerm(clock)
        self._suspected: float | None = None  # time from which the clocks are not trusted
        self._reason = ""
        self._renewal: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._rested: tuple[float, str] | None = None  # send time and etag of the record that ended our session

    # --- interface ---

    def valid(self, leaving: bool = False) -> bool:
        now = self._compare_clocks()
        suspected = self._suspected is not None
        return self._rules.may_write(now, self._deadline, suspected=suspected, leaving=leaving)

    async def ensure(self) -> int:
        """Return the chain, with the session valid and not about to expire. Raises OwnershipUnknown."""
        for _ in range(2):  # a session broken while no lease was held is begun anew
            if self._fresh():
                return self.chain
            await tasks.joined(self._renew_now())
        if self._fresh():
            return self.chain
        raise OwnershipUnknown(f"the session of this machine cannot be renewed: {self._reason}")

    def hold(self, lease: HeldLease) -> None:
        """Add a lease: it ends with the session, which is renewed for it."""
        self.leases.add(lease)
        if self._loop is None or self._loop.done():
            self._loop = tasks.start(self._renew_loop(), "session")

    async def close(self, *, ended: bool) -> None:
        """Stop renewals. ``ended``: end the session in the store too, so that others need not wait for its expiry."""
        await self._stop_renewals()
        self._set_deadline(-math.inf)
        if ended and self._etag is not None:
            last = structs.replace(self._new(), broken=self._me.machine)
            await swap(self._store, self._key, last, self._etag, self._rules, tuple(self._sent))

    async def rest(self) -> None:
        """End the session, in the store and here, while no lease is held. No later reading of our clocks can make it
        valid again; the next ``ensure`` begins another. Raises OwnershipUnknown if the store does not confirm."""
        await self.ensure()
        await self._stop_renewals()
        etag, ours = self._etag, tuple(self._sent)
        last, sent = structs.replace(self._new(), broken=self._me.machine), self._clock.boottime()
        self._set_deadline(-math.inf)
        self._etag, self._rested = None, None  # the write may land, whatever its outcome
        self._sent.clear()
        self.chain += 1
        outcome = await swap(self._store, self._key, last, etag, self._rules, ours)
        if not isinstance(outcome, Landed) or outcome.nonce != last.nonce:
            raise OwnershipUnknown("the store does not confirm that the session of this machine has ended")
        self._rested = sent, outcome.etag

    async def slept(self) -> bool:
        """Return whether our clock stood still since ``rest``, by the store's clock, before ours is set anew. Our
        interval is the longest possible: from before the ending record was sent until after the response."""
        if self._rested is None:
            return False
        sent, etag = self._rested
        try:
            seen = await self._store.look(self._key)
        except StoreUnavailable:
            return False
        return seen is not None and seen.etag == etag and seen.age > self._clock.boottime() - sent + STOOD_STILL

    async def _stop_renewals(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    # --- renewal loop ---

    async def _renew_loop(self) -> None:
        while True:
            self._check_deadline()
            if all(lease.ended.is_set() for lease in self.leases):
                return
            now = self._clock.boottime()
            if now >= self._due:
                self._renew_now()
            self._wake.clear()
            marks = (self._due, self._deadline, self._deadline - self._rules.terms.doubt)
            pause = max(SHORTEST, min((TICK, *(mark - now for mark in marks if mark > now))))
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _check_deadline(self) -> None:
        now = self._compare_clocks()
        if now >= self._deadline:
            self._expire()
        elif self._suspected is not None or now >= self._deadline - self._rules.terms.doubt:
            self._doubt()

    def _doubt(self) -> None:
        if not self.doubted.is_set():
            self.doubted.set()
            self._set_term()
            self._event("warning", "session in doubt: new requests wait", reason=self._reason)

    def _expire(self) -> None:
        self._doubt()
        running = [lease for lease in self.leases if not lease.ended.is_set()]
        for lease in running:
            lease.end(f"the store did not confirm our session in time: {self._reason}", lost=False)
        if running:
            self._event("error", "session expired: its apps are killed", users=len(running), reason=self._reason)

    def _compare_clocks(self) -> float:
        """Return CLOCK_BOOTTIME, after a check for a jump of the wall clock."""
        clock = self._clock
        now = clock.boottime()
        offset = clock.wall() - now
        jump = offset - self.term.offset
        if jump > JUMP or jump < -JUMP:
            self.term.offset = offset
            self._suspect(now, jump)
        return now

    def _suspect(self, now: float, jump: float) -> None:
        """Distrust the clocks until a renewal is confirmed: after a sleep only the store knows the owner."""
        self._suspected, self._due = now, now
        self._set_deadline(min(self._deadline, now + self._rules.terms.doubt))
        self._reason = f"the wall clock jumped by {jump:.1f} s"
        self._wake.set()
        if self.leases:
            self._doubt()

    def _set_deadline(self, moment: float) -> None:
        changed, self._deadline = moment != self._deadline, moment
        self._set_term()
        if changed:
            self._on_deadline(moment)

    def _set_term(self) -> None:
        """Set the numbers by which leases judge, after a change of the deadline, of suspicion or of doubt."""
        self.term.until = self._deadline if self._suspected is None else -math.inf
        self.term.certain_until = -math.inf if self.doubted.is_set() else self.term.until

    # --- one renewal ---

    def _fresh(self) -> bool:
        return self.valid() and self._clock.boottime() < self._deadline - self._rules.terms.doubt

    def _renew_now(self) -> asyncio.Task[None]:
        if self._renewal is None or self._renewal.done():
            self._due = math.inf  # until there is a response
            self._renewal = tasks.start(self._renew(), "session renewal")
        return self._renewal

    async def _renew(self) -> None:
        try:
            if self._etag is None:
                await self._begin()
            else:
                await self._write(self._etag)
        finally:
            if self._due == math.inf:
                self._due = self._clock.boottime() + RETRY
            self._wake.set()

    async def _begin(self) -> None:
        try:
            seen = await self._store.look(self._key)
            there = None if seen is None else record.read(seen.body, Session, self._key)
        except (StoreUnavailable, Unreadable) as error:
            self._reason = str(error)
            return
        if seen is not None and there is not None:
            decision = self._rules.begin(there, seen.age, self._me, lives=identity.is_running(there.process))
            if isinstance(decision, Wait):
                self._reason = decision.reason
                return
        await self._write(None if seen is None else seen.etag)

    async def _write(self, matched: str | None) -> None:
        """Write the session. The time is read before the request is sent, so a late write is never thought newer."""
        self._compare_clocks()
        new = self._new()
        self._sent[new.nonce] = self._clock.boottime()
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        outcome = await swap(self._store, self._key, new, matched, self._rules, tuple(self._sent))
        if isinstance(outcome, Landed):
            self._confirm(self._sent[outcome.nonce], outcome.etag)
            return
        self._reason = outcome.reason
        if isinstance(outcome, Refused):
            self._lose(outcome.reason)

    def _new(self) -> Session:
        self._seq += 1
        me, nonce = self._me, uuid.uuid4().hex
        return Session(
            machine=me.machine,
            app=me.app,
            region=me.region,
            boot=me.boot,
            seq=self._seq,
            nonce=nonce,
            ttl=self._rules.terms.ttl,
            process=me.process,
            version=__version__,
        )

    def _confirm(self, sent: float, etag: str) -> None:
        self._compare_clocks()
        self._etag, self._due = etag, sent + self._rules.terms.renew
        self._sent.clear()
        if self._suspected is not None and sent < self._suspected:
            self._due = self._suspected  # sent before the machine slept: no evidence for now
            return
        self._suspected = None
        self._set_deadline(self._rules.deadline(sent))
        if self._fresh() and self.doubted.is_set():
            self.doubted.clear()
            self._set_term()
            self._event("info", "session confirmed")

    def _lose(self, reason: str) -> None:
        held, self._etag = self._etag is not None, None
        self._sent.clear()
        self._suspected = None
        self._set_deadline(-math.inf)
        self.chain += 1
        lost, self.leases = self.leases, set()
        for lease in lost:
            lease.end(f"the session of this machine is lost: {reason}", lost=True)
        if held:
            self._event("error", "session lost, with all leases based on it", reason=reason, users=len(lost))

    def _event(self, level: str, message: str, **fields: Any) -> None:
        self._log.event(level, message, machine=self._me.machine, **fields)
