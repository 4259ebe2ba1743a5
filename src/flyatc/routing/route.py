"""Map a path to user and tenant by the longest configured match on whole segments. Pure.

The raw path is matched: a percent-encoded user or tenant segment matches none.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from flyatc.config.schema import App, Config, Tenant, prefix_of

RECENT = 4096  # cached paths
LONGEST_RECENT = 256  # octets; longer paths are not cached, so that all together stay below 2 MB
MOST_ESCAPES = 1024  # each is decoded twice; enough for 341 Chinese characters, more than any file name has
USER = re.compile(rb"[a-z0-9][a-z0-9_-]{0,62}")
_SLASHES = bytes.maketrans(b"\\", b"/")
_DOTS = (b"/./", b"/../", b"/.;", b"/..;")  # Java servers take "..;" for ".."
MOST_KNOWN = 10_000  # cached users of the pattern, whose number is unlimited


@dataclass(frozen=True, slots=True)
class Here:
    """The tenant that a request belongs to."""

    user: str
    name: str
    prefix: bytes  # of the path; removed by strip_prefix
    health: bytes | None  # path of the readiness check, which does not count as activity
    slash: bool = True  # redirect the bare prefix to the same path with a slash


@dataclass(frozen=True, slots=True)
class Redirect:
    """Redirect from the tenant's path without its final slash."""

    location: bytes
    reason: str
    user: str


@dataclass(frozen=True, slots=True)
class Refuse:
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class _User:
    names: dict[bytes, Here]  # path of the tenant below the user → tenant
    depth: int  # segments of the longest tenant name


class Routes:
    """Route table of one configuration. A lookup costs the same for one tenant and for ten thousand."""

    def __init__(self, config: Config) -> None:
        self._root = config.server.root.rstrip("/").encode() + b"/"
        self._of_pattern = () if config.pattern is None else config.pattern.tenants
        listed: dict[str, list[Tenant]] = {}
        for tenant in config.tenants.values():
            listed.setdefault(tenant.user, []).append(tenant)
        self._config = config
        self._recent: dict[bytes, Here] = {}  # recently requested paths: most traffic is on few of them
        self._users: dict[bytes, _User | Here] = {
            user.encode(): _entry(map(_listed, tenants)) for user, tenants in listed.items()
        }
        self._known: dict[bytes, _User | Here] = {}  # users that match the pattern

    def match(self, path: bytes, query: bytes | None) -> Here | Redirect | Refuse:
        """Route a raw path. ``query``: raw, or None; used only in a redirect."""
        known = self._recent.get(path)
        if known is not None:
            return known
        found = self._match(path, query)
        if isinstance(found, Here):
            self._remember(path, found)
        return found

    def lists(self, path: bytes) -> bool:
        """Return whether the path belongs to a tenant that tenants.yaml names, not only its pattern."""
        user, _, below = path[len(self._root) :].partition(b"/")
        entry = self._users.get(user) if path.startswith(self._root) else None
        return entry is not None and self._longest(entry, below) is not None

    def _remember(self, path: bytes, found: Here) -> None:
        if len(path) <= LONGEST_RECENT:
            if len(self._recent) >= RECENT:
                self._recent.clear()
            self._recent[path] = found

    def _match(self, path: bytes, query: bytes | None) -> Here | Redirect | Refuse:
        if b"%" in path or b"/." in path or b"\\" in path:
            dots = dot_segments(path)
            if dots is not None:
                return dots
        root = self._root
        if not path.startswith(root):
            return Refuse(404, "outside of server.root")
        rest = path[len(root) :]
        user, _, below = rest.partition(b"/")
        entry = self._users.get(user) or self._by_pattern(user)
        if entry is None:
            return Refuse(404, "no such user")
        found = self._longest(entry, below)
        if found is None:
            return Refuse(404, "no such tenant of this user")
        if found.slash and len(path) == len(found.prefix):
            location = path + b"/" if query is None else path + b"/?" + query
            return Redirect(location, "the address of a tenant ends in a slash", found.user)
        return found

    def _longest(self, entry: _User | Here, below: bytes) -> Here | None:
        if isinstance(entry, Here):
            return entry
        depth = entry.depth
        if not depth:
            return entry.names.get(b"")
        segments = below.split(b"/", depth)
        for count in range(min(depth, len(segments)), 0, -1):
            here = entry.names.get(b"/".join(segments[:count]))
            if here is not None:
                return here
        return entry.names.get(b"")

    def _by_pattern(self, user: bytes) -> _User | Here | None:
        if not self._of_pattern or not USER.fullmatch(user):
            return None
        if (known := self._known.get(user)) is not None:
            return known
        text, server = user.decode(), self._config.server
        if not self._config.is_of_pattern(text):
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        found = (_here(text, name, prefix_of(server, text, name), app) for name, app in self._of_pattern)
        entry = self._known[user] = _entry(found)
        return entry


def _entry(found: Iterable[Here]) -> _User | Here:
    """Build a user's entry: a Here if the user has only the unnamed tenant, as most have."""
    here = {one.name.encode(): one for one in found}
    if here.keys() == {b""}:
        return here[b""]
    return _User(here, max((name.count(b"/") + 1 for name in here if name), default=0))


def _listed(tenant: Tenant) -> Here:
    return _here(tenant.user, tenant.name, tenant.prefix, tenant.app)


def _here(user: str, name: str, prefix: str, app: App) -> Here:
    """Build a Here. ``health`` is the app's ``ready`` path as clients see it."""
    ready = app.ready
    if ready is None:
        return Here(user, name, prefix.encode(), None, app.slash)
    for placeholder, value in (("prefix", prefix), ("user", user), ("tenant", name)):
        ready = ready.replace("{" + placeholder + "}", value)
    path = prefix + ready if app.strip_prefix else ready
    return Here(user, name, prefix.encode(), path.partition("?")[0].encode(), app.slash)


def dot_segments(path: bytes) -> Refuse | None:
    """Refuse paths that an app might resolve elsewhere: ``..``, ``%2e%2e``, ``%2f..``, ``..\\``, ``%00``.

    The path is decoded twice, as some apps do; it is not changed."""
    if path.count(b"%") > MOST_ESCAPES:
        return Refuse(414, f"the path has more than {MOST_ESCAPES} percent escapes")
    once = unquote_to_bytes(path)
    for form in {path, once, unquote_to_bytes(once)}:
        slashed = b"/%b/" % form.translate(_SLASHES)
        if any(dots in slashed for dots in _DOTS):
            return Refuse(400, "the path has dot segments")
        if b"\0" in form:
            return Refuse(400, "the path has a NUL")
    return None
