"""Keep cookies and redirects of a tenant below its prefix: rewrite them in the app's responses. Pure.

All tenants are on one host, so a cookie with ``Path=/`` would reach the apps of all. nginx does the same with
proxy_cookie_path and proxy_redirect.

Set-Cookie is read as browsers read it (RFC 6265 §5.2): attributes are separated by ``;`` alone, also within quotes; a
Path that does not begin with ``/`` counts as none; of several the last counts, and the others are removed. The new
path is the prefix without a slash at its end: by §5.1.4 ``/boston`` matches ``/boston`` and ``/boston/x``, but not
``/bostonx``; ``/boston/`` would not match ``/boston``.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial

from flyatc.config.schema import Tenant
from flyatc.edge.headers import DASHBOARD_COOKIE
from flyatc.wire import head

REDIRECTS = (b"location", b"content-location", b"refresh")
_USUAL_LINE = b"\r\nSet-Cookie: "
_USUAL, _MOST_KNOWN = 128, 8  # octets of a cookie's attributes that are remembered, and how many
LONGEST_PATH = 1024  # octets; browsers ignore a longer attribute (RFC 6265bis §5.6)

_COOKIE = re.compile(rb"\r\nset-cookie:[^\r]*", re.IGNORECASE)
_PATH = re.compile(rb"(;[ \t]*path)[ \t]*(?:=([^;]*))?(?=;|\Z)", re.IGNORECASE)
_REDIRECT = re.compile(
    rb"(\r\n(?:(?:content-)?location:[ \t]*"
    rb"|refresh:[ \t]*[0-9.]*[ \t]*[;,]?[ \t]*(?:url[ \t]*=[ \t]*)?[\"']?))([^\r]*)",
    re.IGNORECASE,
)
_GUARDED = frozenset((b"set-cookie", b"service-worker-allowed"))
_GUARDED_LINE = re.compile(rb"(\r\n(?:set-cookie|service-worker-allowed):)([^\r]*)", re.IGNORECASE)
_PLAIN = re.compile(rb"[A-Za-z0-9._~/-]*")
_URL = re.compile(rb"(?:(?:https?:)?//([^/?#\\]*))?(/[^?#]*)?", re.IGNORECASE)


class TenantPaths:
    """Rewrites the headers of one tenant's responses. ``names``: headers that need it, in lower case."""

    __slots__ = (
        "_attribute", "_below", "_beside", "_is_tenant", "_known", "_moves", "_prefix", "_rewrites", "_warned", "names",
    )  # fmt: skip

    def __init__(
        self, prefix: bytes, names: Iterable[bytes], is_tenant: Callable[[bytes], bool], *, beside: bool = False
    ) -> None:
        """``is_tenant``: whether a path is one of a tenant; a redirect there is left as it is. ``beside``: whether
        there is a dashboard, whose cookies the app may not set, and whose pages it may not intercept."""
        self._rewrites = frozenset(names)
        self.names, self._beside = self._rewrites | _GUARDED if beside else self._rewrites, beside
        self._prefix, self._below, self._attribute = prefix, prefix + b"/", b"; Path=" + prefix
        self._is_tenant, self._moves, self._warned = is_tenant, not self._rewrites.isdisjoint(REDIRECTS), False
        self._known: dict[bytes, bytes] = {}  # attributes of cookies → the rewritten ones

    def apply(
        self, answer: head.ResponseHead, asked: head.RequestHead, warn: Callable[[str], None] | None = None
    ) -> None:
        """Rewrite the headers ``names`` of a response. ``warn``: called once if browsers will refuse a cookie."""
        block, noted = b"".join(answer.kept), answer.noted
        if self._beside and (DASHBOARD_COOKIE in block or b"service-worker-allowed" in noted):
            block = _GUARDED_LINE.sub(self._guarded, block)
        if b"set-cookie" in noted and b"set-cookie" in self._rewrites:
            cookies = noted[b"set-cookie"]
            if len(cookies) == 1 and (at := block.find(_USUAL_LINE)) >= 0:  # most have one, written as usual: no calls
                if (end := block.find(b"\r", at + len(_USUAL_LINE))) < 0:
                    end = len(block)
                if (begin := block.find(b";", at, end)) < 0:
                    begin = end
                attributes = block[begin:end]
                block = b"%b%b%b" % (block[:begin], self._known.get(attributes) or self._learn(attributes), block[end:])
            else:
                block = _COOKIE.sub(self._cookie, block)
            if warn is not None and not self._warned and (len(cookies) > 1 or cookies[0][:2] == b"__"):
                self._check_names(cookies, warn)
        if self._moves and not noted.keys().isdisjoint(REDIRECTS):
            block = _REDIRECT.sub(partial(self._redirect, _hosts(asked)), block)
        answer.kept = [block]

    def _guarded(self, line: re.Match[bytes]) -> bytes:
        """Remove a cookie of the dashboard, and a scope of service workers that may contain the dashboard."""
        value = line[2].strip(b" \t=")  # a cookie without a name is sent as its value alone (RFC 6265bis §5.8.3)
        if line[1].lower() == b"\r\nset-cookie:":
            return b"" if value.startswith(DASHBOARD_COOKIE) else line[0]
        return line[0] if self._is_inside(value) and _PLAIN.fullmatch(value) and b".." not in value else b""

    def _check_names(self, cookies: list[bytes], warn: Callable[[str], None]) -> None:
        """Warn of a cookie ``__Host-…``, which browsers take with ``Path=/`` only (RFC 6265bis §4.1.3.2). It is
        rewritten all the same: a login that fails is noticed, one that reaches all tenants is not."""
        name = next((cookie for cookie in cookies if cookie[:7].lower() == b"__host-"), None)
        if name is not None:
            self._warned = True
            shown = name.partition(b"=")[0][:100].decode("latin-1")
            warn(
                f"browsers refuse the cookie {shown} below {self._prefix.decode()}: its name demands Path=/, where all "
                "tenants would get it. Give it a name without __Host-, or set cookies: keep"
            )

    def _cookie(self, line: re.Match[bytes]) -> bytes:
        pair, semicolon, attributes = line[0].partition(b";")
        return pair + self._attributes(semicolon + attributes)

    def _learn(self, attributes: bytes) -> bytes:
        """Return the rewritten attributes, and remember them: an app has few different ones."""
        made = self._attributes(attributes)
        if len(attributes) <= _USUAL:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[attributes] = made
        return made

    def _attributes(self, line: bytes) -> bytes:
        found = _PATH.search(line)
        if found is None:
            return line + self._attribute
        if _PATH.search(line, found.end()) is None:
            value = (found[2] or b"").strip(b" \t")
            path = self._path(value)
            return line if path == value else b"%b=%b%b" % (line[: found.end(1)], path, line[found.end() :])
        *_, last = _PATH.finditer(line)
        return _PATH.sub(b"", line) + b"; Path=" + self._path((last[2] or b"").strip(b" \t"))

    def _path(self, value: bytes) -> bytes:
        """Return the path below the prefix; ``value``: of the attribute."""
        if not self._is_inside(value):
            value = self._prefix + value if value[:1] == b"/" and value != b"/" else self._prefix
        return value if len(value) <= LONGEST_PATH else self._prefix

    def _redirect(self, hosts: frozenset[bytes], line: re.Match[bytes]) -> bytes:
        value = line[2]
        url = _URL.match(value)
        assert url is not None, "it matches the empty string"
        authority, path = url[1], url[2] or b""
        if (not path) if authority is None else _without_port(authority) not in hosts:
            return line[0]  # relative, or of another host
        if self._is_inside(path) or self._is_tenant(path):
            return line[0]
        at = max(0, url.end(1))
        return b"%b%b%b%b" % (line[1], value[:at], self._prefix if path else self._below, value[at:])

    def _is_inside(self, path: bytes) -> bool:
        return path == self._prefix or path.startswith(self._below)


def of(tenant: Tenant, is_tenant: Callable[[bytes], bool], *, beside: bool = False) -> TenantPaths | None:
    """Return the rewriter for a tenant's responses; None if nothing is rewritten. Without ``strip_prefix`` the app
    knows its prefix, and its redirects pass unchanged. ``beside``: whether there is a dashboard."""
    app = tenant.app
    names = [b"set-cookie"] if app.cookies == "tenant" else []
    if app.redirects == "tenant" and app.strip_prefix:
        names += REDIRECTS
    if not tenant.prefix or not (names or beside):
        return None
    return TenantPaths(tenant.prefix.encode(), names, is_tenant, beside=beside)


def _hosts(asked: head.RequestHead) -> frozenset[bytes]:
    """Return the hosts that the app may take for its own."""
    named = [asked.one(b"host") or b"localhost", asked.one(b"x-forwarded-host") or b""]
    return frozenset(_without_port(host) for host in named if host)


def _without_port(host: bytes) -> bytes:
    """Return the host in lower case, without the default port of http or https."""
    return host.lower().removesuffix(b":80").removesuffix(b":443")
