"""Lease and takeover decisions, each with its reason, and their timing. Pure: records and times are arguments.

``design.md`` explains why these rules suffice.
"""

from collections.abc import Collection
from dataclasses import dataclass

from flyatc.ownership.record import Data, Me, Owner, Session, State, Successor

DRIFT = 0.01  # allowed error in the rate of a machine's clock; crystals are off by 0.0001
SKEW = 2.0  # s; the store reports ages in whole seconds, and its servers' clocks differ a little
KILL = 2.0  # s; from the deadline until the last write of an app that was sent SIGKILL


@dataclass(frozen=True)
class Terms:
    """Session timing, in seconds. A session is valid for ``ttl - margin`` after it was sent; others may break it ``ttl
    + grace`` after it was written. ``doubt``: new requests pause this long before the deadline. ``patience``: the limit
    of one call of the store's hurried client."""

    ttl: float = 30.0
    margin: float = 5.0
    grace: float = 8.0
    doubt: float = 5.0
    patience: float = 3.0

    @classmethod
    def of(cls, ttl: float) -> "Terms":
        """Return safe terms for a session of ``ttl`` seconds, at least 10. Raises ValueError."""
        margin = doubt = max(min(ttl / 6, 5.0), 2.5 * DRIFT * ttl)
        patience = min(3.0, (ttl - margin - doubt - ttl / 3 - 1) / 3)
        terms = cls(ttl=ttl, margin=margin, grace=max(SKEW + KILL, min(ttl / 4, 8.0)), doubt=doubt, patience=patience)
        terms.check()
        return terms

    @property
    def renew(self) -> float:
        """Seconds from one renewal to the next."""
        return self.ttl / 3

    @property
    def valid(self) -> float:
        return self.ttl - self.margin

    def check(self) -> None:
        """Raise ValueError unless the terms exclude two writers at once."""
        if min(self.ttl, self.margin, self.grace, self.doubt, self.patience) <= 0:
            raise ValueError("ttl, margin, grace, doubt and patience must be above 0")
        if self.margin < DRIFT * self.ttl * 2:
            raise ValueError(f"margin must be at least {DRIFT * self.ttl * 2:g}: clocks may drift by 1 %")
        if self.grace < SKEW + KILL:
            raise ValueError(f"grace must be at least {SKEW + KILL:g}: to be sure of the store's clock, and to kill")
        if self.renew + 3 * self.patience + 1 > self.valid - self.doubt:
            raise ValueError("ttl is too short: one lost renewal must not stop the apps. Make it longer")


@dataclass(frozen=True)
class Found:
    """The object found at a key. ``age``: seconds since it was written, by the store's clock."""

    etag: str
    age: float
    nonce: str


# --- the outcome of a write ---


@dataclass(frozen=True)
class Landed:
    """Our write with this nonce is in the store: the one just sent, or an earlier one."""

    etag: str
    nonce: str


@dataclass(frozen=True)
class Refused:
    """The write is not in the store, and never will be."""

    reason: str


@dataclass(frozen=True)
class Unsure:
    """The write was not seen in the store; it may still land."""

    reason: str


Outcome = Landed | Refused | Unsure


# --- what to do about a user ---


@dataclass(frozen=True)
class Take:
    """Write ``held``. ``clean``: the previous owner recorded that the store has all data."""

    epoch: int
    data: Data
    clean: bool
    reason: str


@dataclass(frozen=True)
class Ask:
    """Read the session of ``machine`` to decide."""

    machine: str


@dataclass(frozen=True)
class Break:
    """Break the holder's session first, then take."""

    take: Take


@dataclass(frozen=True)
class ReplaceMissingSession:
    """The holder's session is missing: write one in its place, never renewed, whose age counts from now."""

    reason: str


@dataclass(frozen=True)
class Elsewhere:
    """Another machine has the user. ``dirty``: it has stopped with data that the store lacks."""

    dirty: bool
    reason: str


@dataclass(frozen=True)
class Gone:
    """An operator removed the user: no machine takes it until it is added again."""


@dataclass(frozen=True)
class Promised:
    """The user was released to another machine. If the caller learns that it never comes: call ``take`` again."""

    successor: Successor


# --- what to do about our own session ---


@dataclass(frozen=True)
class Begin:
    """Write our session over the one in the store."""

    reason: str


@dataclass(frozen=True)
class Wait:
    reason: str


