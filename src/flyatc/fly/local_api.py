"""Stop or suspend this machine from within: https://fly.io/docs/reference/suspend-resume/.

The API is HTTP over a unix socket, without a token. Documented for ``suspend``; ``stop`` works in the same way.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from flyatc.config.schema import Config
from flyatc.fly import environment
from flyatc.fly.environment import Machine
from flyatc.kit.errors import FlyatcError
from flyatc.kit.threads import imported
from flyatc.kit.unix_socket import short_path

if TYPE_CHECKING:
    from aiohttp import ClientResponse

Verb = Literal["stop", "suspend"]
SOCKET = "/.fly/api"
CONNECT = 3.0  # s
PATIENCE = 10.0  # s; for the response
REASON = 1.0  # s; for the body with the reason
LONGEST_REASON = 1 << 12  # bytes


class NotAsked(FlyatcError):
    """The request could not be sent."""


class Refused(FlyatcError):
    """The platform refused."""


class Unanswered(FlyatcError):
    """The request was sent without a response; the platform may still act on it."""


class _Failure(Struct):
    error: str = ""


class LocalApi:
    """Client of the local API; ``path``: of its socket."""

    def __init__(self, path: Path, me: Machine) -> None:
        self._path, self._me = path, me

    async def ask(self, verb: Verb) -> None:
        """Ask for ``verb``; returns once the platform accepts. This machine may be frozen or stopped at any moment from
        the call on. Raises NotAsked, Refused, Unanswered."""
        await imported("aiohttp")
        from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, UnixConnector

        url = f"http://flaps/v1/apps/{self._me.app}/machines/{self._me.id}/{verb}"
        timeout = ClientTimeout(total=PATIENCE, connect=CONNECT)
        try:
            with short_path(self._path) as name:
                connector = UnixConnector(name, force_close=True)
                async with (
                    ClientSession(connector=connector, timeout=timeout) as session,
                    session.post(url, allow_redirects=False) as response,
                ):
                    if not 200 <= response.status < 300:
                        raise Refused(f"{response.status} {await _reason(response)}".rstrip())
        except ClientConnectorError as error:
            raise NotAsked(f"cannot connect to {self._path}: {error.strerror or error}") from error
        except (ClientError, TimeoutError) as error:
            raise Unanswered(f"no response from {self._path}: {str(error) or type(error).__name__}") from error
        except OSError as error:
            raise NotAsked(f"cannot connect to {self._path}: {error.strerror or error}") from error


async def _reason(response: "ClientResponse") -> str:
    """Read the error text of the response; if it is no JSON, the body as it is."""
    data = b""
    with contextlib.suppress(Exception):  # the status says enough
        async with asyncio.timeout(REASON):
            async for piece in response.content.iter_any():
                data += piece[: LONGEST_REASON - len(data)]
    try:
        return msgspec.json.decode(data, type=_Failure).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return data.decode("latin-1").strip()


def socket_of(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("FLYATC_FLY_API") or SOCKET)


def missing_settings(environ: Mapping[str, str]) -> str | None:
    """Return why the local API cannot be used; None if it seems to be available."""
    path = socket_of(environ)
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return f"{path} is no socket"
    except OSError as error:
        return f"{path} cannot be used: {error.strerror}"
    return None if os.access(path, os.R_OK | os.W_OK) else f"{path} may not be used by this user: run flyatc as root"


def reason(config: Config, environ: Mapping[str, str]) -> str | None:
    """Return why this machine cannot stop or suspend itself as configured; None if it can, or need not."""
    then = config.machine_idle.then
    if then not in ("stop", "suspend"):
        return None
    what = f"machine_idle.then: {then} needs Fly"
    try:
        if environment.this_machine(environ) is None:
            return f"{what}, and this is none of its machines: it stays awake"
    except FlyatcError as error:
        return f"{what}: {error}"
    if (missing := missing_settings(environ)) is not None:
        return f"{what}: {missing}"
    if config.storage.mode == "none" and loses_disk(config, environ):
        return f"storage.mode is none, and {config.server.data} is not on a volume: a machine that stops would lose it"
    return None


def loses_disk(config: Config, environ: Mapping[str, str]) -> bool:
    """Return whether ``server.data`` is lost when the machine stops, or when its suspend snapshot is lost."""
    if "FLY_MACHINE_ID" not in environ:
        return False
    return Path(config.server.data).stat().st_dev == Path("/").stat().st_dev
