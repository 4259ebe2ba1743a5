"""Acquire, share and release leases: while one is held, this machine may write the user's databases."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec import structs

from flyatc.kit import tasks
from flyatc.kit.machine_clocks import Clock
from flyatc.observe.log import Log
from flyatc.ownership import acquire, record
from flyatc.ownership.acquire import Taken, Taker
from flyatc.ownership.errors import OwnershipUnknown
from flyatc.ownership.lease import HeldLease, PreviousLease
from flyatc.ownership.record import Me, Owner, State, Successor
from flyatc.ownership.record_swap import LimitedStore, RecordStore, remove, swap
from flyatc.ownership.rules import Landed, Outcome, Refused, Rules, Terms
from flyatc.ownership.session import SessionKeeper

LANES = 3  # concurrent store calls, besides those of the session: the store's client needs one thread more


async def _never(user: str, successor: Successor) -> bool:
    return False


class _Place:
    """The state of one user's lease on this machine."""

    def __init__(self) -> None:
        self.holds = self.entries = 0
        self.turn = asyncio.Lock()  # serializes taking, raising the epoch and releasing
        self.taking: asyncio.Task[HeldLease] | None = None
        self.lease: HeldLease | None = None
        self.owner: Owner | None = None  # as we wrote it last
        self.etag = ""
        self.chain = 0  # the session's ``chain`` when it was taken


