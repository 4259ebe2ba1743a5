"""Check the store, the machine and the Fly API for ``flyatc doctor``. Test objects are removed again.

The store is examined with the timeouts of a lease renewal: one attempt, a few seconds a step.
"""

import asyncio
import os
import re
import resource
import shutil
import statistics
import tempfile
import tomllib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Literal

from flyatc.admin import doctor_isolation
from flyatc.config import check_sections
from flyatc.config.check_sections import SCHEME
from flyatc.config.schema import Config, Storage
from flyatc.databases.litestream import client
from flyatc.fly import api_http, environment, local_api, provision
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import ApiError
from flyatc.kit import durable_files, file_limit
from flyatc.kit.errors import FlyatcError
from flyatc.objects.open_store import absent, store_of
from flyatc.objects.store import StoreRefused, StoreUnavailable
from flyatc.objects.threaded_store import ThreadedStore


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    state: Literal["good", "doubt", "fault"]
    what: str  # two words at most: bucket, conditions, kill timeout
    text: str  # the result as a sentence
    advice: str = ""  # what to do; empty if nothing


ROUNDS = 5
GB = 1 << 30
SLOW_SYNC = 0.1  # s; an app waits for a sync at every commit
LITTLE_SPACE = 256 << 20  # bytes
LITTLE_SHARE = 0.1
FLY_DEFAULT = 5.0  # s; kill_timeout where fly.toml has none
SUSPENDED_MB = 2048
FILES_BESIDES, FILES_PER_APP = 256, 40  # listener, log, control; an app's pipes, litestream's files, connections


def litestream(storage: Storage, environ: Mapping[str, str]) -> list[Finding]:
    if storage.mode != "litestream":
        return []
    try:
        found = client.find(storage.litestream, environ)
        return [Finding("good", "litestream", f"{found}, version {client.check(found)}")]
    except client.LitestreamMissing as error:
        return [Finding("fault", "litestream", str(error), "what it says; no tenant can start until then")]


