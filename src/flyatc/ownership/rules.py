"""Who may write: every decision, with its reason. Pure: what was read and what time it is are told.

Why these rules suffice is in ``design.md``.

How long a session is good for, and the margins around it. Pure.
"""

from collections.abc import Collection
from dataclasses import dataclass

from flyatc.ownership.record import Data, Me, Owner, Session, State, Successor

DRIFT = 0.01  # how wrong the rate of a machine's clock may be; crystals are wrong by 0.0001
SKEW = 2.0  # s; the store tells ages in whole seconds, and its servers' clocks differ a little
KILL = 2.0  # s; from the deadline until an app that was sent SIGKILL has written its last


@dataclass(frozen=True)
class Terms:
    """All in seconds. A session is valid for ``ttl - margin`` from before it was sent; others may break it ``ttl +
    grace`` after it was written. ``doubt``: so long before the deadline new requests are held. ``patience``: what one
    call of the store's hurried client may take."""

    ttl: float = 30.0
    margin: float = 5.0
    grace: float = 8.0
    doubt: float = 5.0
    patience: float = 3.0

    @classmethod
    def of(cls, ttl: float) -> "Terms":
        """Sound ones for a session of ``ttl`` seconds, 10 at least."""
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
        """Raises ValueError with a sentence unless two machines can never both be right."""
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
    """What a key of the store held. ``age``: seconds since it was written, by the store's clock."""

    etag: str
    age: float
    nonce: str


# --- what became of a write ---


@dataclass(frozen=True)
class Landed:
    """It is in the store, or an earlier one of ours is: the one with this nonce."""

    etag: str
    nonce: str


@dataclass(frozen=True)
class Refused:
    """It is not in the store, and never will be."""

    reason: str


@dataclass(frozen=True)
class Unsure:
    """It is not in the store now, as far as we could see. It may still come."""

    reason: str


Outcome = Landed | Refused | Unsure


# --- what to do about a user ---


@dataclass(frozen=True)
class Take:
    """Write ``held``. ``clean``: the former owner says that the store has all."""

    epoch: int
    data: Data
    clean: bool
    reason: str


@dataclass(frozen=True)
class Ask:
    """It depends on the session of this machine."""

    machine: str


@dataclass(frozen=True)
class Break:
    """First break the holder's session; then take."""

    take: Take


@dataclass(frozen=True)
class ReplaceMissingSession:
    """The holder's session is not there. Put one in its place which nobody renews; it counts from now."""

    reason: str


@dataclass(frozen=True)
class Elsewhere:
    dirty: bool
    reason: str


@dataclass(frozen=True)
class Gone:
    """An operator has removed the user: no machine takes it until it is added again."""


@dataclass(frozen=True)
class Promised:
    """It was released to another machine. That it never comes is for others to say; then ask again."""

    successor: Successor


# --- what to do about our own session ---


@dataclass(frozen=True)
class Begin:
    """Write our session over what is there."""

    reason: str


@dataclass(frozen=True)
class Wait:
    reason: str


@dataclass(frozen=True)
class Rules:
    terms: Terms

    # --- time ---

    def deadline(self, sent: float) -> float:
        """Until when a session is valid which was sent at ``sent``, read before the request: by our own clock."""
        return sent + self.terms.valid

    def may_write(self, now: float, deadline: float, *, suspected: bool, leaving: bool) -> bool:
        """``suspected``: our clock stood still meanwhile, or may have: the deadline means nothing. ``leaving``:
        ``released`` is about to be sent, or was. Whatever becomes of it, others may act on it."""
        return now < deadline and not suspected and not leaving

    def dead(self, session: Session, age: float) -> str | None:
        """Why nobody writes by virtue of this session any more, or will when it is broken. None: it may be alive."""
        if session.broken is not None:
            return "its session has ended" if session.broken == session.machine else "its session is broken"
        if age >= session.ttl + self.terms.grace:
            return f"it has given no sign for {age:.0f} s"
        return None

    # --- writes ---

    def concluded(self, ours: Collection[str], matched: str | None, found: Found | None) -> Outcome:
        """What a read-back says of a write whose answer was lost, or which was refused: it may be our own that came
        before it. ``ours``: the nonces which we have sent and know nothing of. ``matched``: the etag it was to
        replace, None: it was to create."""
        if found is not None and found.nonce in ours:
            return Landed(found.etag, found.nonce)
        if (found.etag if found is not None else None) == matched:
            return Unsure("the store has not confirmed it")
        return Refused("somebody else has written it" if found is not None else "it has vanished from the store")

    # --- our own session ---

    def begin(self, session: Session, age: float, me: Me, *, lives: bool) -> Begin | Wait:
        """``session``: what is there under our machine's name. ``lives``: its process runs on this machine."""
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
        self, owner: Owner | None, me: Me, known: int, *, forsaken: bool = False
    ) -> Take | Ask | Elsewhere | Promised | Gone:
        """We have a session. ``known``: the highest epoch that local files or the store's data tell of. ``forsaken``:
        the machine to which it was released does not come for it."""
        if owner is None:
            return Take(known + 1, Data(line=known + 1, since=max(known, 1)), True, "nobody has owned it")
        if owner.state is State.REMOVED:
            return Gone()
        epoch, data = 1 + max(owner.epoch, known), owner.data
        mine = owner.holder.machine == me.machine
        continues = mine and data.since <= known <= owner.epoch
        since = data.since if continues else epoch
        if owner.to is not None and owner.to.machine != me.machine and not forsaken:
            return Promised(owner.to)
        if owner.state is State.RELEASED:
            again = owner.holder == me.holder and continues and not data.fence
            line = epoch if data.fence else data.line
            reason = f"{owner.holder} has released it"
            return Take(owner.epoch if again else epoch, Data(line=line, since=since), not data.fence, reason)
        if mine:
            # Its boot has no session any more: ours has taken its place, and that was decided by ``begin``.
            line = data.line if continues else epoch
            reason = "it was ours before" if continues else "it was ours before, but what was on the disk is gone"
            return Take(epoch, Data(line=line, since=since), False, reason)
        if owner.state is State.DIRTY:
            return Elsewhere(True, owner.why)
        return Ask(owner.holder.machine)

    def may_forget(self, owner: Owner) -> bool:
        """Whether the record may be deleted, by its holder, which has nothing of the user on its disk any more, while
        the store has nothing either. Epochs begin anew then, so no other disk may know one: no other machine has ever
        owned the user."""
        return owner.data.since == 1 and owner.state is State.HELD and owner.to is None

    def steal(
        self, owner: Owner, session: Session | None, age: float, known: int, *, ended: bool = False
    ) -> Take | Break | ReplaceMissingSession | Elsewhere:
        """``session``: of the machine which holds the user, and is not us. ``ended``: it was a daemon on our own data
        folder, and its process has ended."""
        if session is None:
            return ReplaceMissingSession("its session has vanished from the store")
        reason = self.dead(session, age)
        if reason is None and ended:
            reason = "it ran on this data folder, which has been deleted since, and its process has ended"
        if reason is None:
            return Elsewhere(False, "its session lives")
        epoch = 1 + max(owner.epoch, known)
        take = Take(epoch, Data(line=epoch, since=epoch), False, f"taken from {owner.holder}: {reason}")
        return take if session.broken is not None else Break(take)
