"""Signature of a request that one machine forwards to another over the private network. Pure.

It proves that a machine of this app sent this request, now, once, to this machine, for this user. It covers the method
and the target (path and query, byte for byte), but neither the other headers nor the body: a body of any length is
forwarded before its end is known. That suffices because the private network is WireGuard: only a process inside the app
can alter traffic, and it has the key anyway. The signature keeps out other connections: another app of the
organization, a process of a tenant, a request replayed from a log.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flyatc.fly.environment import Machine
from flyatc.routing.replay import Target

HEADER = b"flyatc-seal"
NO_USER = "-"  # the user of a request to the machine itself: no name of a user
STATUS_PATH = b"/.flyatc/machine"  # path of a request to the machine itself, for its status
WINDOW = 30.0  # seconds of clock difference between two machines; one that has just resumed lags behind
MOST_NONCES = 20_000  # validly signed ones of the last minute; more requests than that are refused

_LABEL = b"flyatc seal of a forwarded request"
_PEER = re.compile(r"[0-9A-Fa-f:.]{0,45}")
_VALUE = re.compile(
    rb"(v1 t=(0|[1-9][0-9]{0,11}) n=([0-9a-f]{32}) k=([mr]) h=([1-9][0-9]?) u=(-|[a-z0-9][a-z0-9_-]{0,62})"
    rb" p=([0-9A-Fa-f:.]{0,45})) s=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """Signed data of a forwarded request.

    ``user``: the user according to the sender, or NO_USER; ``hops``: times it was forwarded, this one included;
    ``peer``: the peer address at the first of our machines, which is Fly Proxy's; "" if unknown."""

    user: str
    hops: int
    peer: str


@dataclass(frozen=True, slots=True)
class InvalidSignature:
    """A missing or invalid signature. ``reason``: for the log only."""

    reason: str


class RequestSigner:
    """Signs and verifies requests for one machine. ``secret``: shared by all machines of the app.

    Nonces are forgotten at a restart: a captured signature younger than ``WINDOW`` would then be accepted again.
    Capturing one requires access to the app."""

    def __init__(self, me: Machine, secret: bytes) -> None:
        self._me, self._key = me, hmac.digest(secret, _LABEL, "sha256")
        self._seen: dict[bytes, int] = {}  # nonce → Unix time of the signature, in order of arrival

    def sign(self, to: Target, method: bytes, target: bytes, what: ForwardedRequest, now: float, nonce: bytes) -> bytes:
        """Return the header. ``target``: of the request line; ``now``: Unix time; ``nonce``: 16 random octets."""
        kind, place = (b"m", to.id) if to.id is not None else (b"r", to.region)
        peer = what.peer if _PEER.fullmatch(what.peer) else ""
        said = b"v1 t=%d n=%b k=%b h=%d u=%b p=%b" % (
            int(now), nonce.hex().encode(), kind, what.hops, what.user.encode(), peer.encode()
        )  # fmt: skip
        return said + b" s=" + self._sign(said, to.app, place or "", method, target)

    def open(
        self, values: Sequence[bytes], method: bytes, target: bytes, now: float
    ) -> ForwardedRequest | InvalidSignature:
        """Verify a signature; each is accepted once. ``values``: all headers of this name."""
        if not values:
            return InvalidSignature("it has no signature")
        match = _VALUE.fullmatch(values[0]) if len(values) == 1 else None
        if match is None:
            return InvalidSignature("its signature cannot be parsed")
        said, when, nonce, kind, hops, user, peer, signed = match.groups()
        here = self._me.id if kind == b"m" else self._me.region
        if not hmac.compare_digest(self._sign(said, self._me.app, here, method, target), signed):
            return InvalidSignature("its signature is not valid for this request and this machine")
        if abs(now - int(when)) > WINDOW:
            return InvalidSignature(f"its signature was made {now - int(when):.0f} s ago: is a clock wrong?")
        if not self._is_new(nonce, int(when), now):
            return InvalidSignature("its signature was used before, or there are too many at once")
        return ForwardedRequest(user.decode(), int(hops), peer.decode())

    def _is_new(self, nonce: bytes, when: int, now: float) -> bool:
        """Return whether the nonce is new, and store it. Expired ones are dropped: their time alone refuses them."""
        while self._seen and now - self._seen[oldest := next(iter(self._seen))] > WINDOW:
            del self._seen[oldest]
        if nonce in self._seen or len(self._seen) >= MOST_NONCES:
            return False
        self._seen[nonce] = when
        return True

    def _sign(self, said: bytes, app: str, place: str, method: bytes, target: bytes) -> bytes:
        """Each part is prefixed with its length, so that no two requests yield the same text."""
        parts = (said, app.encode(), place.encode(), method, target)
        text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
        return hmac.digest(self._key, text, "sha256").hex().encode()
