"""The use of this machine by its users, for ``flyatc cost``: counts of a period, bytes on disk and in the store, the
machine's size."""

import asyncio
import math
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from flyatc.admin import store_access
from flyatc.config.schema import Config
from flyatc.cost import usage
from flyatc.cost.prices import GB
from flyatc.cost.usage import SHARED, Machine, Usage, Use
from flyatc.daemon.leases import local_tenants
from flyatc.daemon.wiring import Parts
from flyatc.databases.decisions import inventory
from flyatc.fly import environment
from flyatc.fly.api_types import ApiError, Guest
from flyatc.kit import tasks
from flyatc.objects.store import StoreUnavailable
from flyatc.observe.log import stamp

AT_ONCE = 8  # requests to the store
STORE_SECONDS = 40.0  # for the owners of all users, and again for the bytes of all
MOST_OWNERS = 2000  # users whose owners are looked up
API_SECONDS = 3.0
BLOCK = 512  # bytes; stat(2), st_blocks


async def report(parts: Parts, config: Config, days: int) -> Usage:
    """Report the last ``days``. A store that is away is a note in it."""
    known = await parts.usage.days()
    found = usage.period(known, days, max(day.until for day in known))
    me = environment.this_machine(parts.environ)
    users = {one.user for one in await local_tenants(config)} | found.users.keys() - {SHARED, usage.OTHERS}
    listed = {*config.users, *(one.user for one in config.tenants.values())}
    listed = {user for user in listed if config.serves(user)}
    elsewhere, notes = {}, list[str]()
    if me is None:
        users |= listed
    else:
        owners, notes = await _owners(parts, config, sorted(users | listed))
        elsewhere = {one.user: one.machine for one in owners if one.state in ("held", "dirty") and not one.here}
        users |= {one.user for one in owners if one.here}
    mine = sorted(users - elsewhere.keys())
    disk = await asyncio.to_thread(_disk, parts.data, mine)
    stored, more = await _stored(parts, mine)
    counted = sorted({*mine, *found.users} - {SHARED})
    return Usage(
        since=stamp(found.since),
        observed=found.until - found.since,
        up=found.up,
        users={
            user: usage.with_storage(found.users.get(user, Use()), disk.get(user, 0), stored.get(user))
            for user in counted
        },
        shared=found.users.get(SHARED, Use()),
        machine=None if me is None else await _machine(parts, me),
        streams=config.storage.mode == "litestream",
        elsewhere=elsewhere,
        notes=[*notes, *more],
    )


async def _owners(parts: Parts, config: Config, users: list[str]) -> tuple[list[store_access.Owner], list[str]]:
    """Records of the users' owners, and sentences on what is missing."""
    if parts.leases.store is None:
        return [], []
    notes = [] if len(users) <= MOST_OWNERS else [f"Of {len(users)} users the owners of {MOST_OWNERS} were looked up."]
    try:
        async with asyncio.timeout(STORE_SECONDS):
            return await store_access.read_owners(config, parts.environ, parts.leases.store, users[:MOST_OWNERS]), notes
    except (StoreUnavailable, TimeoutError) as error:
        return [], [f"The users of other machines are not known: {_why(error)}."]


async def _stored(parts: Parts, users: list[str]) -> tuple[dict[str, int], list[str]]:
    """Bytes in the store by user, and sentences on what is missing."""
    store, turns = parts.store, asyncio.Semaphore(AT_ONCE)
    if store is None:
        return dict.fromkeys(users, 0), []

    async def one(user: str) -> int:
        async with turns:
            return sum(found.size for found in await store.list(inventory.folder(user)))

    try:
        async with asyncio.timeout(STORE_SECONDS):
            sizes = await tasks.every((one(user) for user in users), "size of a user in the store")
    except (StoreUnavailable, TimeoutError) as error:
        return {}, [f"The bytes in the store are not known, and not in the sum: {_why(error)}."]
    return dict(zip(users, sizes, strict=True)), []


def _why(error: Exception) -> str:
    return str(error) or f"the store has not answered within {STORE_SECONDS:g} s"


def _disk(data: Path, users: Iterable[str]) -> dict[str, int]:
    """Bytes on disk of each user's folder. Blocking."""
    found = dict[str, int]()
    for user in users:
        total = 0
        for folder, _, names in os.walk(data / "tenants" / user):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * BLOCK  # noqa: PTH118 - may be many
                except OSError:  # deleted meanwhile
                    continue
        found[user] = total
    return found


async def _machine(parts: Parts, me: environment.Machine) -> Machine:
    """This machine's size: from the Machines API if it can be asked, else what is seen from within."""
    guest, volume = Guest(), 0
    if parts.api is not None:
        try:
            config = (await parts.api.get(me.id, patience=API_SECONDS)).config
            guest = (config and config.guest) or guest
            volume = sum(one.size_gb for one in (config and config.mounts) or [])
        except ApiError:  # an assumption is said instead
            pass
    assumed = []
    if not guest.cpu_kind:
        assumed.append(
            "The kind of its CPUs is not known without a token for the Machines API (FLY_API_TOKEN): shared is "
            "assumed. --machine says it."
        )
    memory = guest.memory_mb or int(parts.environ.get("FLY_VM_MEMORY_MB") or 0) or _memory_mb()
    seen, rootfs = await asyncio.to_thread(partial(_disks, parts.data))
    return Machine(
        app=me.app,
        id=me.id,
        region=me.region,
        kind=guest.cpu_kind or "shared",
        cpus=guest.cpus or os.cpu_count() or 1,
        memory_mb=memory,
        volume_gb=volume or seen,
        rootfs=rootfs,
        assumed=assumed,
    )


def _memory_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") >> 20


def _disks(data: Path) -> tuple[int, int]:
    """GB of the volume with the data, 0 if it is on the root file system; bytes used of the latter. Blocking."""
    root, ours = os.statvfs("/"), os.statvfs(data)
    volume = 0 if data.stat().st_dev == Path("/").stat().st_dev else math.ceil(ours.f_blocks * ours.f_frsize / GB)
    return volume, (root.f_blocks - root.f_bfree) * root.f_frsize
