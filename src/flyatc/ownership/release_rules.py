"""Decide what an operator may do about a user whose owner does not come back, with a reason. Pure."""

from dataclasses import dataclass

from msgspec import structs

from flyatc.ownership.errors import removal
from flyatc.ownership.record import Data, Holder, Owner, Session, State, Successor
from flyatc.ownership.rules import Rules


@dataclass(frozen=True)
class Free:
    """The user becomes ``released``. ``loses``: the data lost unless restored by hand; empty: none."""

    reason: str
    loses: str
    breaks: bool = False  # the holder's session first


@dataclass(frozen=True)
class Denied:
    reason: str
    vanished: bool = False  # the holder's session


@dataclass(frozen=True)
class Settled:
    """Nothing is left to do."""

    reason: str


def decide(
    rules: Rules,
    user: str,
    owner: Owner | None,
    session: Session | None,
    age: float,
    *,
    accept_loss: bool,
    to: str | None = None,
    remove: bool = False,
) -> Free | Denied | Settled:
    """Decide about the release of ``user``. ``session``: the holder's; ``age``: of that, in seconds. ``accept_loss``:
    the operator accepts a loss of data. ``to``: the next machine; None: any. ``remove``: no machine may take the
    user."""
    if owner is None or owner.state in (State.RELEASED, State.REMOVED):
        return _removal(owner) if remove else _unheld(user, owner, to)
    if to is not None and owner.state is State.HELD and owner.holder.machine == to:
        return Settled(f"{owner.holder} has taken {user}")
    where = f"{owner.holder} (epoch {owner.epoch})"
    if owner.state is State.DIRTY:
        because = f" ({owner.why})" if owner.why else ""
        if not accept_loss:
            return Denied(f"{where} could not save all of {user}{because}: start it, or use flyatc takeover {user}")
        return Free(f"{where} has stopped and could not save all{because}", _loses(user, owner))
    if session is None:
        wait = owner.ttl + rules.terms.grace
        return Denied(f"the session of {where} has vanished; it may be alive: try again in {wait:.0f} s", vanished=True)
    dead = rules.dead(session, age)
    if dead is None:
        left = max(1.0, session.ttl + rules.terms.grace - age)
        return Denied(
            f"{where} renewed its session {age:.0f} s ago: stop {user} there, or that machine; or wait {left:.0f} s"
        )
    return Free(f"{where}: {dead}", _loses(user, owner), breaks=session.broken is None)


def _removal(owner: Owner | None) -> Free | Settled:
    """Decide about a removal of a user that no machine holds."""
    if owner is None:
        return Free("no machine has ever owned it", "")
    if owner.state is State.REMOVED:
        return Settled("it is removed")
    return Free(f"{owner.holder} has released it", "")


def _unheld(user: str, owner: Owner | None, to: str | None) -> Free | Denied | Settled:
    if owner is None:
        return Denied(f"no machine has ever owned {user}: there is nothing to release or take over")
    return Denied(removal(user)) if owner.state is State.REMOVED else _direct(user, owner, to)


def _direct(user: str, owner: Owner, to: str | None) -> Free | Denied | Settled:
    """Decide about a released user: only the machine to which it is released may change."""
    if to is None and owner.to is None:
        return Settled(f"it is free already: {owner.holder} has released it, and the next request takes it")
    if owner.to is not None and to == owner.to.machine:
        return Settled(f"{owner.holder} has released {user}, for machine {to}")
    before = f", for {owner.to}" if owner.to is not None else ""
    return Free(f"{owner.holder} has released it{before}", "")


def freed(owner: Owner, nonce: str, *, accept_loss: bool, to: str | None = None, remove: bool = False) -> Owner:
    """Return the released record. Without ``accept_loss`` the holder's local files still count if it is the next
    owner. ``to``, ``remove``: as in ``decide``."""
    if remove:
        return structs.replace(freed(owner, nonce, accept_loss=accept_loss), state=State.REMOVED)
    successor = Successor(app=owner.holder.app, machine=to) if to is not None else None
    if owner.state is State.RELEASED:
        return structs.replace(owner, nonce=nonce, to=successor)
    epoch = owner.epoch + 1 if accept_loss else owner.epoch
    since = epoch if accept_loss else owner.data.since
    data = structs.replace(owner.data, since=since, fence=True)
    return structs.replace(owner, epoch=epoch, state=State.RELEASED, nonce=nonce, data=data, why="", to=successor)


def never_owned(nonce: str, ttl: float) -> Owner:
    """Return the record of a user removed before any machine owned it. A later owner begins anew."""
    none = Holder(app="", machine="none", region="", boot="none")
    return Owner(
        epoch=1, state=State.REMOVED, holder=none, nonce=nonce, ttl=ttl, data=Data(line=1, since=1, fence=True)
    )


def added(owner: Owner, nonce: str) -> Owner:
    """Return the record of a removed user that is added again: released, with all its data in the store."""
    return structs.replace(owner, nonce=nonce, state=State.RELEASED)


def _loses(user: str, owner: Owner) -> str:
    return (
        f"what {owner.holder} has written for {user} since its last save. It stays on that machine's disk; should it "
        "come back, it is set aside there: flyatc orphans"
    )
