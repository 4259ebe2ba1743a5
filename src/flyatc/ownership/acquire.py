"""The takeover of a user: read the record, decide, write."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from msgspec import structs

from flyatc.objects.store import Seen, StoreUnavailable
from flyatc.ownership import identity, record
from flyatc.ownership.errors import HeldElsewhere, OwnershipUnknown
from flyatc.ownership.record import Me, Owner, Session, State, Successor, Unreadable
from flyatc.ownership.record_swap import RecordStore, swap
from flyatc.ownership.rules import (
    SKEW,
    Ask,
    Break,
    Gone,
    Landed,
    Promised,
    Refused,
    ReplaceMissingSession,
    Rules,
    Take,
    Unsure,
)

ROUNDS = 3  # a round is lost only to another writer that won it

R = TypeVar("R", Session, Owner)
Read = tuple[Owner, Seen]


@dataclass(frozen=True)
class Taken:
    """A takeover. ``before``: the record replaced; None: the user never had an owner."""

    owner: Owner
    etag: str
    before: Owner | None
    decision: Take


async def look(store: RecordStore, user: str) -> Read | None:
    """Read the owner's record. None: the user surely never had an owner. Raises OwnershipUnknown."""
    return await read(store, record.owner_key(user), Owner)


@dataclass(frozen=True)
class Taker:
    """Takes users for this machine. ``successor_declines``: returns whether the machine to which a user was released
    will not take it; then any machine may."""

    store: RecordStore
    me: Me
    rules: Rules
    successor_declines: Callable[[str, Successor], Awaitable[bool]]

    async def take(self, user: str, found: Read | None, known: int) -> Taken:
        """Take ``user``; our session is valid. ``found``: the result of ``look``. Raises HeldElsewhere,
        OwnershipUnknown."""
        for _ in range(ROUNDS):
            before, etag = (None, None) if found is None else (found[0], found[1].etag)
            decision = await self._decide(user, before, known)
            owner = self._owner(decision)
            outcome = await swap(self.store, record.owner_key(user), owner, etag, self.rules)
            if isinstance(outcome, Landed):
                return Taken(owner, outcome.etag, before, decision)
            if not isinstance(outcome, Refused):
                raise OwnershipUnknown(f"{user}: {outcome.reason}")
            found = await look(self.store, user)
        raise OwnershipUnknown(f"{user} is wanted by several machines at once")

    async def _decide(self, user: str, owner: Owner | None, known: int) -> Take:
        decision = self.rules.take(owner, self.me, known)
        if isinstance(decision, Promised):
            declined = await self.successor_declines(user, decision.successor)
            decision = self.rules.take(owner, self.me, known, declined=declined)
        if owner is None or isinstance(decision, Take):
            assert isinstance(decision, Take)
            return decision
        if isinstance(decision, Gone):
            raise HeldElsewhere(user, owner.holder, removed=True, since=owner.data.since)
        if isinstance(decision, Ask):
            return await self._ask(user, owner, known)
        if isinstance(decision, Promised):
            raise HeldElsewhere(user, decision.successor, why=f"{owner.holder} has released it", since=owner.data.since)
        raise HeldElsewhere(user, owner.holder, dirty=decision.dirty, why=decision.reason, since=owner.data.since)

    async def _ask(self, user: str, owner: Owner, known: int) -> Take:
        """Decide by the holder's session. Raises HeldElsewhere, OwnershipUnknown."""
        key = record.session_key(owner.holder.machine)
        for _ in range(ROUNDS):
            found = await read(self.store, key, Session)
            session, seen = found or (None, None)
            ended = session is not None and identity.daemon_has_ended(session.process, self.me)
            decision = self.rules.steal(owner, session, seen.age if seen else 0.0, known, ended=ended)
            match decision:
                case Take():
                    return decision
                case Break() if session is not None and seen is not None:
                    await self._check_age()
                    if await break_session(self.store, self.rules, session, seen.etag, by=self.me.machine):
                        return decision.take
                    continue  # another machine has broken it, or it is alive after all
                case ReplaceMissingSession():
                    await replace_missing_session(self.store, self.rules, owner)
            break
        raise HeldElsewhere(user, owner.holder, since=owner.data.since)

    async def _check_age(self) -> None:
        """Check that our own session, which is valid, does not look dead as well: then the store has two clocks,
        and the other machine may be alive. Raises OwnershipUnknown."""
        own = await read(self.store, record.session_key(self.me.machine), Session)
        if own is not None and own[0].boot == self.me.boot and own[1].age > self.rules.terms.valid + SKEW:
            raise OwnershipUnknown(
                f"the store says of our own session, which is valid, that it is {own[1].age:.0f} s old: its Date and "
                "its Last-Modified do not agree, so it is unknown which machines are alive"
            )

    def _owner(self, decision: Take) -> Owner:
        return Owner(
            epoch=decision.epoch,
            state=State.HELD,
            holder=self.me.holder,
            nonce=uuid.uuid4().hex,
            ttl=self.rules.terms.ttl,
            data=decision.data,
        )


async def break_session(store: RecordStore, rules: Rules, session: Session, etag: str, by: str) -> bool:
    """Break a session. True: the holder's renewals fail from now on. False: the session was written meanwhile.

    Raises OwnershipUnknown."""
    broken = structs.replace(session, broken=by, nonce=uuid.uuid4().hex)
    outcome = await swap(store, record.session_key(session.machine), broken, etag, rules)
    if isinstance(outcome, Unsure):
        raise OwnershipUnknown(f"the session of machine {session.machine} cannot be broken: {outcome.reason}")
    return isinstance(outcome, Landed)


async def replace_missing_session(store: RecordStore, rules: Rules, owner: Owner) -> None:
    """Write a session for the holder, whose own is missing. If the holder is alive, its next renewal fails."""
    holder = owner.holder
    stand_in = Session(
        machine=holder.machine,
        app=holder.app,
        region=holder.region,
        boot=holder.boot,
        seq=0,
        nonce=uuid.uuid4().hex,
        ttl=owner.ttl,
        process=record.Process(kernel="", pid=0, started=0),
    )
    await swap(store, record.session_key(holder.machine), stand_in, None, rules)


async def read(store: RecordStore, key: str, kind: type[R]) -> tuple[R, Seen] | None:
    """Read a record. None: surely absent. Raises OwnershipUnknown."""
    try:
        seen = await store.look(key)
        return None if seen is None else (record.read(seen.body, kind, key), seen)
    except (StoreUnavailable, Unreadable) as error:
        raise OwnershipUnknown(str(error)) from error
