"""Check the store, the machine and the Fly API for ``flyatc doctor``. Test objects are removed again.

The store is examined with the timeouts of a lease renewal: one attempt, a few seconds a step.
"""

import asyncio
import statistics
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic, time

from flyatc.admin import doctor_machine
from flyatc.admin.doctor_machine import Finding
from flyatc.config import sections
from flyatc.config.schema import Config, Storage
from flyatc.fly import api_http, environment, provision
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import ApiError
from flyatc.kit.errors import FlyatcError
from flyatc.objects.calls import ThreadedStore
from flyatc.objects.open_store import store_of
from flyatc.objects.store import StoreRefused, StoreUnavailable


async def examine(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Yield findings, each check bounded in time."""
    async for finding in examine_store(config.storage, environ):
        yield finding
    checks: list[Callable[[], list[Finding]]] = [
        partial(doctor_machine.litestream, config.storage, environ),
        partial(doctor_machine.disk, config, environ),
        partial(doctor_machine.kill_timeout, config),
        partial(doctor_machine.open_files, config),
        partial(doctor_machine.sleep, config, environ),
    ]
    for check in checks:
        for finding in await asyncio.to_thread(check):
            yield finding
    for finding in await examine_fly(config, environ):
        yield finding


WHAT, PATIENCE = "machines api", 3.0  # seconds


async def examine_fly(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    try:
        me = environment.of(environ)
    except FlyatcError as error:
        return [Finding("fault", WHAT, str(error), "unset it where this is not Fly; requests are not replayed so")]
    lacking = provision.why_unable(config, environ)
    if me is None or (lacking is None and not environ.get(api_http.TOKEN)):
        return []
    if lacking is not None:
        return [Finding("fault", WHAT, f"no machine can be made for users who have none: {lacking}", "what it says")]
    try:
        return [await _list_machines(MachinesApi(me.app, environ, PATIENCE), me)]
    except ApiError as error:
        return [Finding("fault", WHAT, str(error), "what it says; unknown users have to wait")]


async def _list_machines(api: MachinesApi, me: environment.Machine) -> Finding:
    try:
        async with asyncio.timeout(2 * PATIENCE):
            found = await api.machines()
    except TimeoutError:
        return Finding("fault", WHAT, f"no answer within {2 * PATIENCE:g} s", "look at https://status.flyio.net")
    finally:
        api.close()
    text = f"it lists {len(found)} machine{'s' * (len(found) != 1)} of {me.app}"
    if any(one.id == me.id for one in found):
        return Finding("good", WHAT, f"{text}, this among them")
    return Finding("doubt", WHAT, f"{text}, and not this one", "look whether the token is of this app and organization")


ROUNDS = 5
SLOW = 1.0  # s for a small request; starts and saves make several in sequence
OFFSET, REFUSED_OFFSET = 5.0, 600.0  # s; S3 refuses requests if the clock is off by 15 minutes


async def examine_store(storage: Storage, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
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


async def _examine(store: ThreadedStore, url: str, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    try:
        await store.open()
        yield Finding("good", "store", _lets_in(url, environ))
        if url.startswith(sections.SCHEME):
            yield _consistency(sections.bucket_of(url, environ))
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
    if not url.startswith(sections.SCHEME):
        return f"{url} can be written"
    place = sections.bucket_of(url, environ)
    return f"the bucket {place.name} at {place.place} lets us in"


def _consistency(place: sections.Bucket) -> Finding:
    if not place.on_tigris:
        text = "taken to be strong, as Amazon's: every later read sees a write"
        return Finding("good", "consistency", text)
    return Finding(
        "good",
        "consistency",
        "Tigris: every request asks for the leader. A Global bucket, its default, promises that in one region only",
        "for machines in several regions take a bucket whose location is a single region or a multi-region",
    )


async def _measure(store: ThreadedStore) -> tuple[float, float, float]:
    """Median seconds of a small put and a small get; seconds by which the store's clock is ahead, accurate to 1 s."""
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
    text = f"a small object is written in {put * 1000:.0f} ms and read in {get * 1000:.0f} ms"
    if max(put, get) < SLOW:
        return Finding("good", "latency", text)
    return Finding(
        "doubt", "latency", text, "take a bucket nearer to this machine: each start waits for several of them"
    )


def _clock(offset: float) -> Finding:
    if abs(offset) < OFFSET:
        return Finding("good", "clock", f"within {OFFSET:g} s of the store's")
    text = f"{abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the store's clock"
    far = abs(offset) > REFUSED_OFFSET
    return Finding("fault" if far else "doubt", "clock", text, "set this machine's clock, as by chrony")
