"""Sessions of the operator: a signed cookie and nothing else, so that a restarted daemon, and every machine of the app,
accepts it. Pure.

The cookie is ``ID.EXPIRY.SIGNATURE``. The signature covers the client's network and browser as well, so a copy of the
cookie is worth nothing elsewhere. All tokens of forms are derived from the id.
"""

import base64
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass

from flyatc.auth.attempts import network

SECONDS = 12 * 3600  # of a session
ID_OCTETS = 16
MOST_ENDED = 1000  # sessions whose end is remembered until they expire
_LONGEST = 200  # characters of a cookie


@dataclass(frozen=True)
class Session:
    """``expires``: Unix time."""

    id: str
    expires: int


def derive(secret: str, salt: bytes) -> bytes:
    """Return the key of all signatures. Takes 50 ms and 16 MB: for a thread. ``secret``: the password, or its hash."""
    return hashlib.scrypt(secret.encode(), salt=b"flyatc dashboard " + salt, n=1 << 14, r=8, p=1, dklen=32)


class Sessions:
    """Makes and verifies the cookies of one password. ``now``: Unix time."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ended: OrderedDict[str, int] = OrderedDict()  # ids, and when they expire

    def begin(self, random: bytes, now: float, address: str, agent: str) -> str:
        """Return the cookie of a new session. ``random``: ID_OCTETS octets."""
        session = Session(_text(random), int(now) + SECONDS)
        return f"{session.id}.{session.expires}.{self._signature(session, address, agent)}"

    def read(self, cookie: str, now: float, address: str, agent: str) -> Session | None:
        """Return the session of a cookie; None: forged, expired, ended, or of another client."""
        if len(cookie) > _LONGEST or not cookie.isascii() or cookie.count(".") != 2:
            return None
        name, expires, signature = cookie.split(".")
        if not expires.isdigit() or len(expires) > 12:
            return None
        session = Session(name, int(expires))
        if not hmac.compare_digest(self._signature(session, address, agent), signature):
            return None
        return session if now < session.expires and not self.has_ended(session) else None

    def end(self, session: Session) -> None:
        """Log out: this machine accepts the session no more."""
        self._ended[session.id] = session.expires
        if len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)

    def has_ended(self, session: Session) -> bool:
        """Return whether the operator has logged out."""
        return session.id in self._ended

    def token(self, session: Session, purpose: str) -> str:
        """Return a token that only a page of this session knows. ``purpose``: "form", "live"."""
        return self.sign(f"{purpose} {session.id}".encode())

    def sign(self, data: bytes) -> str:
        return _text(hmac.digest(self._key, data, "sha256"))

    def _signature(self, session: Session, address: str, agent: str) -> str:
        parts = (session.id, str(session.expires), network(address), agent)
        return self.sign(b"session " + b"\0".join(part.encode(errors="replace") for part in parts))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
