"""The key from which the secrets of tenants are derived: FLYATC_SECRET, else a random one kept in the store.

The key in the store is created by condition and then read back, so that machines which start at the same time agree.
It is read once, with the first tenant that needs it. A record that cannot be read is never replaced: a new key would
end all sessions and make what apps have encrypted unreadable.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flyatc.config import placeholders
from flyatc.config.schema import Tenant
from flyatc.kit import durable_files
from flyatc.kit.errors import RestoreRefused
from flyatc.objects.store import ConditionFailed, ObjectStore, StoreUnavailable
from flyatc.process import launch_plan

OBJECT = "secret.json"  # in the store; without one, in .flyatc of the data folder
OCTETS = 32  # of a key

_KEY = re.compile(r"[0-9a-f]{64}")


class _Record(msgspec.Struct, frozen=True):
    version: int
    key: str

    def __repr__(self) -> str:
        return f"<{OBJECT}, version {self.version}>"


class TenantSecrets:
    """Secrets of all tenants of a daemon. ``store`` None: storage.mode is none, and the key stays on this disk."""

    def __init__(self, environ: Mapping[str, str], store: ObjectStore | None, data: Path) -> None:
        given = environ.get(placeholders.SECRET_VARIABLE)
        self._key = given.encode("utf-8", "surrogateescape") if given else None
        self._store, self._file = store, data / ".flyatc" / OBJECT
        self._turn = asyncio.Lock()

    async def load(self, tenant: Tenant) -> None:
        """Get the key if the tenant needs it. Raises RestoreRefused: then the app must not start."""
        if self._key is not None or not launch_plan.needs_secret(tenant):
            return
        async with self._turn:
            if self._key is None:
                self._key = await (self._local() if self._store is None else self._stored(self._store))

    def words(self, tenant: Tenant) -> dict[str, str]:
        """Return the values of the placeholders; none if the key is not loaded, since the tenant needs none."""
        return {} if self._key is None else launch_plan.secret_words(self._key, tenant.address)

    async def _stored(self, store: ObjectStore) -> bytes:
        where = f"{OBJECT} in the store, the key of {{secret}},"
        try:
            found = await store.get(OBJECT)
            if found is None:
                with contextlib.suppress(ConditionFailed):  # another machine was first
                    await store.put(OBJECT, _new(), create=True)
                found = await store.get(OBJECT)
        except StoreUnavailable as error:
            raise RestoreRefused(f"{where} cannot be read: {error}") from error
        if found is None:
            raise RestoreRefused(f"{where} was deleted just now")
        return _key(found[0], where)

    async def _local(self) -> bytes:
        try:
            return await asyncio.to_thread(self._of_file)
        except OSError as error:
            raise RestoreRefused(f"{self._file}, the key of {{secret}}, cannot be read: {error.strerror}") from error

    def _of_file(self) -> bytes:
        try:
            body = self._file.read_bytes()
        except FileNotFoundError:
            body = _new()
            durable_files.write(self._file, body)
        return _key(body, str(self._file))


def _new() -> bytes:
    return msgspec.json.encode(_Record(1, secrets.token_hex(OCTETS)))


def _key(body: bytes, where: str) -> bytes:
    """Return the key of a record. Raises RestoreRefused, without the content."""
    try:
        record = msgspec.json.decode(body, type=_Record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        record = None
    if record is None or _KEY.fullmatch(record.key) is None:
        raise RestoreRefused(f"{where} is damaged: restore it, or delete it, which ends the sessions of all apps")
    if record.version != 1:
        raise RestoreRefused(f"{where} is from a newer flyatc (version {record.version})")
    return bytes.fromhex(record.key)
