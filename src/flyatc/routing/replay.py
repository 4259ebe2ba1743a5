"""Build the Fly-Replay header and read the headers of replayed requests. Pure.

Fields: https://fly.io/docs/networking/dynamic-request-routing/. Targets are hard (``instance=``, ``region=``): with a
soft one (``prefer_instance``) the request may arrive anywhere, and no failure is reported.

The JSON form is never used. All values are checked ids, regions and apps of a-z, 0-9 and ``-``, and a state of hex and
dots, so no quoting is needed. ``transform``, which only JSON offers, is not needed: path and query reach the owner
unchanged, and the proxy has been seen to drop ``Authorization`` where headers are set.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flyatc.config.schema_sections import MACHINE
from flyatc.fly.environment import APP, Machine
from flyatc.wire.head import CHUNKED, RequestHead

LARGEST_BODY = 1_000_000  # octets; "larger than 1MB cannot be replayed"; which megabyte is not documented
MOST_HOPS = 4  # pin, DNS and record may disagree; Fly itself stops at 10 (PA02)
QUICK = 5.0  # seconds for which the proxy tries to reach a machine after it failed to do so
FRESH = 300.0  # seconds for which a signed state is valid; the target may wake first, and its clock may lag

_LONGEST = 2048  # octets; a longer header is ignored
_ENDS = 8  # headers read from each end of a long list: the proxy's own is at one end
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
        """``app/machine``, as ``target`` parses it; None for a region."""
        return f"{self.app}/{self.id}" if self.id else None

    def is_at(self, me: Machine) -> bool:
        if self.app != me.app:
            return False
        return self.id == me.id if self.id is not None else self.region == me.region


def target(owner: str) -> Target | None:
    """Parse ``owner``: "app/machine", as in tenants.errors.Elsewhere. None: not a Fly machine."""
    app, _, identity = owner.partition("/")
    if APP.fullmatch(app) is None or MACHINE.fullmatch(identity) is None:
        return None
    return Target(app, identity)


@dataclass(frozen=True, slots=True)
class Source:
    """Earlier replays of a request.

    ``hops``: their number; a client may forge it, which only ends that client's own request. ``sent``: a recent
    replay of this user to this machine carries a valid signature."""

    hops: int = 0
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A replay the proxy could not deliver. ``reason``: timeout, retries_exhausted, no_candidate; ``after``: ms."""

    reason: str
    after: str

    def __str__(self) -> str:
        return f"{self.reason} after {self.after} ms"

    @property
    def seconds(self) -> float:
        """0 if unknown."""
        return int(self.after) / 1000 if self.after.isdigit() else 0.0


class Replays:
    """Writes and verifies replay headers.

    ``secret``: None if the machines share none; then no state is trusted, and only hops are counted. ``patience``:
    seconds for which the proxy tries to reach the target, waking included."""

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
        """The target only, without options."""
        where = f"instance={to.id}" if to.id is not None else f"region={to.region}"
        return where if to.app == self.me.app else f"app={to.app};{where}"

    def source(self, values: Iterable[bytes], user: str, now: float) -> Source:
        """Read earlier replays. ``values``: all Fly-Replay-Src headers, some possibly forged by the client."""
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
    """The secret shared by all machines of an app: FLYATC_SECRET, else the secret key of their bucket; or None."""
    given = environ.get("FLYATC_SECRET") or environ.get("AWS_SECRET_ACCESS_KEY")
    return given.encode() if given else None


def failed(values: Iterable[bytes]) -> Failed | None:
    """Read all Fly-Replay-Failed headers; None if there are none. A fallback cannot be replayed again."""
    for value in values:
        found = fields(value)
        reason, after = found.get("reason", ""), found.get("elapsed_ms", "")
        known = _WORD.fullmatch(reason) is not None, _NUMBER.fullmatch(after) is not None
        return Failed(reason if known[0] else "unknown reason", after if known[1] else "unknown")
    return None


def fields(value: bytes) -> dict[str, str]:
    """Parse ``a=1;b=2`` of Fly's request headers. Malformed fields are skipped; a value that is too long yields {}."""
    if len(value) > _LONGEST:
        return {}
    pairs = (part.strip().partition("=") for part in value.decode("latin-1").split(";"))
    return {name.lower(): text for name, mark, text in pairs if mark}


def too_much(request: RequestHead) -> tuple[int, str] | None:
    """The status and reason if Fly Proxy cannot replay the request's body, or None."""
    if request.framing is CHUNKED:
        return 411, "its body is chunked, so the proxy cannot know whether it can replay it"
    if request.length > LARGEST_BODY:
        return 413, f"its body is larger than the {LARGEST_BODY} bytes that the proxy replays"
    return None
