"""Access to the store for commands and restore tests: inventory, orphans, lease records. No daemon is needed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct

from flyatc.config.schema import Config, Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import orphaned_copies
from flyatc.databases.app_files.verify import SavedFiles
from flyatc.databases.decisions import inventory
from flyatc.databases.decisions.inventory import Inventory, StoredOrphan
from flyatc.databases.litestream.daemon import LitestreamDaemon
from flyatc.databases.litestream.replica_layout import Addresses
from flyatc.databases.litestream.replica_restore import LitestreamContext
from flyatc.databases.verify import Replicas, Scratch, Snapshots, Source, Verifier
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, OwnershipUnknown
from flyatc.objects.open_store import absent, store_of
from flyatc.objects.store import ObjectStore
from flyatc.objects.threaded_store import ThreadedStore
from flyatc.observe.log import Log, stamp
from flyatc.ownership import acquire, identity, record
from flyatc.ownership.record import Session
from flyatc.ownership.record_swap import RecordStore
from flyatc.ownership.rules import Rules, Terms
from flyatc.process import helper_program
from flyatc.process.child_records import Records

PATIENCE = 6.0  # seconds to read one record


@contextlib.asynccontextmanager
async def opened(
    config: Config, environ: Mapping[str, str], *, hurried: float | None = None
) -> AsyncIterator[ThreadedStore]:
    """Open the store for a command, which makes none. Raises FlyatcError if there is none, StoreUnavailable."""
    if (folder := absent(config.storage)) is not None:
        raise FlyatcError(
            f"there is no store in {folder}: is it mounted? See storage.url. flyatc serve makes a new one"
        )
    store = store_of(config.storage, environ, hurried=hurried)
    if store is None:
        raise FlyatcError("storage.mode is none: nothing is in a store")
    with contextlib.closing(store):
        await store.open()
        yield store


async def take_inventory(store: ObjectStore, address: str | None) -> Inventory:
    """Inventory of a tenant, of a user, or (None) of everything in the store. Raises StoreUnavailable."""
    user, _, name = (address or "").partition("/")
    found = inventory.take(await store.list(inventory.folder(user or None)))
    return found.within(user or None, segment_of(name) if name else None)


@contextlib.asynccontextmanager
async def open_verifier(
    config: Config, environ: Mapping[str, str], store: ObjectStore, records: Records, log: Log
) -> AsyncIterator[Verifier]:
    """Set up a restore test with threads of its own, so that no tenant waits for it. ``records``: of the children.
    Raises FlyatcError if no scratch folder can be made."""
    tools, own = Workers(config.storage.keep, log), Path(config.server.data) / ".flyatc"
    try:
        scratch = await tools.quick.run(partial(_scratch, own))
        try:
            yield Verifier(_sources(config, environ, store, records, tools), scratch, tools)
        finally:
            await tools.quick.run(scratch.remove)
    finally:
        tools.close()


def _scratch(own: Path) -> Scratch:
    try:
        return Scratch(own)
    except OSError as error:
        raise FlyatcError(f"no scratch folder can be made below {own}: {error.strerror}. See server.data.") from error


def _sources(
    config: Config, environ: Mapping[str, str], store: ObjectStore, records: Records, tools: Workers
) -> list[Source]:
    """In litestream mode both: a database may have snapshots from before it was streamed."""
    storage, data = config.storage, Path(config.server.data)
    if storage.mode != "litestream":
        return [Snapshots(store, tools), SavedFiles(store, tools)]
    run = partial(helper_program.hold, records=records)
    engine = LitestreamDaemon(data / ".flyatc", storage.litestream, environ, run, tools.log, tools.quick)
    means = LitestreamContext(store, storage, environ, Addresses(storage, environ), engine, run, tools)
    return [Replicas(means), Snapshots(store, tools), SavedFiles(store, tools)]


class Orphan(Struct, frozen=True, kw_only=True):
    """A displaced copy. ``path``: on this machine, or None. ``stored``: bytes in the store; None: it is not there."""

    tenant: str
    database: str
    name: str
    at: str | None  # RFC 3339; None: not known from its name
    path: str | None = None
    size: int | None = None  # bytes on this machine
    stored: int | None = None


async def find_orphans(config: Config, environ: Mapping[str, str], address: str | None) -> list[Orphan]:
    """Orphans of a tenant, of a user, or (None) all; oldest first. Raises StoreUnavailable, OSError."""
    if config.storage.mode == "none":
        return await orphans_in(config, None, address)
    async with opened(config, environ) as store:
        return await orphans_in(config, store, address)


async def orphans_in(config: Config, store: ObjectStore | None, address: str | None) -> list[Orphan]:
    """As ``find_orphans``, with a store that is open; None: only those on this machine."""
    found = await asyncio.to_thread(partial(_here, config, address))
    there: list[StoredOrphan] = []
    if store is not None:
        there = (await take_inventory(store, address)).orphans
    for kept in there:
        tenant = config.tenant_kept_as(kept.user, kept.key)
        name = (tenant.address, kept.name, kept.database)
        local = found.pop(name, None)
        found[name] = Orphan(
            tenant=tenant.address,
            database=kept.database,
            name=kept.name,
            at=_time(kept.name),
            path=local.path if local is not None else None,
            size=local.size if local is not None else None,
            stored=kept.size,
        )
    return sorted(found.values(), key=lambda one: (one.tenant, one.name, one.database))


def _here(config: Config, address: str | None) -> dict[tuple[str, str, str], Orphan]:
    found = {}
    for folder in sorted(Path(config.server.data).glob("tenants/*/*/.flyatc/orphans")):
        tenant = config.tenant_kept_as(folder.parents[2].name, folder.parents[1].name)
        if address in (None, tenant.user, tenant.address):
            for one in orphaned_copies.folders(folder.parent):
                database = _database(tenant, one.file)
                found[tenant.address, one.name, database] = Orphan(
                    tenant=tenant.address,
                    database=database,
                    name=one.name,
                    at=_time(one.name),
                    path=str(one.path / one.file),
                    size=one.size,
                )
    return found


def _database(tenant: Tenant, file: str) -> str:
    """Database whose file it was; the file's own name if that is unknown or ambiguous."""
    names = [f"{name}/" for name in tenant.app.files] if file.endswith("/") else tenant.app.databases
    like = [name for name in names if Path(name).name == Path(file).name]
    return like[0] if len(like) == 1 else file


