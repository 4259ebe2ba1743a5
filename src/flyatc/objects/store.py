"""Object-store interface, its errors, and the self-test of conditional writes.

Three outcomes are never mixed: *found*; *surely absent* (None, or ``Absent``); *unknown* (``StoreUnavailable``).
The self-test exists because several S3 look-alikes silently ignore conditions, and would lose data.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress

SKEW = 3.0  # s; of an age: S3 gives whole seconds, and its servers' clocks differ a little
SMALL = 256 << 10  # bytes; the limit of ``get`` and ``put``


class StoreUnavailable(FlyatcError):
    """The outcome is unknown: the object may exist, or the change may be done. Retry later, conclude nothing."""


class StoreRefused(StoreUnavailable):
    """The store is unusable as configured: no such bucket, wrong credentials, no conditions. Retries do not help."""


class ConditionFailed(FlyatcError):
    """Nothing was written: the key exists already (``create``), or is not what was expected (``match``)."""


class Absent(FlyatcError):
    """The store responded that it has no such key."""


@dataclass(frozen=True, slots=True)  # a listing may have a million of them
class Stored:
    key: str
    size: int  # bytes
    etag: str
    modified: float  # Unix time, by the store's clock


@dataclass(frozen=True)
class Seen:
    body: bytes
    etag: str
    age: float  # seconds since it was written, by the store's clock alone; never below 0. S3 gives whole seconds: ± 1


class ObjectStore(Protocol):
    """An object store. Each call may raise StoreUnavailable. Keys are ``a/b/c``: see ``check_key``.

    An object appears whole or not at all, and is durable when the call returns. Equal bodies may have equal etags (in
    S3 they do): a body used for compare-and-swap must never repeat."""

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """Return (body, etag); None: surely absent."""

    async def look(self, key: str) -> Seen | None:
        """Return body, etag and age. None: surely absent."""

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        """Write, and return the new etag. ``create``: only if absent; ``match``: only if its etag; else
        ConditionFailed.

        Raises ValueError above SMALL bytes."""

    async def head(self, key: str) -> Stored | None:
        """Return the object's attributes. None: surely absent."""

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        """List all objects below ``prefix``, which ends with a slash; sorted by key."""

    @property
    def conditional_deletes(self) -> bool:
        """True if ``check`` found that ``delete`` honours its condition; False before."""

    async def delete(self, key: str, *, match: str | None = None) -> None:
        """Delete the object; no error if absent. ``match``: only if this is its etag, else ConditionFailed, also if
        absent."""

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        """Write the object to ``path``, which must not exist. Raises Absent."""

    async def download_by_full_key(self, key: str, path: Path, progress: Progress) -> None:
        """Download an object of another program. ``key``: the full key in the bucket, without our prefix, possibly
        with leading slashes. Raises Absent."""

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        """Upload a file, and return the new etag. With ``create``, raises ConditionFailed if the key exists."""


def check_key(key: str) -> None:
    """Raise ValueError unless ``key`` is relative, without empty, ``.`` or ``..`` segments, and outside ``.flyatc``."""
    segments = key.split("/")
    if "\0" in key or "\\" in key or segments[0] == ".flyatc" or not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError(f"{key!r} is not a key of the store")


async def check(store: ObjectStore, now: Callable[[], float]) -> bool:
    """Test conditional writes and ages on a temporary key. Return whether conditions on deletions work too, which not
    all usable stores have. Raises StoreRefused if the store ignores conditions on writes, or has two clocks;
    StoreUnavailable. ``now``: a clock of this machine."""
    key, began = f"checks/{uuid.uuid4().hex}", now()
    etag = await store.put(key, b"1", create=True)
    try:
        seen = await store.look(key)
        if seen is not None and seen.age > now() - began + SKEW:
            raise StoreRefused(
                f"the store says of an object just written that it is {seen.age:.0f} s old: its Date and its "
                "Last-Modified do not agree, and a machine that is alive would be taken for dead. Is there a proxy "
                "in between?"
            )
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
    """Test conditional deletion. The object exists with the etag ``now``, and may be deleted."""
    try:
        await store.delete(key, match=before)
    except ConditionFailed:
        pass
    except StoreUnavailable:  # the store does not support such a request
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
