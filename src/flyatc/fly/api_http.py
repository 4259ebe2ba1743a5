"""HTTP transport for the Machines API: one aiohttp session, imported and opened with the first request.

https://fly.io/docs/machines/api/working-with-machines-api/ has the addresses, the statuses and the limits: one request
a second for each action and machine or app, three at once. Above the limit it responds 429, and nothing was done.
"""

import asyncio
import re
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from flyatc.fly.api_types import ApiError, Away, Conflict, NameTaken, NotFound, NoToken, Refused, TooMany, TooSlow
from flyatc.kit import timing
from flyatc.kit.threads import imported

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

INSIDE, OUTSIDE = "http://_api.internal:4280", "https://api.machines.dev"
BASE, TOKEN = "FLY_FLAPS_BASE_URL", "FLY_API_TOKEN"  # names of variables
CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
PATIENCE = 15.0  # seconds for a call with all its tries
FIRST, MOST = 0.5, 4.0  # seconds before the next try
LARGEST = 64 << 20  # bytes of a response: some 20 000 machines
AT_ONCE = 4  # requests
_TAKEN = re.compile(r"unique machine name violation(?:, machine ID ([0-9a-z]{8,20}))?")
_TOKEN = re.compile(r"[!-~]+(?: [!-~]+)*")


class Request(Struct, frozen=True):
    """A request. ``path``: quoted, with its query; ``again``: it may be repeated; ``read``: read timeout in seconds;
    ``patience``: overrides that of the transport."""

    method: str
    path: str
    body: bytes | None = None
    again: bool = False
    read: float = READ_SECONDS
    patience: float | None = None


class _Failure(Struct):
    """The error text of a response: in ``error``, but for leases in ``message``."""

    error: str = ""
    message: str = ""


class ApiTransport:
    """Sends requests, with retries. Raises NoToken; ApiError if the environment names no valid address."""

    def __init__(self, environ: Mapping[str, str], patience: float = PATIENCE) -> None:
        self.base, self._token, self._patience = base_url(environ), token(environ), patience
        self._session: ClientSession | None = None

    async def send(self, request: Request) -> bytes:
        """Return the response's body. Raises ApiError once repeating does not help; with ``done`` set if the request
        may have taken effect and must not be repeated."""
        patience = self._patience if request.patience is None else request.patience
        until, failures = monotonic() + patience, 0
        while True:
            try:
                return await self._ask(request)
            except (TooMany, Away) as error:
                failures += 1
                wait = timing.delay(failures, FIRST, MOST)
                if (error.done and not request.again) or monotonic() + wait > until:
                    raise
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close all connections; another request opens new ones. Called after a sleep too: they may be dead without
        notice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _opened(self) -> "ClientSession":
        await imported("aiohttp")
        from aiohttp import ClientSession, DummyCookieJar, TCPConnector

        if self._session is None:
            connector = TCPConnector(limit=AT_ONCE)
            self._session = ClientSession(connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False)
        return self._session

    async def _ask(self, request: Request) -> bytes:
        """Make one attempt. Raises ApiError."""
        session = await self._opened()
        from aiohttp import ClientConnectorError, ClientError, ClientSSLError, ClientTimeout, ConnectionTimeoutError
        from yarl import URL

        total = CONNECT_SECONDS + request.read + READ_SECONDS
        try:
            async with session.request(
                request.method,
                URL(self.base + request.path, encoded=True),
                data=request.body,
                headers=self._headers(request),
                allow_redirects=False,
                timeout=ClientTimeout(total=total, sock_connect=CONNECT_SECONDS, sock_read=request.read),
            ) as response:
                body = await _read(response)
        except ClientSSLError as error:
            raise Refused(f"{self.base} shows a certificate that is not trusted: {self._clean(error)}") from error
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise self._away(error, sent=False) from error
        except (ClientError, OSError) as error:
            raise self._away(error, sent=True) from error
        except TimeoutError as error:
            raise Away(f"the Machines API at {self.base} did not finish within {total:g} s", done=True) from error
        if not 200 <= response.status < 300:
            self._refused(response.status, body)
        return body

    def _away(self, error: Exception, *, sent: bool) -> Away:
        cause = self._clean(getattr(error, "strerror", None) or error or type(error).__name__)
        return Away(f"the Machines API at {self.base} does not answer: {cause}; is {BASE} right?", done=sent)

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}", "User-Agent": "flyatc", "Accept": "application/json"}
        headers["Accept-Encoding"] = "identity"  # a response is bounded as it arrives
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _refused(self, status: int, body: bytes) -> NoReturn:
        text = self._clean(_error_text(body))
        reason = f"the Machines API answered {status}: {text}"
        taken = _TAKEN.search(text)
        if taken is not None:
            raise NameTaken(reason, taken[1])
        if status in (401, 403):
            raise NoToken(f'{reason}. Make {TOKEN} anew: fly secrets set {TOKEN}="$(fly tokens create deploy)"')
        if status == 404:
            raise NotFound(reason)
        if status in (409, 412):
            raise Conflict(reason)
        if status == 429:
            raise TooMany(f"{reason}. It takes one request a second for each machine or app: try later")
        if status == 408:
            raise TooSlow(reason)
        if status >= 500:
            raise Away(f"{reason}. Try later, and look at https://status.flyio.net", done=True)
        raise Refused(reason)

    def _clean(self, message: object) -> str:
        """Return a text as one line, without the token."""
        text = str(message).replace(self._token, "…")
        return " ".join(text.split())[:300] or "no reason given"


def base_url(environ: Mapping[str, str]) -> str:
    """Return the API's base URL. Raises ApiError."""
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
    """Return the API token. Raises NoToken."""
    found = environ.get(TOKEN, "").strip()
    if not found:
        raise NoToken(
            f"{TOKEN} is not set, and the Machines API requires it: on Fly set it by "
            f'fly secrets set {TOKEN}="$(fly tokens create deploy)"'
        )
    if _TOKEN.fullmatch(found) is None:
        raise NoToken(f"{TOKEN} has characters that no token has: set it anew")
    return found


async def _read(response: "ClientResponse") -> bytes:
    """Read the whole body. Raises Away, ClientError."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            raise Away(f"the Machines API answered with more than {LARGEST >> 20} MB", done=True)
    return bytes(body)


def _error_text(body: bytes) -> str:
    try:
        failure = msgspec.json.decode(body, type=_Failure)
    except msgspec.MsgspecError:
        return body[:300].decode("utf-8", "replace")
    return failure.error or failure.message
