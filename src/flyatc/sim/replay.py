"""Parse replays: the ``fly-replay`` header and its JSON form. Pure.

Rules: https://fly.io/docs/networking/dynamic-request-routing/. Where that page is silent, the stricter interpretation
is used, so that success here does not depend on a guess.
"""

import re

import msgspec
from msgspec import Struct, field

from flyatc.kit.errors import FlyatcError

JSON = b"application/vnd.fly.replay+json"
LEAST_TTL = 10  # s; of a cached replay
_FIELDS = frozenset(("instance", "prefer_instance", "region", "app", "state", "elsewhere", "timeout", "fallback"))
_FALLBACKS = ("", "force_self", "prefer_self")
_DURATION = re.compile(r"([0-9]{1,6})(ms|s|m)")
_SCALE = {"ms": 0.001, "s": 1.0, "m": 60.0}
_FIELD = re.compile(r'\s*([a-z_]+)\s*=\s*("[^"]*"|[^;"]*)\s*(?:;|$)')


class BadReplay(FlyatcError):
    """The response is a replay that cannot be followed. ``code``: of https://fly.io/docs/monitoring/error-codes/."""

    code = "PA03"


class TooLarge(BadReplay):
    """The request's body is too large for a replay."""

    code = "PA01"


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    value: str


class Transform(Struct, frozen=True, forbid_unknown_fields=True):
    path: str = ""
    delete_headers: tuple[str, ...] = ()
    set_headers: tuple[Header, ...] = ()


class Caching(Struct, frozen=True, forbid_unknown_fields=True):
    """Replay caching. ``prefix``: ``/path/*`` or ``host/path/*``; ``ttl``: seconds."""

    prefix: str = ""
    ttl: int = LEAST_TTL
    invalidate: bool = False
    allow_bypass: bool = False


class Replay(Struct, frozen=True, forbid_unknown_fields=True):
    """A replay as written; ``timeout`` with its unit."""

    instance: str = ""
    prefer_instance: str = ""
    region: str = ""
    app: str = ""
    state: str = ""
    elsewhere: bool = False
    timeout: str = ""
    fallback: str = ""
    transform: Transform = field(default_factory=Transform)
    cache: Caching | None = None

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(one.strip() for one in self.region.split(",") if one.strip())

    @property
    def is_cached(self) -> bool:
        """True if the proxy is to cache it."""
        return self.cache is not None and not self.cache.invalidate

    @property
    def patience(self) -> float | None:
        """``timeout`` in seconds, or None."""
        return _seconds(self.timeout) if self.timeout else None


def of_header(value: str, cache: Caching | None = None) -> Replay:
    """Parse ``instance=e286;state=x;timeout=10s``. ``cache``: from the other headers. Raises BadReplay."""
    found: dict[str, str] = {}
    at = 0
    while value[at:].strip():
        match = _FIELD.match(value, at)
        if match is None or match[1] in found:
            raise BadReplay(f"fly-replay cannot be read: {value!r}")
        found[match[1]], at = match[2].strip().strip('"'), match.end()
    if unknown := found.keys() - _FIELDS:
        raise BadReplay(f"fly-replay has no field {sorted(unknown)[0]!r}")
    elsewhere = found.pop("elsewhere", "false")
    if elsewhere not in ("true", "false"):
        raise BadReplay(f"elsewhere={elsewhere}: it is true or false")
    return _checked(Replay(**found, elsewhere=elsewhere == "true", cache=cache))  # type: ignore[arg-type]  # texts


def of_json(body: bytes) -> Replay:
    """Parse a replay in JSON. Raises BadReplay."""
    try:
        return _checked(msgspec.json.decode(body, type=Replay))
    except msgspec.DecodeError as error:
        raise BadReplay(f"the JSON of a replay cannot be read: {error}") from error


def caching_of_headers(prefix: str | None, ttl: str | None, bypass: str | None) -> Caching | None:
    """Parse ``fly-replay-cache`` and its headers ``-ttl-secs`` and ``-allow-bypass``. Raises BadReplay."""
    if prefix is None:
        return None
    if prefix == "invalidate":
        return Caching(invalidate=True)
    if ttl is None or not re.fullmatch("[0-9]{1,9}", ttl):
        raise BadReplay("fly-replay-cache needs fly-replay-cache-ttl-secs")
    return Caching(prefix=prefix, ttl=int(ttl), allow_bypass=bypass == "yes")


def _checked(replay: Replay) -> Replay:
    if replay.fallback not in _FALLBACKS:
        raise BadReplay(f"fallback={replay.fallback}: it is force_self or prefer_self")
    if replay.timeout:
        _seconds(replay.timeout)
    if replay == Replay():
        raise BadReplay("a replay to nowhere")
    if replay.cache is not None and replay.is_cached:
        _check_caching(replay, replay.cache)
    return replay


def _check_caching(replay: Replay, cache: Caching) -> None:
    if replay.state or replay.timeout or replay.fallback or replay.transform != Transform():
        raise BadReplay("a cached replay may have no state, transform, timeout or fallback")
    if cache.ttl < LEAST_TTL:
        raise BadReplay(f"a replay is cached for {LEAST_TTL} s at least")
    if "/" not in cache.prefix:
        raise BadReplay(f"{cache.prefix!r} is no path to cache a replay for")


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadReplay(f"timeout={text}: a duration has a unit, such as 10s or 800ms")
    return int(match[1]) * _SCALE[match[2]]


def source(instance: str, region: str, microseconds: int, state: str) -> str:
    """Return ``fly-replay-src`` for the target."""
    return f"instance={instance};region={region};t={microseconds}" + (f";state={state}" if state else "")


def failed(replay: Replay, machine: str, reason: str, milliseconds: int) -> str:
    """Return ``fly-replay-failed`` for the machine that replayed. ``machine``: its id; ``reason``: timeout,
    retries_exhausted or no_candidate."""
    wanted = replay.instance or replay.prefer_instance
    return (
        f"instance={wanted};app={replay.app};region={replay.region};replay_source={machine};"
        f"reason={reason};elapsed_ms={milliseconds}"
    )
