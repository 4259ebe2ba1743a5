"""Explain the routing of a URL, for ``flyatc route``, with a daemon or without. Pure."""

import re

from msgspec import structs

from flyatc.config.schema import Config, Tenant
from flyatc.control.types import Explanation
from flyatc.routing import route

_HOST = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def explain(config: Config, routes: route.Routes, url: str) -> Explanation:
    """``url``: a path or a whole URL. ``routes``: those of ``config``."""
    path, query = split(url)
    text = path if query is None else f"{path}?{query}"
    if path == config.server.health:
        return Explanation(path=text, outcome="here", status=200, why="server.health: the daemon itself answers 200")
    found = routes.match(path.encode(), None if query is None else query.encode())
    if isinstance(found, route.Refuse):
        return Explanation(path=text, outcome="refuse", status=found.status, why=found.reason)
    if isinstance(found, route.Redirect):
        there = explain(config, routes, f"{path}/")
        location = found.location.decode()
        return structs.replace(
            there, path=text, outcome="redirect", status=308, location=location, why=found.reason, app_path=None
        )
    tenant = config.tenants.get(_address(found)) or config.tenant_of_pattern(found.user, found.name)
    assert tenant is not None
    return _here(config, tenant, text, health=path.encode() == found.health)


def address(config: Config, routes: route.Routes, pasted: str) -> str | None:
    """Return the address in ``bellevue/2025/winter``, ``/bellevue/2025/winter/``, a user alone, or a page's whole URL;
    None: there is none. Whether such a tenant exists is not checked."""
    text = pasted.strip()
    if "://" in text:
        found = explain(config, routes, text)
        if found.tenant is not None and found.user is not None and (found.name or _alone(config, found.user)):
            return found.tenant  # also for a deeper page
    if "://" in text or text.startswith("/"):
        text = split(text)[0].removeprefix(config.server.root.rstrip("/") + "/")
    return text.strip("/") or None


def _alone(config: Config, user: str) -> bool:
    """Return whether the user has no named tenants: the user's address then means that single tenant."""
    listed = [one.name for one in config.tenants.values() if one.user == user]
    if not listed and config.pattern is not None:
        listed = [name for name, _ in config.pattern.tenants]
    return not any(listed)


def split(url: str) -> tuple[str, str | None]:
    """Raw path and query of a pasted URL or path; ``bellevue/2025`` is ``/bellevue/2025``."""
    path, mark, query = _HOST.sub("", url).partition("#")[0].partition("?")
    return f"/{path}" if path[:1] != "/" else path, query if mark else None


def _here(config: Config, tenant: Tenant, text: str, *, health: bool) -> Explanation:
    by_pattern = tenant.address not in config.tenants
    why = f"{tenant.name!r} is the longest name of {tenant.user}'s tenants that the path goes on with"
    if not tenant.name:
        why = "the user is the tenant, and none of its named tenants fits"
    if by_pattern and config.pattern is not None:
        why = f"the user is not listed and matches '*' ({config.pattern.match}); {why}"
    return Explanation(
        path=text,
        outcome="here",
        why=why,
        tenant=tenant.address,
        user=tenant.user,
        name=tenant.name,
        prefix=tenant.prefix,
        app_path=_below(tenant.prefix, text) if tenant.app.strip_prefix else text,
        strip_prefix=tenant.app.strip_prefix,
        by_pattern=by_pattern,
        pin=str(pin) if (pin := config.pin_of(tenant.user)) is not None else None,
        health=health,
    )


def _address(found: route.Here) -> str:
    return f"{found.user}/{found.name}" if found.name else found.user


def _below(prefix: str, text: str) -> str:
    rest = text[len(prefix) :]
    return rest if rest.startswith("/") else f"/{rest}"
