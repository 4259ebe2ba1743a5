"""Plan and run ``flyatc release`` and ``flyatc takeover``. Needs the store, but no daemon."""

import uuid
from dataclasses import dataclass

from flyatc.objects.store import Seen
from flyatc.ownership import acquire, record, release_rules
from flyatc.ownership.errors import OwnershipUnknown
from flyatc.ownership.record import Owner, Session, State
from flyatc.ownership.record_swap import RecordStore, swap
from flyatc.ownership.release_rules import Denied, Free, Settled
from flyatc.ownership.rules import Landed, Rules, Terms

OPERATOR = "an operator"


@dataclass(frozen=True)
class _Case:
    decision: Free | Denied | Settled
    owner: tuple[Owner, Seen] | None
    session: tuple[Session, Seen] | None


async def plan(store: RecordStore, user: str, terms: Terms, *, accept_loss: bool) -> Free | Denied | Settled:
    """Return what ``release`` or ``takeover`` would do, without changes. Raises OwnershipUnknown."""
    return (await _case(store, user, Rules(terms), accept_loss)).decision


async def release(
    store: RecordStore, user: str, terms: Terms, to: str | None = None, *, remove: bool = False
) -> Free | Denied | Settled:
    """Release a user whose holder has released it or is dead, to machine ``to``; None: to any machine. If a dead holder
    is the next owner, nothing is lost. ``remove``: no machine may take the user. Raises OwnershipUnknown."""
    return await _free(store, user, Rules(terms), accept_loss=False, to=to, remove=remove)


async def add(store: RecordStore, user: str, terms: Terms) -> bool:
    """Release a removed user, so that any machine may take it. False: it is not removed. Raises OwnershipUnknown."""
    found = await acquire.look(store, user)
    if found is None or found[0].state is not State.REMOVED:
        return False
    new = release_rules.added(found[0], uuid.uuid4().hex)
    await _write(store, user, new, found[1].etag, Rules(terms))
    return True


async def takeover(store: RecordStore, user: str, terms: Terms) -> Free | Denied | Settled:
    """Release the user even if the holder has unsaved data, which do not count any more. Raises OwnershipUnknown."""
    return await _free(store, user, Rules(terms), accept_loss=True)


async def _case(
    store: RecordStore, user: str, rules: Rules, accept_loss: bool, to: str | None = None, remove: bool = False
) -> _Case:
    owner, session = await acquire.look(store, user), None
    if owner is not None:
        session = await acquire.read(store, record.session_key(owner[0].holder.machine), Session)
    decision = release_rules.decide(
        rules,
        user,
        owner[0] if owner is not None else None,
        session[0] if session is not None else None,
        session[1].age if session is not None else 0.0,
        accept_loss=accept_loss,
        to=to,
        remove=remove,
    )
    return _Case(decision, owner, session)


async def _free(
    store: RecordStore, user: str, rules: Rules, *, accept_loss: bool, to: str | None = None, remove: bool = False
) -> Free | Denied | Settled:
    case = await _case(store, user, rules, accept_loss, to, remove)
    if case.owner is None:
        if isinstance(case.decision, Free):
            await _write(store, user, release_rules.never_owned(uuid.uuid4().hex, rules.terms.ttl), None, rules)
        return case.decision
    owner, seen = case.owner
    if not isinstance(case.decision, Free):
        if isinstance(case.decision, Denied) and case.decision.vanished:
            await acquire.replace_missing_session(store, rules, owner)
        return case.decision
    if case.decision.breaks and case.session is not None:
        session, at = case.session
        if not await acquire.break_session(store, rules, session, at.etag, by=OPERATOR):
            raise OwnershipUnknown(f"{owner.holder} has just renewed its session: try again")
    new = release_rules.freed(owner, uuid.uuid4().hex, accept_loss=accept_loss, to=to, remove=remove)
    await _write(store, user, new, seen.etag, rules)
    return case.decision


async def _write(store: RecordStore, user: str, new: Owner, etag: str | None, rules: Rules) -> None:
    """Write the record. Raises OwnershipUnknown if it was written meanwhile, or if the outcome is unknown."""
    outcome = await swap(store, record.owner_key(user), new, etag, rules)
    if not isinstance(outcome, Landed):
        raise OwnershipUnknown(f"{user} is not {new.state.value}: {outcome.reason}")
