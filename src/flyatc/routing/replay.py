"""The answer which makes Fly Proxy send a request to another machine, and what it says when one was sent. Pure.

https://fly.io/docs/networking/dynamic-request-routing/ has the fields. Targets are hard (``instance=``, ``region=``):
after a soft one (``prefer_instance``) the request may land anywhere, and no failure is told.

The form in JSON is never written: all that we say are ids, regions and apps, checked names of a-z, 0-9 and ``-``, and
a state of hex and dots, so nothing has to be quoted. What only JSON can say, ``transform``, is not needed: path and
query reach the owner as they came, and where headers are set the proxy has been seen to drop ``Authorization``.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flyatc.config.schema_sections import MACHINE
from flyatc.fly.environment import APP, Machine
from flyatc.wire.head import CHUNKED, RequestHead

LARGEST_BODY = 1_000_000  # octets; "larger than 1MB cannot be replayed", and nobody says which megabyte
MOST_HOPS = 4  # a pin, a name in DNS and a record may disagree; Fly itself ends at 10 (PA02)
QUICK = 5.0  # seconds for which the proxy shall try to reach a machine where it has tried in vain before
FRESH = 300.0  # seconds in which what we wrote is believed; a machine may have to wake first, and its clock be behind

_LONGEST = 2048  # octets of a header that is read at all
_ENDS = 8  # headers that are read from either end of a long row of them: the proxy's own stands at one of them
_STATE = re.compile(r"flyatc\.([0-9]{1,2})\.([0-9]{1,12})\.([mr])\.([0-9a-f]{32})")
_WORD = re.compile(r"[a-z_]{1,40}")
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Target:
    """A machine, or any machine in a region."""

    app: str
    id: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return f"machine {self.id}" if self.id else f"region {self.region}"

    @property
    def owner(self) -> str | None:
        """As ``target`` reads it. None: any machine in a region."""
        return f"{self.app}/{self.id}" if self.id else None

    def is_at(self, me: Machine) -> bool:
        if self.app != me.app:
            return False
        return self.id == me.id if self.id is not None else self.region == me.region


def target(owner: str) -> Target | None:
    """``owner``: "app/machine", as tenants.errors.Elsewhere tells it. None: that is no machine of Fly."""
    app, _, identity = owner.partition("/")
    if APP.fullmatch(app) is None or MACHINE.fullmatch(identity) is None:
        return None
    return Target(app, identity)


@dataclass(frozen=True, slots=True)
class Source:
    """What the request tells of earlier replays. ``hops``: how many of ours; anybody may claim some, and ends but his
    own request by it. ``sent``: one of ours, which has our key, sent this user to us, just now."""

    hops: int = 0
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The proxy could not deliver our replay. ``reason``: timeout, retries_exhausted, no_candidate; ``after``: ms."""

    reason: str
    after: str

    def __str__(self) -> str:
        return f"{self.reason} after {self.after} ms"

    @property
    def seconds(self) -> float:
        """0 where it is not told."""
        return int(self.after) / 1000 if self.after.isdigit() else 0.0


class Replays:
    """``secret``: None where the machines share none. Then nobody is believed, and only the hops are counted.
    ``patience``: seconds for which the proxy shall try to reach the target, waking included."""

    def __init__(self, me: Machine, secret: bytes | None, patience: float) -> None:
        self.me, self._patience = me, patience
        self._key = None if secret is None else hashlib.sha256(b"flyatc replay " + secret).digest()

    def header(self, to: Target, user: str, hops: int, now: float, *, unreachable: bool = False) -> bytes:
        """Return the value of Fly-Replay. ``hops``: replays before this one; ``now``: Unix time; ``unreachable``: the
        last replays failed.

        No timeout and no fallback are set for another app: it may have its own reasons to start slowly."""
        fields = [self.plain(to)]
        if to.app == self.me.app:
            patience = min(self._patience, QUICK) if unreachable else self._patience
            fields.append(f"timeout={round(patience * 1000)}ms;fallback=force_self")
        fields.append(f"state={self._state(to, user, hops + 1, int(now))}")
        return ";".join(fields).encode()

    def plain(self, to: Target) -> str:
        """Nothing but where to."""
        where = f"instance={to.id}" if to.id is not None else f"region={to.region}"
        return where if to.app == self.me.app else f"app={to.app};{where}"

    def source(self, values: Iterable[bytes], user: str, now: float) -> Source:
        """``values``: of all the Fly-Replay-Src headers; the visitor may have written some of them."""
        found, row = Source(), list(values)
        for value in row if len(row) <= 2 * _ENDS else (*row[:_ENDS], *row[-_ENDS:]):
            state = _STATE.fullmatch(fields(value).get("state", ""))
            if state is not None:
                hops, sent = int(state[1]), found.sent or self._is_ours(state, user, now)
                found = Source(max(hops, found.hops), sent)
        return found

    def _is_ours(self, state: re.Match[str], user: str, now: float) -> bool:
        me, hops, when = self.me, int(state[1]), int(state[2])
        here = Target(me.app, id=me.id) if state[3] == "m" else Target(me.app, region=me.region)
        if self._key is None or abs(now - when) > FRESH:
            return False
        return hmac.compare_digest(self._sign(here, user, hops, when), state[4])

    def _state(self, to: Target, user: str, hops: int, when: int) -> str:
        kind = "m" if to.id is not None else "r"
        return f"flyatc.{hops}.{when}.{kind}.{self._sign(to, user, hops, when)}"

    def _sign(self, to: Target, user: str, hops: int, when: int) -> str:
        text = f"{hops} {when} {to.app} {to.id or ''} {to.region or ''} {user}"
        return hashlib.blake2b(text.encode(), key=self._key or b"", digest_size=16).hexdigest()


def secret(environ: Mapping[str, str]) -> bytes | None:
    """What all machines of an app know, and nobody else: FLYATC_SECRET, else the key of the bucket they share."""
    given = environ.get("FLYATC_SECRET") or environ.get("AWS_SECRET_ACCESS_KEY")
    return given.encode() if given else None


def failed(values: Iterable[bytes]) -> Failed | None:
    """``values``: of all the Fly-Replay-Failed headers. A fallback cannot be replayed again."""
    for value in values:
        told = fields(value)
        reason, after = told.get("reason", ""), told.get("elapsed_ms", "")
        known = _WORD.fullmatch(reason) is not None, _NUMBER.fullmatch(after) is not None
        return Failed(reason if known[0] else "unknown reason", after if known[1] else "unknown")
    return None


def fields(value: bytes) -> dict[str, str]:
    """``a=1;b=2`` of Fly's request headers. What is no such field is left out, and so is all that is too long."""
    if len(value) > _LONGEST:
        return {}
    pairs = (part.strip().partition("=") for part in value.decode("latin-1").split(";"))
    return {name.lower(): text for name, mark, text in pairs if mark}


def too_much(request: RequestHead) -> tuple[int, str] | None:
    """Why Fly Proxy could not replay its body, and the status to say so with. None: it can."""
    if request.framing is CHUNKED:
        return 411, "its body comes in chunks, of which the proxy cannot tell whether it can replay them"
    if request.length > LARGEST_BODY:
        return 413, f"its body is larger than the {LARGEST_BODY} bytes which the proxy replays"
    return None
