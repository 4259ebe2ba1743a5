"""The seal on a request which one machine hands to another over the private network. Pure.

It says that one of ours has sent this request, now, once, to this machine, for this user. It covers method and target
(path and query, byte for byte), and neither the other headers nor the body: a body of any length must be passed on
before its end is known. That is enough because the private network is WireGuard: nobody alters anything there but who
is in the app himself, and he has the key. What the seal keeps out is what else may connect: another app of the
organization, a process of a tenant, a request replayed from a log.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flyatc.fly.environment import Machine
from flyatc.routing.replay import Target

HEADER = b"flyatc-seal"
WINDOW = 30.0  # seconds between the clocks of two machines; one which has just resumed lags some behind
MOST_NONCES = 20_000  # of our own machines only, and of a minute: more requests than that are refused

_LABEL = b"flyatc seal of a forwarded request"
_PEER = re.compile(r"[0-9A-Fa-f:.]{0,45}")
_SEAL = re.compile(
    rb"(v1 t=(0|[1-9][0-9]{0,11}) n=([0-9a-f]{32}) k=([mr]) h=([1-9][0-9]?) u=([a-z0-9][a-z0-9_-]{0,62})"
    rb" p=([0-9A-Fa-f:.]{0,45})) s=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """``user``: whose request the sender takes it for; ``hops``: how often it was sent on, this time included;
    ``peer``: the address of who was connected to the first of our machines, Fly Proxy's that is; "" where unknown."""

    user: str
    hops: int
    peer: str


@dataclass(frozen=True, slots=True)
class InvalidSignature:
    """``reason``: for the log only."""

    reason: str


class RequestSigner:
    """Of one machine. ``secret``: which all machines of the app share.

    It forgets at a restart which seals it has seen: one that was caught and is younger than ``WINDOW`` would then pass
    again. Whoever can catch it is inside the app."""

    def __init__(self, me: Machine, secret: bytes) -> None:
        self._me, self._key = me, hmac.digest(secret, _LABEL, "sha256")
        self._seen: dict[bytes, int] = {}  # nonce → Unix time of the seal, in the order of coming

    def seal(self, to: Target, method: bytes, target: bytes, what: ForwardedRequest, now: float, nonce: bytes) -> bytes:
        """The value of the header. ``target``: of the request line; ``now``: Unix time; ``nonce``: 16 random octets."""
        kind, place = (b"m", to.id) if to.id is not None else (b"r", to.region)
        peer = what.peer if _PEER.fullmatch(what.peer) else ""
        said = b"v1 t=%d n=%b k=%b h=%d u=%b p=%b" % (
            int(now), nonce.hex().encode(), kind, what.hops, what.user.encode(), peer.encode()
        )  # fmt: skip
        return said + b" s=" + self._sign(said, to.app, place or "", method, target)

    def open(
        self, values: Sequence[bytes], method: bytes, target: bytes, now: float
    ) -> ForwardedRequest | InvalidSignature:
        """``values``: of all the headers of this name. Once for each seal."""
        if not values:
            return InvalidSignature("it has no seal")
        match = _SEAL.fullmatch(values[0]) if len(values) == 1 else None
        if match is None:
            return InvalidSignature("its seal cannot be read")
        said, when, nonce, kind, hops, user, peer, signed = match.groups()
        here = self._me.id if kind == b"m" else self._me.region
        if not hmac.compare_digest(self._sign(said, self._me.app, here, method, target), signed):
            return InvalidSignature("its seal is not one of ours for this request and this machine")
        if abs(now - int(when)) > WINDOW:
            return InvalidSignature(f"its seal is of {now - int(when):.0f} s ago: is a clock wrong?")
        if not self._is_new(nonce, int(when), now):
            return InvalidSignature("its seal was used before, or there are too many at once")
        return ForwardedRequest(user.decode(), int(hops), peer.decode())

    def _is_new(self, nonce: bytes, when: int, now: float) -> bool:
        """What can be refused by its time alone need not be remembered."""
        while self._seen and now - self._seen[oldest := next(iter(self._seen))] > WINDOW:
            del self._seen[oldest]
        if nonce in self._seen or len(self._seen) >= MOST_NONCES:
            return False
        self._seen[nonce] = when
        return True

    def _sign(self, said: bytes, app: str, place: str, method: bytes, target: bytes) -> bytes:
        """Each part with its length before it: no two requests make the same text."""
        parts = (said, app.encode(), place.encode(), method, target)
        text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
        return hmac.digest(self._key, text, "sha256").hex().encode()