def _time(name: str) -> str | None:
    at = orphaned_copies.set_aside_at(name)
    return None if at is None else stamp(at)


AT_ONCE = 8  # requests


class Owner(Struct, frozen=True, kw_only=True):
    """A lease record. ``state``: held, released, dirty, removed; unknown if unreadable. ``to``: the machine it is
    released to. ``sign``: seconds since the machine's last heartbeat; None: it has no session. ``version``: of flyatc
    there. ``note``: an explanation, or empty."""

    user: str
    state: str
    epoch: int = 0
    machine: str = ""
    region: str = ""
    app: str = ""
    to: str = ""
    here: bool = False  # this machine
    sign: float | None = None
    version: str = ""
    note: str = ""


async def read_owners(
    config: Config, environ: Mapping[str, str], store: RecordStore, users: Iterable[str]
) -> list[Owner]:
    """Lease records of those users who have one."""
    me = await asyncio.to_thread(partial(identity.recorded_name, Path(config.server.data), environ))
    rules, turns = Rules(Terms.of(config.storage.session_ttl)), asyncio.Semaphore(AT_ONCE)

    async def one(user: str) -> Owner | None:
        async with turns:
            try:
                return await _look(store, rules, user, me)
            except OwnershipUnknown as error:
                return Owner(user=user, state="unknown", note=str(error))

    found = await tasks.every((one(user) for user in users), "look at an owner")
    return [owner for owner in found if owner is not None]


async def _look(store: RecordStore, rules: Rules, user: str, me: str | None) -> Owner | None:
    found = await acquire.look(store, user)
    if found is None:
        return None
    owner, holder = found[0], found[0].holder
    session = await acquire.read(store, record.session_key(holder.machine), Session)
    sign = session[1].age if session is not None else None
    return Owner(
        user=user,
        state=owner.state.value,
        epoch=owner.epoch,
        machine=holder.machine,
        region=holder.region,
        app=holder.app,
        to=owner.to.machine if owner.to is not None else "",
        here=holder.machine == me,
        sign=sign,
        version=session[0].version if session is not None else "",
        note=_note(user, rules, owner, session[0] if session is not None else None, sign or 0.0),
    )


def _note(user: str, rules: Rules, owner: record.Owner, session: Session | None, sign: float) -> str:
    if owner.state is record.State.REMOVED:
        return f"no machine serves it: flyatc users add {user}, or flyatc release {user} --undo-remove, adds it again"
    if owner.to is not None:
        return f"for {owner.to}, which takes it at the next request"
    if owner.state is record.State.RELEASED:
        return "free: the machine with the next request takes it"
    if owner.state is record.State.DIRTY:
        return f"it could not save all: {owner.why}" if owner.why else "it could not save all"
    if session is None:
        return "its session has vanished from the store"
    dead = rules.dead(session, sign)
    if dead is not None:
        return f"{dead}: the machine with the next request takes it"
    return "" if session.boot == owner.holder.boot else "held by an earlier run of that machine's daemon"
