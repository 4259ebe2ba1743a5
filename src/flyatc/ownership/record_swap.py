"""Compare-and-swap on the records of a store; an unknown outcome is read back."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Protocol

import msgspec

from flyatc.objects.store import ConditionFailed, Seen, StoreUnavailable
from flyatc.ownership import record
from flyatc.ownership.rules import (
    Found,
    Landed,
    Outcome,
    Refused,
    Rules,
    Unsure,
)


class RecordStore(Protocol):
    """The part of ``ObjectStore`` used here."""

    async def look(self, key: str) -> Seen | None: ...

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str: ...

    async def delete(self, key: str, *, match: str | None = None) -> None: ...


READS = 2  # tries of a read; with a short session_ttl a call has so little time that a busy store may miss it


class LimitedStore:
    """A store limited to ``count`` concurrent calls, so that the client's other threads stay free for urgent ones. A
    read that fails is tried once more: requests wait for it, and it may take longer than a renewal of the session."""

    def __init__(self, store: RecordStore, count: int) -> None:
        self._store, self._free = store, asyncio.Semaphore(count)

    async def look(self, key: str) -> Seen | None:
        for _ in range(READS - 1):
            with contextlib.suppress(StoreUnavailable):
                async with self._free:
                    return await self._store.look(key)
        async with self._free:
            return await self._store.look(key)

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        async with self._free:
            return await self._store.put(key, body, create=create, match=match)

    async def delete(self, key: str, *, match: str | None = None) -> None:
        async with self._free:
            await self._store.delete(key, match=match)


async def remove(store: RecordStore, key: str, matched: str) -> Outcome:
    """Delete the object if its etag is ``matched``. One try; if it fails or the response is lost, the key is read
    back."""
    try:
        await store.delete(key, match=matched)
    except (ConditionFailed, StoreUnavailable) as error:
        try:
            seen = await store.look(key)
        except StoreUnavailable:
            return Unsure(str(error))
        if seen is not None:
            return Unsure(str(error)) if seen.etag == matched else Refused("another writer has changed it")
    return Landed("", "")


async def swap(
    store: RecordStore,
    key: str,
    new: record.Session | record.Owner,
    matched: str | None,
    rules: Rules,
    ours: Collection[str] = (),
) -> Outcome:
    """Write ``new`` if the key's etag is ``matched`` (None: if the key is absent). One try; if it fails or the response
    is lost, the key is read back. ``ours``: nonces sent before, with unknown outcome."""
    try:
        etag = await store.put(key, record.write(new), create=matched is None, match=matched)
    except (ConditionFailed, StoreUnavailable) as error:
        try:
            seen = await store.look(key)
        except StoreUnavailable:
            return Unsure(str(error))
        return rules.concluded({new.nonce, *ours}, matched, _found(seen))
    return Landed(etag, new.nonce)


class _Nonce(msgspec.Struct):
    nonce: str


def _found(seen: Seen | None) -> Found | None:
    if seen is None:
        return None
    try:
        nonce = msgspec.json.decode(seen.body, type=_Nonce).nonce
    except (msgspec.MsgspecError, UnicodeDecodeError):
        nonce = ""  # not one of ours
    return Found(seen.etag, seen.age, nonce)
