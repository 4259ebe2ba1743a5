"""What an operator may do about a user whose owner does not come back: a decision with its reason. Pure."""

from dataclasses import dataclass

from msgspec import structs

from flyatc.ownership.record import Owner, Session, State
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


def decide(
    rules: Rules, user: str, owner: Owner | None, session: Session | None, age: float, *, accept_loss: bool
) -> Free | Denied:
    """``session``: the holder's, and its age in seconds. ``accept_loss``: the operator has been told."""
    if owner is None:
        return Denied(f"nobody has ever owned {user}: there is nothing to release")
    if owner.state is State.RELEASED:
        return Denied(f"{user} is free already: {owner.holder} has released it, and the next visit takes it")
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


def freed(owner: Owner, nonce: str, *, accept_loss: bool) -> Owner:
    """The record when it is done. Without ``accept_loss`` what the holder has on its disk still counts, if it is the
    next to come."""
    epoch = owner.epoch + 1 if accept_loss else owner.epoch
    since = epoch if accept_loss else owner.data.since
    data = structs.replace(owner.data, since=since, fence=True)
    return structs.replace(owner, epoch=epoch, state=State.RELEASED, nonce=nonce, data=data, why="")


def _loses(user: str, owner: Owner) -> str:
    return (
        f"what {owner.holder} has written for {user} since its last save. It stays on that machine's disk; should it "
        "come back, it is set aside there: flyatc orphans"
    )
