"""Whether a store keeps its conditions. Several S3 look-alikes ignore them in silence, and would lose data."""

import uuid

from flyatc.objects.store import ConditionFailed, ObjectStore, StoreRefused, StoreUnavailable


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
