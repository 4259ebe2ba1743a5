"""Requests to the Machines API over HTTP. The only module which knows urllib3; it is imported with the first request.

https://fly.io/docs/machines/api/working-with-machines-api/ has the addresses, the statuses and the limits: one request
a second for each action and machine or app, three at once. Who asks too often gets 429, and nothing was done.
"""

import asyncio
import functools
import re
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from flyatc.fly.api_types import ApiError, Away, Conflict, NameTaken, NotFound, NoToken, Refused, TooMany, TooSlow
from flyatc.kit import backoff
from flyatc.kit.deadlines import Within
from flyatc.kit.threads import Late, Threads

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

INSIDE, OUTSIDE = "http://_api.internal:4280", "https://api.machines.dev"
BASE, TOKEN = "FLY_FLAPS_BASE_URL", "FLY_API_TOKEN"  # names of variables
CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
PATIENCE = 15.0  # seconds for a call with all its tries
FIRST, MOST = 0.5, 4.0  # seconds before the next try
LARGEST = 64 << 20  # octets of an answer: some 20 000 machines
AT_ONCE = 4  # requests
_PIECE = 1 << 16
_TAKEN = re.compile(r"unique machine name violation(?:, machine ID ([0-9a-z]{8,20}))?")
_TOKEN = re.compile(r"[!-~]+(?: [!-~]+)*")


class Request(Struct, frozen=True):
    """``path``: quoted, with its query; ``again``: twice does no harm; ``read``: seconds of silence;
    ``patience``: other than that of the line."""

    method: str
    path: str
    body: bytes | None = None
    nonce: str | None = None
    again: bool = False
    read: float = READ_SECONDS
    patience: float | None = None


class _Failure(Struct):
    """Most failures are told in ``error``, those of leases in ``message``."""

    error: str = ""
    message: str = ""


class ApiTransport:
    """Raises NoToken, or ApiError where the environment names no address."""

    def __init__(self, environ: Mapping[str, str], patience: float = PATIENCE) -> None:
        self.base, self._token, self._patience = base(environ), token(environ), patience
        self._threads = Threads(AT_ONCE, "machines api")
        self._pool: PoolManager | None = None

    async def send(self, request: Request) -> bytes:
        """The body of the answer. Raises ApiError; what may be repeated has been, and what was lost on the way and
        may not be says ``done``."""
        patience = self._patience if request.patience is None else request.patience
        until, failures = monotonic() + patience, 0
        while True:
            try:
                return await self._in_time(request, patience)
            except (TooMany, Away) as error:
                failures += 1
                wait = backoff.delay(failures, FIRST, MOST)
                if (error.done and not request.again) or monotonic() + wait > until:
                    raise
            await asyncio.sleep(wait)

    async def _in_time(self, request: Request, patience: float) -> bytes:
        """One attempt, which ends whatever the other side does. Raises ApiError."""
        deadline = Within(CONNECT_SECONDS + request.read + READ_SECONDS + patience)
        try:
            return await self._threads.run(functools.partial(self._ask, request), deadline)
        except Late as late:
            self._pool = None  # its connections may hang too
            told = f"the Machines API at {self.base} does not come to an end: given up after {late.after:.0f} s"
            raise Away(f"{told} ({late.hung} calls hang)", done=late.begun) from late

    def hang_up(self) -> None:
        """Closes the connections which nobody uses: after a sleep they are dead without our knowing."""
        if self._pool is not None:
            self._pool.clear()

    def close(self) -> None:
        """Requests which are under way end in their own time: nobody is to wait for an API which hangs."""
        self._threads.close(wait=False)

    # --- in a thread ---

    def _ask(self, request: Request) -> bytes:
        import urllib3
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

        pool = self._pool
        if pool is None:
            pool = self._pool = urllib3.PoolManager(maxsize=AT_ONCE, retries=False)
        try:
            answer = pool.request(
                request.method,
                self.base + request.path,
                body=request.body,
                headers=self._headers(request),
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=request.read),
            )
            with answer:
                body = _read(answer, monotonic() + request.read + READ_SECONDS)
        except SSLError as error:
            raise Refused(f"{self.base} shows a certificate that is not trusted: {self._clean(error)}") from error
        except HTTPError as error:
            sent = not isinstance(error, NewConnectionError | ConnectTimeoutError)
            cause = self._clean(error).rpartition(": ")[2]  # before it stands where the pool lies in memory
            told = f"the Machines API at {self.base} does not answer: {cause}; is {BASE} right?"
            raise Away(told, done=sent) from error
        if not 200 <= answer.status < 300:
            self._refused(answer.status, body)
        return body

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}", "User-Agent": "flyatc", "Accept": "application/json"}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if request.nonce is not None:
            headers["fly-machine-lease-nonce"] = request.nonce
        return headers

    def _refused(self, status: int, body: bytes) -> NoReturn:
        text = self._clean(_said(body))
        told = f"the Machines API answered {status}: {text}"
        taken = _TAKEN.search(text)
        if taken is not None:
            raise NameTaken(told, taken[1])
        if status in (401, 403):
            raise NoToken(f'{told}. Make {TOKEN} anew: fly secrets set {TOKEN}="$(fly tokens create deploy)"')
        if status == 404:
            raise NotFound(told)
        if status in (409, 412):
            raise Conflict(told)
        if status == 429:
            raise TooMany(f"{told}. It takes one request a second for each machine or app: try later")
        if status == 408:
            raise TooSlow(told)
        if status >= 500:
            raise Away(f"{told}. Try later, and look at https://status.flyio.net", done=True)
        raise Refused(told)

    def _clean(self, told: object) -> str:
        """One line, without the token."""
        text = str(told).replace(self._token, "…")
        return " ".join(text.split())[:300] or "without a word"


def base(environ: Mapping[str, str]) -> str:
    """Where the API is. Raises ApiError."""
    found = environ.get(BASE) or (INSIDE if environ.get("FLY_MACHINE_ID") else OUTSIDE)
    try:
        parts = urlsplit(found.strip())
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and not parts.query
    except ValueError:
        known = False
    if not known:
        raise ApiError(f"{BASE} is not the address of a Machines API: write one like {OUTSIDE}")
    return found.strip().rstrip("/")


def token(environ: Mapping[str, str]) -> str:
    """Raises NoToken."""
    found = environ.get(TOKEN, "").strip()
    if not found:
        raise NoToken(
            f"{TOKEN} is not set, and the Machines API answers nobody without: on Fly set it by "
            f'fly secrets set {TOKEN}="$(fly tokens create deploy)"'
        )
    if _TOKEN.fullmatch(found) is None:
        raise NoToken(f"{TOKEN} has characters which no token has: set it anew")
    return found


def _read(answer: "BaseHTTPResponse", until: float) -> bytes:
    """Raises Away, HTTPError."""
    pieces, total = [], 0
    while piece := answer.read(_PIECE):
        pieces.append(piece)
        total += len(piece)
        if total > LARGEST:
            raise Away(f"the Machines API answered with more than {LARGEST >> 20} MB", done=True)
        if monotonic() > until:
            raise Away("the Machines API did not come to the end of its answer in time", done=True)
    return b"".join(pieces)


def _said(body: bytes) -> str:
    try:
        told = msgspec.json.decode(body, type=_Failure)
    except msgspec.MsgspecError:
        return body[:300].decode("utf-8", "replace")
    return told.error or told.message
