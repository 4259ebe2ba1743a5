"""Writing a record on condition, and what to make of the answer."""

import asyncio
from collections.abc import Collection
from typing import Protocol

import msgspec

from flyatc.objects.store import ConditionFailed, Seen, StoreUnavailable
from flyatc.ownership import record
from flyatc.ownership.rules import Found, Landed, Outcome, Refused, Rules, Unsure


class RecordStore(Protocol):
    """What is needed of an ``ObjectStore``."""

    async def look(self, key: str) -> Seen | None: ...

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str: ...

    async def delete(self, key: str, *, match: str | None = None) -> None: ...


class Lanes:
    """A store in which no more than ``count`` calls are under way: the client's other threads are left to those who
    must not wait."""

    def __init__(self, store: RecordStore, count: int) -> None:
        self._store, self._free = store, asyncio.Semaphore(count)

    async def look(self, key: str) -> Seen | None:
        async with self._free:
            return await self._store.look(key)

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        async with self._free:
            return await self._store.put(key, body, create=create, match=match)

    async def delete(self, key: str, *, match: str | None = None) -> None:
        async with self._free:
            await self._store.delete(key, match=match)


async def remove(store: RecordStore, key: str, matched: str) -> Outcome:
    """Deletes what has the etag ``matched``. One try; where the answer is lost or no, it is read back."""
    try:
        await store.delete(key, match=matched)
    except (ConditionFailed, StoreUnavailable) as error:
        try:
            seen = await store.look(key)
        except StoreUnavailable:
            return Unsure(str(error))
        if seen is not None:
            return Unsure(str(error)) if seen.etag == matched else Refused("somebody else has written it")
    return Landed("", "")


async def swap(
    store: RecordStore,
    key: str,
    new: record.Session | record.Owner,
    matched: str | None,
    rules: Rules,
    ours: Collection[str] = (),
) -> Outcome:
    """Writes ``new`` over what has the etag ``matched`` (None: over nothing). One try; where the answer is lost or no,
    it is read back. ``ours``: nonces sent before, of which nothing is known."""
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