class LeaseManager:
    """Leases of this machine. ``store``: a client of its own which does not retry, with LANES + 1 threads; its calls
    take no longer than ``terms.patience``. Its creator closes it, after ``close``. Raises ValueError if the terms are
    unsafe."""

    def __init__(
        self,
        store: RecordStore,
        me: Me,
        terms: Terms,
        log: Log,
        *,
        successor_declines: Callable[[str, Successor], Awaitable[bool]] = _never,
        clock: Clock | None = None,
        on_deadline: Callable[[float], object] = lambda _: None,
    ) -> None:
        """``successor_declines``: see Taker; ``on_deadline``: see SessionKeeper."""
        terms.check()
        self._log = log
        self._rules = Rules(terms)
        self._clock = clock or Clock()
        self._session = SessionKeeper(store, me, self._rules, log, self._clock, on_deadline)
        self._store = LimitedStore(store, LANES)
        self._taker = Taker(self._store, me, self._rules, successor_declines)
        self._places: dict[str, _Place] = {}
        self._awake = asyncio.Event()  # not set: no user is taken, see ``rest``
        self._awake.set()
        self._unsettled: set[str] = set()  # users with data that may be only here, unknown to the store

    @contextlib.asynccontextmanager
    async def hold(self, user: str, known: int = 0) -> AsyncIterator[HeldLease]:
        """Hold a lease: within the block this machine may write the user's databases. ``known``: the highest epoch in
        local files. Holds of one user share one lease, also while it is being taken.

        The last exit releases it, unless it has ended. Raises HeldElsewhere, OwnershipUnknown."""
        place = self._places.setdefault(user, _Place())
        place.holds += 1
        place.entries += 1
        try:
            lease = await self._enter(user, place, known)
            lease.traceless = False
            yield lease
        finally:
            place.holds -= 1
            if place.holds == 0:
                await tasks.to_the_end(tasks.start(self._leave(user, place), f"release {user}"))

    def holds(self, user: str) -> bool:
        """Return whether the user is held here, or about to be. Cheap."""
        place = self._places.get(user)
        return place is not None and place.holds > 0

    def held(self) -> list[str]:
        """Users that are held here, or about to be, in order of their names."""
        return sorted(user for user, place in self._places.items() if place.holds > 0)

    async def look(self, user: str) -> Owner | None:
        """Read the owner's record. None: the user surely never had an owner. Raises OwnershipUnknown."""
        found = await acquire.look(self._store, user)
        return found[0] if found is not None else None

    async def close(self) -> None:
        """Stop renewals; no lease is valid any more. The session is ended in the store, so that other machines need not
        wait for its expiry, unless users are still held or have unsaved data here: then our restart should come
        first."""
        held = any(place.holds for place in self._places.values())
        await self._session.close(ended=not held and not self._unsettled)

    # --- sleep ---

    async def rest(self) -> None:
        """Prepare for suspension, during which clocks stand still unnoticed. From now on no lease is valid, and takes
        wait for ``wake``. Raises OwnershipUnknown if the machine must not sleep: users are held, data are unsaved, or
        the store does not confirm the end of our session."""
        if self._unsettled or any(place.holds for place in self._places.values()):
            raise OwnershipUnknown("this machine still has users, or what is not in the store")
        self._awake.clear()
        try:
            await self._session.rest()
        except BaseException:
            self.wake()
            raise

    async def slept(self) -> bool:
        """Return whether, by the store's clock, the machine was suspended since ``rest``. False: no, or unknown."""
        return await self._session.slept()

    def wake(self) -> None:
        """End the rest: suspension is over or cancelled. Takes resume, with a session confirmed after this call."""
        self._awake.set()

    # --- taking ---

    async def _enter(self, user: str, place: _Place, known: int) -> HeldLease:
        lease = place.lease
        if lease is None or lease.ended.is_set():
            if place.taking is None or place.taking.done():
                place.taking = tasks.start(self._take(user, place, known), f"take {user}")
            lease = await tasks.joined(place.taking)
        if known > lease.epoch:
            await lease.raise_epoch(known)
        return lease

    async def _take(self, user: str, place: _Place, known: int) -> HeldLease:
        await self._awake.wait()
        begun = self._clock.boottime()
        async with place.turn:
            chain, found = await tasks.every([self._chain(), self._find(user)], f"look at {user}")
            assert isinstance(chain, int)
            assert not isinstance(found, int)
            if (previous := self._resumed(place, found, chain)) is not None:
                reason = "our session had expired, and no other machine has taken it meanwhile"
            else:
                self._forget(place)
                taken = await self._taker.take(user, found, known)
                place.owner, place.etag, place.chain = taken.owner, taken.etag, chain
                previous, reason = _previous(taken), taken.decision.reason
            if not self._session.valid() or self._session.chain != chain:
                raise OwnershipUnknown(f"{user} was taken, but our session has ended meanwhile")
            return self._new_lease(user, place, previous, reason, self._clock.boottime() - begun)

    async def _chain(self) -> int | acquire.Read | None:
        return await self._session.ensure()

    async def _find(self, user: str) -> int | acquire.Read | None:
        return await acquire.look(self._store, user)

    @staticmethod
    def _resumed(place: _Place, found: acquire.Read | None, chain: int) -> PreviousLease | None:
        """Return the lease to resume after an expiry: our session was never broken, and the record is as we wrote
        it."""
        if place.lease is None or place.lease.lost or place.chain != chain or found is None:
            return None
        owner, seen = found
        if seen.etag != place.etag:
            return None
        return PreviousLease(owner.epoch, clean=False, line_epoch=owner.data.line, since=owner.data.since)

    def _new_lease(self, user: str, place: _Place, previous: PreviousLease, reason: str, took: float) -> HeldLease:
        owner = place.owner
        assert owner is not None
        self._forget(place)
        place.lease = HeldLease(
            owner.epoch,
            owner.data.line,
            previous,
            doubted=self._session.doubted,
            valid=self._session.valid,
            term=self._session.term,
            raise_epoch=lambda lease, above: self._raise_epoch(user, place, lease, above),
        )
        self._session.hold(place.lease)
        self._unsettled.discard(user)
        level = "info" if previous.clean else "warning"
        self._log.event(level, "user owned", user=user, epoch=owner.epoch, reason=reason, ms=round(took * 1000))
        return place.lease

    def _forget(self, place: _Place) -> None:
        if place.lease is not None:
            self._session.leases.discard(place.lease)
            place.lease = None

    async def _raise_epoch(self, user: str, place: _Place, lease: HeldLease, above: int) -> None:
        async with place.turn:
            if place.lease is not lease or lease.ended.is_set() or place.owner is None:
                raise OwnershipUnknown(f"{user} is not owned any more: {lease.why}")
            if above < lease.epoch:
                return
            epoch = above + 1
            new = structs.replace(place.owner, epoch=epoch, nonce=_nonce(), data=record.Data(line=epoch, since=epoch))
            outcome = await swap(self._store, record.owner_key(user), new, place.etag, self._rules)
            if not isinstance(outcome, Landed):  # also if it may still land: the record is then unknown
                lease.end(f"the record of {user} cannot be raised: {outcome.reason}", lost=True)
                raise OwnershipUnknown(lease.why)
            place.owner, place.etag = new, outcome.etag
            lease.epoch = lease.line_epoch = epoch
            self._log.event("warning", "epoch raised: the store's data knew a higher one", user=user, epoch=epoch)

    # --- releasing ---

    def may_forget(self, user: str) -> int | None:
        """Return the count of entries so far if the record may be deleted and there is only one hold, else None. The
        count is the same later if there was no further entry."""
        place = self._places.get(user)
        if place is None or place.holds != 1 or place.owner is None or not self._rules.may_forget(place.owner):
            return None
        return place.entries

    async def _leave(self, user: str, place: _Place) -> None:
        if place.taking is not None:
            await asyncio.wait([place.taking])
        async with place.turn:
            if place.holds:
                return  # held again meanwhile
            lease = place.lease
            if lease is not None and not lease.ended.is_set():
                await self._release(user, place, lease)
            elif lease is not None and not lease.lost:
                self._unsettled.add(user)
                return  # to be resumed
            if not place.holds:
                self._places.pop(user, None)

    async def _release(self, user: str, place: _Place, lease: HeldLease) -> None:
        """Release the user. Writing is forbidden before the request is sent, whatever its outcome."""
        lease.leaving = True
        self._forget(place)
        owner, why = place.owner, lease.dirty
        assert owner is not None
        if lease.traceless and not why and self._rules.may_forget(owner):
            outcome = await remove(self._store, record.owner_key(user), place.etag)
            return self._released(user, lease, owner, outcome, "forgotten")
        state = State.DIRTY if why else State.RELEASED
        new = structs.replace(owner, state=state, nonce=_nonce(), why=why[: record.LONGEST_WHY])
        outcome = await swap(self._store, record.owner_key(user), new, place.etag, self._rules)
        return self._released(user, lease, owner, outcome, state.value)

    def _released(self, user: str, lease: HeldLease, owner: Owner, outcome: Outcome, what: str) -> None:
        lease.end("it was released", lost=False)
        why = lease.dirty
        if isinstance(outcome, Landed):
            self._log.event("warning" if why else "info", f"user {what}", user=user, epoch=owner.epoch)
            return
        if why:
            self._unsettled.add(user)
        level = "error" if isinstance(outcome, Refused) else "warning"
        self._log.event(level, "user not released", user=user, epoch=owner.epoch, reason=outcome.reason)


def _previous(taken: Taken) -> PreviousLease:
    before = taken.before
    if before is None:
        return PreviousLease(0, clean=True, line_epoch=0, since=0)
    return PreviousLease(before.epoch, clean=taken.decision.clean, line_epoch=before.data.line, since=before.data.since)


def _nonce() -> str:
    return uuid.uuid4().hex
