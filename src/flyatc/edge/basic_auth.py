"""HTTP Basic authentication (RFC 7617) of a tenant's clients, before anything of the tenant is sent or started.

A password that was right is not hashed again: the pair of hash and password is remembered as an HMAC under a key of
this process, and a changed hash makes another pair. Others are checked in threads, so that no check delays another
request. How many wait there is limited, and so are the failures of a client.
"""

import asyncio
import binascii
import hmac
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from flyatc.auth import htpasswd, passwords
from flyatc.auth.attempts import FailedLogins
from flyatc.config import load
from flyatc.config.schema import App
from flyatc.config.schema_sections import Auth
from flyatc.edge import exchange, responses
from flyatc.kit import tasks
from flyatc.kit.threads import Threads

REREAD = 1.0  # s, between two looks whether the file has changed
WAITING = 32  # logins that wait for a thread
REMEMBERED = 4096  # logins
RETRY = 2.0  # s

Go = Callable[[], None]
_UNCERTAIN = re.compile(rb"[%;\\]|\.\.|//")  # an app may take such a path for another one
_OTHER_PATH = re.compile(rb"\r\nx[-_](?:original|rewrite|forwarded)[-_](?:ur[il]|path)[ \t]*:", re.IGNORECASE)


class Unreadable(Exception):
    """The file of passwords cannot be used."""


class Logins:
    """The names and hashes of one ``auth``. A file is read again when it has changed."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.public = tuple(path.rstrip("/").encode() for path in auth.public)
        self._hashes: Mapping[str, str] = {}
        self._fault: str | None = None
        self._seen: tuple[int, int, int] | None = None
        self._looked = -REREAD
        if not isinstance(auth.users, str):
            self._hashes, _ = htpasswd.parse(auth.users)

    def hashes(self, now: float) -> Mapping[str, str]:
        """Return hashes by name. ``now``: of a monotonic clock. Raises Unreadable."""
        if isinstance(self.auth.users, str) and now - self._looked >= REREAD:
            self._looked = now
            self._read(Path(self.auth.users))
        if self._fault is not None:
            raise Unreadable(self._fault)
        return self._hashes

    def _read(self, path: Path) -> None:
        try:
            found = path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return
            hashes, faults = htpasswd.parse(load.text_of(path, htpasswd.LONGEST).splitlines())
            if faults:
                raise ValueError(f"line {faults[0][0] + 1}: {faults[0][1]}")
        except (OSError, ValueError) as error:
            self._seen, self._hashes, self._fault = None, {}, f"{path}: {error}"
        else:
            self._seen, self._hashes, self._fault = seen, hashes, None

    def is_public(self, to: exchange.Exchange, path: bytes) -> bool:
        """Return whether no login is needed. ``path``: below the tenant's prefix. In doubt it is."""
        if not any(path == one or path.startswith(one + b"/") for one in self.public):
            return False
        return _UNCERTAIN.search(path) is None and _OTHER_PATH.search(b"".join(to.head.kept)) is None


class BasicAuth:
    """Asks for a login where ``app.auth`` demands one. ``use`` at each reload."""

    def __init__(self) -> None:
        self._logins: dict[int, Logins] = {}  # by the id of their settings, which they keep alive
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._failed = FailedLogins()
        self._threads = Threads(2, "password")
        self._waiting = 0

    def use(self) -> None:
        self._logins.clear()

    def close(self) -> None:
        self._threads.close()

    def admit(self, to: exchange.Exchange, app: App, path: bytes, go: Go, responder: responses.Responder) -> None:
        """Call ``go`` if the request needs no login or has one; else respond. ``path``: below the tenant's prefix."""
        auth = app.auth
        assert auth is not None
        logins = self._logins.get(id(auth))
        if logins is None:
            logins = self._logins[id(auth)] = Logins(auth)
        to.login = b""  # the client's own X-Remote-User never reaches the app
        to.head.whole = None
        if logins.public and logins.is_public(to, path):
            return go()
        now = monotonic()
        try:
            hashes = logins.hashes(now)
        except Unreadable as error:
            return responder.refuse(to, 503, f"no login is possible: {error}", retry_after=RETRY, own=app.pages)
        given = credentials(to.head.noted.get(b"authorization", ()))
        if given is None:
            return responder.ask_for_login(to, auth.realm, "no login", app.pages)
        name, password = given
        hashed = hashes.get(name)
        pair = self._pair(password, hashed)
        if pair in self._right:
            self._right.move_to_end(pair)
            to.login = name.encode()
            return go()
        if (seconds := self._failed.wait(to.remote, now)) > 0:
            reason = "too many failed logins of this client"
            return responder.refuse(to, 429, reason, retry_after=seconds, own=app.pages)
        if self._waiting >= WAITING:
            return responder.refuse(to, 503, "too many logins at once", retry_after=RETRY, own=app.pages)
        decoy = next(iter(hashes.values()), "")  # so that the time does not tell which names are listed
        check = partial(passwords.matches, password, hashed or decoy)
        failed = partial(responder.fail, to, app.pages)
        login = _Login(to, partial(self._check, to, check, pair, listed=hashed is not None), failed)
        self._waiting += 1  # from now on, not from the task's first turn: many may come in this one
        login.begin(partial(self._checked, to, app, name, go, responder)).add_done_callback(self._left)
        return None

    def _left(self, task: asyncio.Task[None]) -> None:
        self._waiting -= 1

    async def _check(self, to: exchange.Exchange, check: Callable[[], bool], pair: bytes, *, listed: bool) -> bool:
        if not (await self._threads.run(check) and listed):
            self._failed.failed(to.remote, monotonic())
            return False
        self._right[pair] = None
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True

    def _checked(
        self, to: exchange.Exchange, app: App, name: str, go: Go, responder: responses.Responder, right: bool
    ) -> None:
        assert app.auth is not None
        if not right:
            return responder.ask_for_login(to, app.auth.realm, f"the login of {name[:64]!r} failed", app.pages)
        to.login = name.encode()
        return go()

    def _pair(self, password: bytes, hashed: str | None) -> bytes:
        return hmac.digest(self._key, (hashed or "").encode() + b"\0" + password, "sha256")


class _Login(exchange.WaitingReceiver):
    """A request whose password is being checked. ``failed``: called after an unexpected error, which is logged."""

    __slots__ = ("_check", "_failed", "_task", "_to")

    def __init__(
        self, to: exchange.Exchange, check: Callable[[], Coroutine[Any, Any, bool]], failed: Callable[[], None]
    ) -> None:
        self._to, self._check, self._failed = to, check, failed

    def begin(self, then: Callable[[bool], None]) -> asyncio.Task[None]:
        self._to.receiver = self
        self._task = tasks.start(self._wait(then), "login")
        return self._task

    async def _wait(self, then: Callable[[bool], None]) -> None:
        try:
            right = await self._check()
        except Exception:
            self._failed()
            raise
        self._to.receiver = None
        then(right)

    def gone(self) -> None:
        self._task.cancel()
        self._to.receiver = None
        self._to.status, self._to.reason = 499, "the client left while its password was checked"
        self._to.end()


def credentials(values: Sequence[bytes]) -> tuple[str, bytes] | None:
    """Return name and password (RFC 7617 §2), or None. A name that is no UTF-8 is read as Latin-1."""
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        decoded = binascii.a2b_base64(encoded.strip(), strict_mode=True)
    except binascii.Error:
        return None
    name, colon, password = decoded.partition(b":")
    if not colon or not name or len(name) > 255:
        return None
    try:
        return name.decode(), password
    except UnicodeDecodeError:
        return name.decode("latin-1"), password
