"""Calls of Fly's Machines API: https://docs.machines.dev (OpenAPI),
https://fly.io/docs/machines/api/machines-resource/ and https://fly.io/docs/machines/api/volumes-resource/.

All raise api_types.ApiError."""

import re
from collections.abc import Mapping
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from flyatc.config.schema_sections import MACHINE
from flyatc.fly.api_http import PATIENCE, READ_SECONDS, ApiTransport, Request
from flyatc.fly.api_types import (
    ApiError,
    Away,
    Executed,
    Machine,
    NotFound,
    Ran,
    TooSlow,
    Volume,
)
from flyatc.fly.environment import APP

WAIT = 5.0  # seconds of one request for a state; a cancelled wait ends with it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # of machines, volumes and keys of metadata
_VOLUME = re.compile(r"vol_[0-9a-z]{4,40}")

T = TypeVar("T")


class MachinesApi:
    """The API for one app. ``patience``: seconds for a call with all its retries. Raises ApiError for an invalid app
    name, NoToken if the environment has no FLY_API_TOKEN. To be closed."""

    def __init__(self, app: str, environ: Mapping[str, str], patience: float = PATIENCE) -> None:
        if APP.fullmatch(app) is None:
            raise ApiError(f"{app!r} is no name of an app on Fly")
        self.app = app
        self._transport = ApiTransport(environ, patience)

    async def close(self) -> None:
        """See ApiTransport."""
        await self._transport.close()

    # --- machines ---

    async def machines(
        self, *, metadata: tuple[str, str] | None = None, patience: float | None = None
    ) -> list[Machine]:
        """List the machines that are not destroyed. ``metadata``: their key and value; ``patience``: seconds instead of
        the default; 0: no retries."""
        query = {} if metadata is None else {f"metadata.{_checked(metadata[0], _NAME, 'key of metadata')}": metadata[1]}
        path = self._path() + (f"?{urlencode(query)}" if query else "")
        return _decoded(await self._transport.send(Request("GET", path, again=True, patience=patience)), list[Machine])

    async def get(self, machine: str, patience: float | None = None) -> Machine:
        request = Request("GET", self._path(machine), again=True, patience=patience)
        return _decoded(await self._transport.send(request), Machine)

    async def config(self, machine: str) -> dict[str, Any]:
        """Return the whole config, which can be changed and given to ``create``."""
        found = _decoded(await self._get(self._path(machine)), dict[str, Any]).get("config")
        if not isinstance(found, dict):
            raise Away("the Machines API returned no config of the machine", done=False)
        return found

    async def create(self, config: Mapping[str, Any], *, region: str, name: str) -> Machine:
        """Create a machine, which starts at once. ``region``: may be empty. Raises NameTaken. After an error with
        ``done`` the machine may exist: look for its name."""
        wanted = {"config": config, "name": _checked(name, _NAME, "name of a machine")}
        body = msgspec.json.encode(wanted | ({"region": region} if region else {}))
        return _decoded(await self._transport.send(Request("POST", self._path(), body, read=60.0)), Machine)

    async def start(self, machine: str) -> None:
        """Start a machine; no error if it is started. Returns before it has started: see ``wait``."""
        await self._post(machine, "start")

    async def stop(self, machine: str) -> None:
        """Stop a machine, with SIGINT. Returns before it stops: see ``wait``."""
        await self._post(machine, "stop", {"signal": "SIGINT"})

    async def wait(self, machine: str, state: str, seconds: float, version: str | None = None) -> None:
        """Wait until it is ``started``, ``stopped``, ``suspended`` or ``destroyed``. ``version``: its ``instance_id``,
        required for stopped. Raises TooSlow."""
        until = monotonic() + seconds
        while True:
            patience = max(1.0, min(WAIT, until - monotonic()))
            query = {"state": state, "timeout": f"{patience:.0f}"} | (
                {} if version is None else {"instance_id": version}
            )
            path = f"{self._path(machine, 'wait')}?{urlencode(query)}"
            if await self._has_become(state, Request("GET", path, again=True, read=patience + READ_SECONDS)):
                return
            if monotonic() >= until:
                raise TooSlow(f"machine {machine} has not become {state} within {seconds:g} s")

    async def _has_become(self, state: str, request: Request) -> bool:
        try:
            await self._transport.send(request)
        except TooSlow:
            return False
        except NotFound:
            if state != "destroyed":
                raise
        return True

    async def destroy(self, machine: str, *, force: bool = False) -> None:
        """Destroy a machine; ``force``: even if it runs. No error if it is gone."""
        path = self._path(machine) + ("?force=true" if force else "")
        try:
            await self._transport.send(Request("DELETE", path, again=True))
        except NotFound:
            return

    async def cordon(self, machine: str) -> None:
        """Make Fly Proxy send it no more requests."""
        await self._post(machine, "cordon")

    async def uncordon(self, machine: str) -> None:
        await self._post(machine, "uncordon")

    async def exec(self, machine: str, command: list[str], patience: float = 30.0) -> Ran:
        """Run a command in the machine and wait for it. A failed command has its ``exit_code``, and raises nothing."""
        wanted = msgspec.json.encode({"command": command, "timeout": round(patience)})
        request = Request("POST", self._path(machine, "exec"), wanted, read=patience + READ_SECONDS)
        ran = _decoded(await self._transport.send(request), Executed)
        return Ran(ran.exit_code, ran.stdout or "", ran.stderr or "")

    # --- metadata: no restart, no new version ---

    async def set_metadata(self, machine: str, key: str, value: str) -> None:
        path, wanted = self._key(machine, key), msgspec.json.encode({"value": value})
        await self._transport.send(Request("POST", path, wanted, again=True))

    async def delete_metadata(self, machine: str, key: str) -> None:
        """Delete a key; no error if it is absent."""
        try:
            await self._transport.send(Request("DELETE", self._key(machine, key), again=True))
        except NotFound:
            return

    # --- volumes ---

    async def volumes(self) -> list[Volume]:
        return _decoded(await self._get(f"/v1/apps/{self.app}/volumes"), list[Volume])

    async def create_volume(self, name: str, region: str, size_gb: int, guest: Mapping[str, Any] | None) -> Volume:
        """Create a volume. ``guest``: from the config of the machine that will mount it, to place both on one host."""
        wanted = {"name": name, "region": region, "size_gb": size_gb} | ({} if guest is None else {"compute": guest})
        path = f"/v1/apps/{self.app}/volumes"
        return _decoded(
            await self._transport.send(Request("POST", path, msgspec.json.encode(wanted), read=60.0)), Volume
        )

    async def destroy_volume(self, volume: str) -> None:
        """Destroy a volume; no error if it is gone."""
        path = f"/v1/apps/{self.app}/volumes/{_checked(volume, _VOLUME, 'id of a volume')}"
        try:
            await self._transport.send(Request("DELETE", path, again=True))
        except NotFound:
            return

    # --- parts of requests ---

    def _path(self, machine: str | None = None, verb: str | None = None) -> str:
        path = f"/v1/apps/{self.app}/machines"
        if machine is not None:
            path += f"/{_checked(machine, MACHINE, 'id of a machine')}"
        return path if verb is None else f"{path}/{verb}"

    def _key(self, machine: str, key: str) -> str:
        return f"{self._path(machine, 'metadata')}/{quote(_checked(key, _NAME, 'key of metadata'), safe='')}"

    async def _get(self, path: str) -> bytes:
        return await self._transport.send(Request("GET", path, again=True))

    async def _post(self, machine: str, verb: str, wanted: Mapping[str, object] | None = None) -> None:
        body = None if wanted is None else msgspec.json.encode(wanted)
        await self._transport.send(Request("POST", self._path(machine, verb), body, again=True))


def _checked(word: str, form: re.Pattern[str], what: str) -> str:
    """Return ``word`` if it matches ``form``. Raises ApiError."""
    if form.fullmatch(word) is None:
        raise ApiError(f"{word[:80]!r} is no {what}")
    return word


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Away(f"the response of the Machines API cannot be read: {error}", done=True) from error
