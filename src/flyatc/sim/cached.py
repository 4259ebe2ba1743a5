"""Cached replays: by path, for a host, for a while. Pure; times are the caller's, in seconds.

https://fly.io/docs/networking/dynamic-request-routing/ (Replay Caching). Those by session, which fly.toml asks for, are
not simulated. That page lets the target invalidate by "a fly-replay back to the origin", and does not say what happens
to another: here it has to lead to the app which had it cached.
"""

from msgspec import Struct

from flyatc.sim.replay import BadReplay, Caching, Replay


class Entry(Struct, frozen=True):
    host: str
    prefix: str  # "/100/"
    until: float
    target: Replay
    allow_bypass: bool
    origin: str  # the app which had it cached


class Cache:
    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def find(self, host: str, path: str, now: float) -> Entry | None:
        """The one with the longest prefix."""
        self._entries = {key: one for key, one in self._entries.items() if one.until > now}
        fitting = [one for one in self._entries.values() if one.host == host and path.startswith(one.prefix)]
        return max(fitting, key=lambda one: len(one.prefix), default=None)

    def keep(self, host: str, path: str, replay: Replay, rule: Caching, origin: str, now: float) -> None:
        """``origin``: the app which replays. Raises BadReplay where the pattern does not fit the request which is being
        answered. Each pattern "implicitly ends with a wildcard", of whole segments."""
        named, slash, rest = rule.prefix.partition("/")
        prefix = (slash + rest).removesuffix("*").rstrip("/") + "/"
        if (named and named.lower() != host) or not path.startswith(prefix):
            raise BadReplay(f"fly-replay-cache: {rule.prefix} does not match the request it answers")
        target = Replay(
            instance=replay.instance, prefer_instance=replay.prefer_instance, region=replay.region, app=replay.app
        )
        self._entries[host, prefix] = Entry(host, prefix, now + rule.ttl, target, rule.allow_bypass, origin)

    def forget(self, host: str, path: str, towards: str) -> None:
        """``towards``: the app to which the invalidating replay leads."""
        self._entries = {
            key: one
            for key, one in self._entries.items()
            if one.host != host or not path.startswith(one.prefix) or one.origin != towards
        }