def disk(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Check ``server.data``: free space, sync time, and whether it outlives the machine."""
    data = Path(config.server.data)
    try:
        durable_files.make_folder(data)
        space, sync = shutil.disk_usage(data), _sync_seconds(data)
        return [_space(data, space.free, space.total), _sync(data, sync), *_place(config, data, environ)]
    except OSError as error:
        return [
            Finding("fault", "disk", f"{data} cannot be used: {error.strerror}", "correct server.data, or its rights")
        ]


def _space(data: Path, free: int, total: int) -> Finding:
    text = f"{free / GB:.1f} of {total / GB:.1f} GB are free at {data}"
    if free < LITTLE_SPACE or free < total * LITTLE_SHARE:
        return Finding("doubt", "disk", text, "make room: a restore and a save need as much as the database once more")
    return Finding("good", "disk", text)


def _sync_seconds(data: Path) -> float:
    """Median seconds of a small write and fsync."""
    taken = []
    with tempfile.TemporaryFile(dir=data) as file:
        for _ in range(ROUNDS):
            began = monotonic()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(monotonic() - began)
    return statistics.median(taken)


def _sync(data: Path, seconds: float) -> Finding:
    text = f"a small write reaches the disk in {seconds * 1000:.1f} ms"
    if seconds < SLOW_SYNC:
        return Finding("good", "fsync", text)
    return Finding("doubt", "fsync", text, "take a faster disk: an app waits so long at every commit")


def _place(config: Config, data: Path, environ: Mapping[str, str]) -> list[Finding]:
    found = []
    if "FLY_MACHINE_ID" in environ and data.stat().st_dev == Path("/").stat().st_dev:
        advice = "mount a volume there: what a crash leaves behind is saved by the next start, if it still exists"
        found.append(Finding("doubt", "volume", f"{data} is not on a volume: Fly discards it with the machine", advice))
    url = config.storage.url
    if config.storage.mode != "none" and not url.startswith(SCHEME):
        store = Path(url.removeprefix("file:"))
        if store.is_dir() and store.stat().st_dev == data.stat().st_dev:
            text = f"the store, {store}, is on the same disk as the databases"
            found.append(Finding("doubt", "store", text, "set storage.url to a bucket, or to a folder of another disk"))
    return found


def kill_timeout(config: Config) -> list[Finding]:
    """Compare kill_timeout of fly.toml (beside tenants.yaml, or in the working directory) with our own limit."""
    ours = config.server.shutdown_timeout
    for folder in (config.path.parent, Path.cwd()):
        try:
            with (folder / "fly.toml").open("rb") as file:
                text = tomllib.load(file).get("kill_timeout", FLY_DEFAULT)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            return [Finding("doubt", "kill timeout", f"{folder / 'fly.toml'} cannot be read: {error}", "put it right")]
        return [_kill_timeout(folder / "fly.toml", _seconds(text), ours)]
    return []


def _kill_timeout(file: Path, theirs: float | None, ours: float) -> Finding:
    if theirs is None:
        return Finding("doubt", "kill timeout", f"that of {file} is no duration", "write seconds: kill_timeout = 30")
    both = f"{theirs:g} s in {file}, server.shutdown_timeout is {ours:g} s"
    if theirs <= ours:
        advice = f"set kill_timeout = {ours + 5:g} in fly.toml (Fly allows 300), or a shorter server.shutdown_timeout"
        return Finding("fault", "kill timeout", f"{both}: Fly would kill us while databases are saved", advice)
    return Finding("good", "kill timeout", both)


def _seconds(text: object) -> float | None:
    """Parse as Fly does: a number of seconds, or a text such as ``30s`` or ``1m30s``; else None."""
    if isinstance(text, int | float):
        return float(text)
    if not isinstance(text, str) or re.fullmatch(r"([0-9]+(ms|h|m|s))+", text) is None:
        return None
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    return sum(int(count) * scale[unit] for count, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text))


def sleep(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Check machine_idle; see https://fly.io/docs/reference/suspend-resume/"""
    then, memory = config.machine_idle.then, environ.get("FLY_VM_MEMORY_MB", "")
    if then not in ("stop", "suspend"):
        return []
    if (why := local_api.reason(config, environ)) is not None:
        return [Finding("doubt", "sleep", why, "nothing, if that is meant: the machine stays awake")]
    if then == "suspend" and memory.isdecimal() and int(memory) > SUSPENDED_MB:
        text = f"this machine has {memory} MB, and Fly suspends machines with up to {SUSPENDED_MB}"
        return [Finding("doubt", "sleep", text, "set machine_idle.then to stop, or give it less memory")]
    return [Finding("good", "sleep", f"Fly can be asked to {then} this machine")]


def open_files(config: Config) -> list[Finding]:
    """Check the hard limit: flyatc raises the soft one itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_BESIDES + FILES_PER_APP * config.limits.running
    text = f"{hard} may be open at a time; {config.limits.running} apps and their clients may need {needed}"
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return [Finding("good", "open files", text)]
    return [Finding("doubt", "open files", text, f"raise the hard limit of open files to {needed} ({file_limit.WAYS})")]


async def examine(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Yield findings, each check bounded in time."""
    if (missing := await asyncio.to_thread(_missing_store, config)) is not None:
        yield missing
    else:
        async for finding in examine_store(config.storage, environ):
            yield finding
    checks: list[Callable[[], list[Finding]]] = [
        partial(litestream, config.storage, environ),
        partial(disk, config, environ),
        partial(kill_timeout, config),
        partial(open_files, config),
        lambda: [Finding(*one) for one in doctor_isolation.separation(config, environ)],
        partial(sleep, config, environ),
    ]
    for check in checks:
        for finding in await asyncio.to_thread(check):
            yield finding
    for finding in await examine_fly(config, environ):
        yield finding


WHAT, PATIENCE = "machines api", 3.0  # seconds


async def examine_fly(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    try:
        me = environment.this_machine(environ)
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
        await api.close()
    text = f"it lists {len(found)} machine{'s' * (len(found) != 1)} of {me.app}"
    if any(one.id == me.id for one in found):
        return Finding("good", WHAT, f"{text}, this among them")
    return Finding("doubt", WHAT, f"{text}, and not this one", "look whether the token is of this app and organization")


ROUNDS = 5
SLOW = 1.0  # s for a small request; starts and saves make several in sequence
OFFSET, REFUSED_OFFSET = 5.0, 600.0  # s; S3 refuses requests if the clock is off by 15 minutes


def _missing_store(config: Config) -> Finding | None:
    """Return a fault if tenants have data here, and there is no store: to try it would make a new one."""
    folder = absent(config.storage)
    if folder is None or not any((Path(config.server.data) / "tenants").glob("*")):
        return None
    text = f"there is no store in {folder}, although tenants have data in {config.server.data}"
    return Finding("fault", "store", text, "mount it, or correct storage.url; nothing can be saved until then")


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
        if url.startswith(check_sections.SCHEME):
            yield _consistency(check_sections.bucket_of(url, environ))
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
    if not url.startswith(check_sections.SCHEME):
        return f"{url} can be written"
    place = check_sections.bucket_of(url, environ)
    return f"the bucket {place.name} at {place.place} lets us in"


def _consistency(place: check_sections.Bucket) -> Finding:
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
