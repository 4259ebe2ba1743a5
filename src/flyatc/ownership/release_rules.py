"""What an operator may do about a user whose owner does not come back: a decision with its reason. Pure."""

from dataclasses import dataclass

from msgspec import structs

from flyatc.ownership.errors import removal
from flyatc.ownership.record import Data, Holder, Owner, Session, State, Successor
from flyatc.ownership.rules import Rules


@dataclass(frozen=True)
class Free:
    """It will be ``released``. ``loses``: what nobody will see again without digging for it. Empty: nothing."""

    reason: str
    loses: str
    breaks: bool = False  # the holder's session first


@dataclass(frozen=True)
class Denied:
    reason: str
    vanished: bool = False  # the holder's session


@dataclass(frozen=True)
class Settled:
    """It is as it is to be."""

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
    """``session``: the holder's, and its age in seconds. ``accept_loss``: the operator has been told. ``to``: the
    machine which is to be the next; None: whoever is asked. ``remove``: no machine is."""
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
        return Denied(f"{where} gave a sign {age:.0f} s ago: stop {user} there, or that machine; or wait {left:.0f} s")
    return Free(f"{where}: {dead}", _loses(user, owner), breaks=session.broken is None)


def _removal(owner: Owner | None) -> Free | Settled:
    """No machine has it."""
    if owner is None:
        return Free("nobody has ever owned it", "")
    if owner.state is State.REMOVED:
        return Settled("it is removed")
    return Free(f"{owner.holder} has released it", "")


def _unheld(user: str, owner: Owner | None, to: str | None) -> Free | Denied | Settled:
    if owner is None:
        return Denied(f"nobody has ever owned {user}: there is nothing to release")
    return Denied(removal(user)) if owner.state is State.REMOVED else _direct(user, owner, to)


def _direct(user: str, owner: Owner, to: str | None) -> Free | Denied | Settled:
    """It is released: all that may change is for whom."""
    if to is None and owner.to is None:
        return Denied(f"{user} is free already: {owner.holder} has released it, and the next visit takes it")
    if owner.to is not None and to == owner.to.machine:
        return Settled(f"{owner.holder} has released {user}, for machine {to}")
    before = f", for {owner.to}" if owner.to is not None else ""
    return Free(f"{owner.holder} has released it{before}", "")


def freed(owner: Owner, nonce: str, *, accept_loss: bool, to: str | None = None, remove: bool = False) -> Owner:
    """The record when it is done. Without ``accept_loss`` what the holder has on its disk still counts, if it is the
    next to come. ``to``, ``remove``: as in ``decide``."""
    if remove:
        return structs.replace(freed(owner, nonce, accept_loss=accept_loss), state=State.REMOVED)
    heir = Successor(app=owner.holder.app, machine=to) if to is not None else None
    if owner.state is State.RELEASED:
        return structs.replace(owner, nonce=nonce, to=heir)
    epoch = owner.epoch + 1 if accept_loss else owner.epoch
    since = epoch if accept_loss else owner.data.since
    data = structs.replace(owner.data, since=since, fence=True)
    return structs.replace(owner, epoch=epoch, state=State.RELEASED, nonce=nonce, data=data, why="", to=heir)


def never_owned(nonce: str, ttl: float) -> Owner:
    """The record of a user that is removed before any machine has owned it. Whoever takes it later begins anew."""
    nobody = Holder(app="", machine="none", region="", boot="none")
    return Owner(
        epoch=1, state=State.REMOVED, holder=nobody, nonce=nonce, ttl=ttl, data=Data(line=1, since=1, fence=True)
    )


def added(owner: Owner, nonce: str) -> Owner:
    """The record of a removed user that is added again: released, with all that is in the store."""
    return structs.replace(owner, nonce=nonce, state=State.RELEASED)


def _loses(user: str, owner: Owner) -> str:
    return (
        f"what {owner.holder} has written for {user} since its last save. It stays on that machine's disk; should it "
        "come back, it is set aside there: flyatc orphans"
    )
