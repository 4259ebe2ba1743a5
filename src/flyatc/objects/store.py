"""The store behind one small interface: what every kind of store promises, and how it says no.

Three outcomes which are never mixed: *found*; *surely absent* (None, or ``Absent``); *unknown* (``StoreUnavailable``).

Whether a store keeps its conditions. Several S3 look-alikes ignore them in silence, and would lose data.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress

SMALL = 256 << 10  # octets; what ``get`` and ``put`` are for


class StoreUnavailable(FlyatcError):
    """Whether it is there, or whether it was done, is not known: try later, conclude nothing."""


class StoreRefused(StoreUnavailable):
    """It will not do as it is set up: no such bucket, wrong credentials, no conditions. Trying again does not help."""


class ConditionFailed(FlyatcError):
    """Nothing was written: the key exists already (``create``), or is not what was expected (``match``)."""


class Absent(FlyatcError):
    """The store answered, and it surely has no such key."""


@dataclass(frozen=True, slots=True)  # a listing may have a million of them
class Stored:
    key: str
    size: int  # octets
    etag: str
    modified: float  # Unix time, by the store's clock


@dataclass(frozen=True)
class Seen:
    body: bytes
    etag: str
    age: float  # seconds since it was written, by the store's clock alone; never below 0. S3 tells whole seconds: ± 1


class ObjectStore(Protocol):
    """Each call may raise StoreUnavailable. Keys are ``a/b/c``: see ``check_key``.

    An object appears whole or not at all, and is on the disk when the call returns. Equal bodies may have equal etags
    (in S3 they do): where that matters, as for a record which is compared and swapped, the body must never repeat."""

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """(body, etag); None: surely absent."""

    async def look(self, key: str) -> Seen | None:
        """As ``get``, and how old it is. None: surely absent."""

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        """The new etag. ``create``: only if absent; ``match``: only if this is its etag; else ConditionFailed.

        Raises ValueError above SMALL octets."""

    async def head(self, key: str) -> Stored | None:
        """None: surely absent."""

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        """All keys below ``prefix``, which ends with a slash; sorted by key."""

    @property
    def conditional_deletes(self) -> bool:
        """Whether ``delete`` keeps its condition, as ``check`` has found out; False before that."""

    async def delete(self, key: str, *, match: str | None = None) -> None:
        """It is absent afterwards, whether or not it was there. ``match``: only if this is its etag, else
        ConditionFailed, also where it was not there."""

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        """Writes the object to ``path``, which is not there yet. Raises Absent."""

    async def borrow(self, key: str, path: Path, progress: Progress) -> None:
        """As ``download``, for an object which somebody else keeps: ``key`` as it stands in the bucket, without our
        prefix, be it with slashes in front. Raises Absent."""

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        """The new etag. With ``create``, ConditionFailed if the key exists."""


def check_key(key: str) -> None:
    """Raises ValueError unless it is relative, without empty, ``.`` or ``..`` segments, and outside ``.flyatc``."""
    segments = key.split("/")
    if "\0" in key or "\\" in key or segments[0] == ".flyatc" or not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError(f"{key!r} is not a key of the store")


async def check(store: ObjectStore) -> bool:
    """Writes, tries what must fail, and cleans up. Whether it keeps conditions on deletions too, which not every store
    does that is fit for use. StoreUnavailable: it is away; StoreRefused: it is heedless."""
    key = f"checks/{uuid.uuid4().hex}"
    etag = await store.put(key, b"1", create=True)
    try:
        await _must_fail(store, key, create=True)
        await _must_fail(store, key, match=f"{etag[:-1]}x")
        second = await store.put(key, b"2", match=etag)
        await _must_fail(store, key, match=etag)
        deletes = await _deletes_on_condition(store, key, etag, second)
    except ConditionFailed as error:
        raise StoreRefused(f"the store refuses a write whose condition holds ({error}): use another one") from error
    finally:
        await store.delete(key)
    await _must_fail(store, key, match=etag)
    return deletes


async def _deletes_on_condition(store: ObjectStore, key: str, before: str, now: str) -> bool:
    """It is there with the etag ``now``, and may be deleted."""
    try:
        await store.delete(key, match=before)
    except ConditionFailed:
        pass
    except StoreUnavailable:  # it knows no such request
        return False
    else:
        return False
    try:
        await store.delete(key, match=now)
        return await store.get(key) is None
    except (ConditionFailed, StoreUnavailable):
        return False


async def _must_fail(store: ObjectStore, key: str, *, create: bool = False, match: str | None = None) -> None:
    try:
        await store.put(key, b"3", create=create, match=match)
    except ConditionFailed:
        return
    raise StoreRefused("the store ignores conditions on writes: databases would be lost on it, so it is refused")
