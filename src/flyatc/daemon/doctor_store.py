"""The store, examined as a machine that renews its ownership sees it: one attempt, a few seconds a step."""

import statistics
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from time import monotonic, time

from flyatc.config import bucket
from flyatc.config.schema import Storage
from flyatc.daemon.findings import Finding
from flyatc.objects.opened import OwnedStore, store_of
from flyatc.objects.store import StoreRefused, StoreUnavailable

ROUNDS = 5
SLOW = 1.0  # s for a small request: starts and saves make several, one after the other
OFFSET, REFUSED_OFFSET = 5.0, 600.0  # s; S3 refuses requests from clocks which are off by a quarter of an hour


async def examine(storage: Storage, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    store = store_of(storage, environ, hurried=6.0)
    if store is None:
        yield Finding(
            "doubt", "store", "storage.mode is none: databases are nowhere but on this disk", "set storage.mode"
        )
        return
    try:
        async for finding in _examine(store, storage.url, environ):
            yield finding
    finally:
        store.close()


async def _examine(store: OwnedStore, url: str, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    try:
        await store.open()
        yield Finding("good", "store", _lets_in(url, environ))
        if url.startswith(bucket.SCHEME):
            yield _consistency(bucket.bucket_of(url, environ))
        await store.check()
        yield Finding("good", "conditions", "writes under a condition are refused when it does not hold")
        puts, gets, offset = await _measure(store)
    except StoreRefused as error:
        yield Finding("fault", "store", str(error), "what it says; nothing can be saved until then")
        return
    except StoreUnavailable as error:
        yield Finding("fault", "store", str(error), "look whether the address is right and the network lets us through")
        return
    yield _latency(puts, gets)
    yield _clock(offset)


def _lets_in(url: str, environ: Mapping[str, str]) -> str:
    if not url.startswith(bucket.SCHEME):
        return f"{url} can be written"
    place = bucket.bucket_of(url, environ)
    return f"the bucket {place.name} at {place.place} lets us in"


def _consistency(place: bucket.Bucket) -> Finding:
    if not place.on_tigris:
        told = "taken to be strong, as Amazon's: a write is seen by whoever reads after it"
        return Finding("good", "consistency", told)
    return Finding(
        "good",
        "consistency",
        "Tigris: every request asks for the leader. A Global bucket, its default, promises that in one region only",
        "for machines in several regions take a bucket whose location is a single region or a multi-region",
    )


async def _measure(store: OwnedStore) -> tuple[float, float, float]:
    """Median seconds of a small put and a small get; how far the store's clock is ahead of ours, within a second."""
    key, puts, gets, offset = f"checks/{uuid.uuid4().hex}", [], [], 0.0
    try:
        for turn in range(ROUNDS):
            began, wall = monotonic(), time()
            await store.put(key, str(turn).encode())
            puts.append(monotonic() - began)
            found = await store.head(key)
            if found is not None:
                offset = found.modified - (wall + puts[-1] / 2)
            began = monotonic()
            await store.get(key)
            gets.append(monotonic() - began)
    finally:
        with suppress(StoreUnavailable):
            await store.delete(key)
    return statistics.median(puts), statistics.median(gets), offset


def _latency(put: float, get: float) -> Finding:
    told = f"a small object is written in {put * 1000:.0f} ms and read in {get * 1000:.0f} ms"
    if max(put, get) < SLOW:
        return Finding("good", "latency", told)
    return Finding(
        "doubt", "latency", told, "take a bucket nearer to this machine: each start waits for several of them"
    )


def _clock(offset: float) -> Finding:
    if abs(offset) < OFFSET:
        return Finding("good", "clock", f"within {OFFSET:g} s of the store's")
    told = f"{abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the store's clock"
    far = abs(offset) > REFUSED_OFFSET
    return Finding("fault" if far else "doubt", "clock", told, "set this machine's clock, as by chrony")
