"""How long a session is good for, and the margins around it. Pure."""

from dataclasses import dataclass

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