@dataclass(frozen=True)
class Rules:
    terms: Terms

    # --- time ---

    def deadline(self, sent: float) -> float:
        """Return when a session sent at ``sent`` expires. Both by our own clock, ``sent`` read before the request."""
        return sent + self.terms.valid

    def may_write(self, now: float, deadline: float, *, suspected: bool, leaving: bool) -> bool:
        """Return whether this machine may write. ``suspected``: our clock may have stood still, so the deadline means
        nothing. ``leaving``: ``released`` is about to be sent, or was; others may act on it, even if it seems lost."""
        return now < deadline and not suspected and not leaving

    def dead(self, session: Session, age: float) -> str | None:
        """Return why this session permits no writes any more, at the latest once it is broken; None: it may be
        alive."""
        if session.broken is not None:
            return "its session has ended" if session.broken == session.machine else "its session is broken"
        if age >= session.ttl + self.terms.grace:
            return f"its session has not been renewed for {age:.0f} s"
        return None

    # --- writes ---

    def concluded(self, ours: Collection[str], matched: str | None, found: Found | None) -> Outcome:
        """Judge by a read-back a write that was refused or whose response was lost; an earlier write of ours may have
        landed before it. ``ours``: nonces sent without a known outcome. ``matched``: the etag to replace; None: the
        write was to create."""
        if found is not None and found.nonce in ours:
            return Landed(found.etag, found.nonce)
        if (found.etag if found is not None else None) == matched:
            return Unsure("the store has not confirmed it")
        return Refused("another writer has changed it" if found is not None else "it has vanished from the store")

    # --- our own session ---

    def begin(self, session: Session, age: float, me: Me, *, lives: bool) -> Begin | Wait:
        """Decide whether to begin a session over one stored under our machine's name. ``lives``: its process runs
        here."""
        if session.boot == me.boot:
            return Begin("it is ours")
        if session.boot in me.boots:
            return Begin("it is of an earlier run on this data folder")
        if me.platform and "" not in (session.process.kernel, me.process.kernel):
            if session.process.kernel != me.process.kernel:
                return Begin("the machine has been restarted since")
            if not lives:
                return Begin("its process has ended")
        if reason := self.dead(session, age):
            return Begin(reason)
        return Wait(f"another flyatc (pid {session.process.pid}) runs as machine {me.machine}, on another data folder")

    # --- a user ---

    def take(
        self, owner: Owner | None, me: Me, known: int, *, declined: bool = False
    ) -> Take | Ask | Elsewhere | Promised | Gone:
        """Decide whether to take a user; our session is valid. ``known``: the highest epoch in local files or the
        store's data. ``declined``: the machine to which it was released will not take it."""
        if owner is None:
            return Take(known + 1, Data(line=known + 1, since=max(known, 1)), True, "no machine has owned it")
        if owner.state is State.REMOVED:
            return Gone()
        epoch, data = 1 + max(owner.epoch, known), owner.data
        mine = owner.holder.machine == me.machine
        continues = mine and data.since <= known <= owner.epoch
        since = data.since if continues else epoch
        if owner.to is not None and owner.to.machine != me.machine and not declined:
            return Promised(owner.to)
        if owner.state is State.RELEASED:
            again = owner.holder == me.holder and continues and not data.fence
            line = epoch if data.fence else data.line
            reason = f"{owner.holder} has released it"
            return Take(owner.epoch if again else epoch, Data(line=line, since=since), not data.fence, reason)
        if mine:
            # That run has no session any more: ours replaced it, as ``begin`` decided.
            line = data.line if continues else epoch
            reason = "it was ours before" if continues else "it was ours before, but what was on the disk is gone"
            return Take(epoch, Data(line=line, since=since), False, reason)
        if owner.state is State.DIRTY:
            return Elsewhere(True, owner.why)
        return Ask(owner.holder.machine)

    def may_forget(self, owner: Owner) -> bool:
        """Return whether the holder may delete the record, once neither its disk nor the store has data of the user.
        Epochs then begin anew, so no other disk may know one: no other machine may ever have owned the user."""
        return owner.data.since == 1 and owner.state is State.HELD and owner.to is None

    def steal(
        self, owner: Owner, session: Session | None, age: float, known: int, *, ended: bool = False
    ) -> Take | Break | ReplaceMissingSession | Elsewhere:
        """Decide whether to take a user held by another machine. ``session``: that machine's. ``ended``: it was a
        daemon on our own data folder, and its process has ended."""
        if session is None:
            return ReplaceMissingSession("its session has vanished from the store")
        reason = self.dead(session, age)
        if reason is None and ended:
            reason = "it ran on this data folder, which has been deleted since, and its process has ended"
        if reason is None:
            return Elsewhere(False, "its session is alive")
        epoch = 1 + max(owner.epoch, known)
        take = Take(epoch, Data(line=epoch, since=epoch), False, f"taken from {owner.holder}: {reason}")
        return take if session.broken is not None else Break(take)
