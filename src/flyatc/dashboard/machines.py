"""All machines of the app, from any of them: their own answers over the private network, the Machines API, and the
records in the store."""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import time

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import structs
from yarl import URL

from flyatc.admin import machines_view, store_access
from flyatc.admin.machines_view import Known, MachineView, Session
from flyatc.config.schema import Config
from flyatc.control.types import MachineStatus
from flyatc.fly import api_types, dns_answers, environment
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import ApiError
from flyatc.fly.dns_client import Dns
from flyatc.kit import tasks
from flyatc.kit.async_cache import AsyncCache
from flyatc.kit.errors import FlyatcError
from flyatc.objects.store import ObjectStore
from flyatc.ownership import acquire, record
from flyatc.ownership.rules import Rules, Terms
from flyatc.routing import request_signature
from flyatc.routing.replay import Target
from flyatc.routing.request_signature import ForwardedRequest, RequestSigner

PEER_SECONDS = 2.0  # for one machine, connecting included
API_SECONDS, DNS_SECONDS, STORE_SECONDS = 2.0, 2.0, 3.0
TOTAL = 4.5  # s; for all of it
AT_ONCE = 16  # machines asked at the same time
STORE_AT_ONCE = 8
MOST_ASKED, MOST_OWNERS = 100, 200  # machines; users
LARGEST = 1 << 20  # bytes of an answer
LEAST, A_MACHINE = 3.0, 0.1  # s for which all of it is kept: at least, and for each machine
RECORDS_LEAST, A_READ = 10.0, 0.2  # s for which records of the store are kept: at least, and for each read
REFUSED = "it refuses our signature: FLYATC_SECRET, the time and flyatc must be the same on all machines"


@dataclass(frozen=True)
class Peers:
    """Access to the other machines on Fly. ``port``: of their private listeners; ``api``: None without a token."""

    me: environment.Machine
    signer: RequestSigner
    port: int
    dns: Dns
    api: MachinesApi | None
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """``dirty``: records of users whose machine could not save everything; ``notes``: sentences on what is missing."""

    machines: list[MachineView]
    dirty: list[store_access.Owner] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Machines:
    """Looks at all machines, at most once in some seconds. ``own``: the status of this one; ``store``: None where there
    is none; ``peers``: None outside Fly, or why the others cannot be asked."""

    def __init__(
        self,
        config: Callable[[], Config],
        own: Callable[[], MachineStatus],
        store: ObjectStore | None,
        environ: Mapping[str, str],
        peers: Peers | str | None,
    ) -> None:
        self._config, self._own, self._store, self._environ, self._peers = config, own, store, environ, peers
        self._kept: AsyncCache[str, Found] = AsyncCache(
            lambda _: self._look(), lambda found: max(LEAST, A_MACHINE * len(found.machines)), 1
        )
        self._records: AsyncCache[str, _Records] = AsyncCache(self._by_store, lambda found: found.good_for, 1)

    async def look(self) -> Found:
        """The machines now; this one's part is always new. Raises nothing."""
        found = await self._kept.get("")
        before, *others = found.machines
        (own,) = machines_view.views(Known(self._own()))
        return dataclasses.replace(found, machines=[structs.replace(own, name=before.name), *others])

    async def _look(self) -> Found:
        own, notes = self._own(), list[str]()
        looked = _Looked()
        try:
            async with asyncio.timeout(TOTAL):
                await tasks.every((self._by_network(looked, notes), self._read(looked)), "the machines")
        except TimeoutError:
            notes.append(f"What was not known within {TOTAL:g} s is missing.")
        key, records = self._config().fly.metadata, looked.records
        network = isinstance(self._peers, Peers)
        known = Known(own, looked.answers, looked.listed, key, records.sessions, records.owners, network)
        dirty = [one for one in records.owners if one.state == "dirty" and one.machine != own.machine]
        return Found(machines_view.views(known), dirty, [*notes, *records.notes])

    async def _read(self, looked: "_Looked") -> None:
        looked.records = await self._records.get("")

    # --- the Machines API, and the machines themselves ---

    async def _by_network(self, looked: "_Looked", notes: list[str]) -> None:
        if not isinstance(peers := self._peers, Peers):
            if peers is not None:
                notes.append(f"Other machines are not asked: {peers}.")
            return
        addresses = dict[str, str]()
        if peers.api is not None:
            try:
                looked.listed = await _listed(peers.api, peers.me.id)
                addresses = {one.id: one.private_ip for one in looked.listed if one.state == machines_view.STARTED}
            except ApiError as error:
                notes.append(f"The states of the machines are not known: {error}.")
        if looked.listed is None:
            addresses = await _by_dns(peers, notes)
        asked = sorted(one for one in addresses if one != peers.me.id)
        if len(asked) > MOST_ASKED:
            notes.append(f"Of {len(asked)} running machines {MOST_ASKED} were asked.")
        await self._ask(peers, {one: addresses[one] for one in asked[:MOST_ASKED]}, looked)

    async def _ask(self, peers: Peers, addresses: Mapping[str, str], looked: "_Looked") -> None:
        """Ask all of them for their status. Those that are too late are noted as such at once."""
        looked.answers.update(dict.fromkeys(addresses, f"it has not answered within {TOTAL:g} s"))
        turns = asyncio.Semaphore(AT_ONCE)
        async with ClientSession(timeout=ClientTimeout(total=PEER_SECONDS), auto_decompress=False) as session:

            async def one(machine: str, address: str) -> None:
                async with turns:
                    looked.answers[machine] = await _status(session, peers, machine, address)

            await tasks.every((one(*pair) for pair in addresses.items()), "status of a machine")

    # --- the store ---

    async def _by_store(self, _: str) -> "_Records":
        """The records, as far as the store gives them. Raises nothing."""
        found, store, config = _Records(), self._store, self._config()
        if store is None:
            return found
        held = set(self._own().users)
        users = sorted({*config.users, *(one.user for one in config.tenants.values())} - held)
        if len(users) > MOST_OWNERS:
            found.notes.append(f"Of {len(users)} users the machines of {MOST_OWNERS} were looked up in the store.")
        try:
            async with asyncio.timeout(STORE_SECONDS):
                found.sessions = await _sessions(store, config)
                found.owners = await store_access.read_owners(config, self._environ, store, users[:MOST_OWNERS])
        except TimeoutError:
            found.notes.append(f"The records in the store are missing: no answer within {STORE_SECONDS:g} s.")
        except (FlyatcError, OSError) as error:
            found.notes.append(f"The records in the store are missing: {error}.")
        return found


@dataclass
class _Records:
    """Records of the store."""

    sessions: dict[str, Session] = field(default_factory=dict)
    owners: list[store_access.Owner] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good_for(self) -> float:
        """Seconds for which to use them: each read of the store costs."""
        return max(RECORDS_LEAST, A_READ * (len(self.sessions) + 2 * len(self.owners)))


@dataclass
class _Looked:
    """The results so far."""

    answers: dict[str, MachineStatus | str] = field(default_factory=dict)
    listed: list[api_types.Machine] | None = None
    records: _Records = field(default_factory=_Records)


async def _listed(api: MachinesApi, me: str) -> list[api_types.Machine]:
    """The machines by the Machines API. Raises ApiError, also for a list without this one: it is not complete."""
    found = [one for one in await api.machines(patience=API_SECONDS) if one.state not in api_types.GONE]
    if all(one.id != me for one in found):
        raise ApiError(f"the Machines API lists {len(found)} machines, and not this one")
    return found


async def _by_dns(peers: Peers, notes: list[str]) -> dict[str, str]:
    """Addresses of the started machines, by id."""
    try:
        async with asyncio.timeout(DNS_SECONDS):
            found = dns_answers.instances(await peers.dns.texts("_instances.internal"), peers.me.app)
    except (FlyatcError, TimeoutError) as error:
        notes.append(f"The other machines are not known: {str(error) or 'the DNS has not answered'}.")
        return {}
    return {machine: str(address) for address, machine in found.items()}


async def _status(session: ClientSession, peers: Peers, machine: str, address: str) -> MachineStatus | str:
    """The status of a machine by itself; or why it gives none."""
    try:
        where = environment.reachable_address(address, peers.port, peers.environ)
        host = f"[{where.host}]" if ":" in str(where.host) else where.host
        url = URL(f"http://{host}:{where.port}{request_signature.STATUS_PATH.decode()}", encoded=True)
        what, now = ForwardedRequest(request_signature.NO_USER, 1, ""), time()
        target = Target(peers.me.app, id=machine)
        signature = peers.signer.sign(target, b"GET", request_signature.STATUS_PATH, what, now, secrets.token_bytes(16))
        headers = {request_signature.HEADER.decode(): signature.decode()}
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status == 403:
                return REFUSED
            if response.status != 200:
                return f"its answer is {response.status}"
            body = await response.content.read(LARGEST + 1)
            while len(body) <= LARGEST and (more := await response.content.read(LARGEST + 1 - len(body))):
                body += more
    except (ClientError, TimeoutError, OSError, FlyatcError) as error:
        return str(error) or f"it has not answered within {PEER_SECONDS:g} s"
    return _decoded(body, machine)


def _decoded(body: bytes, machine: str) -> MachineStatus | str:
    if len(body) > LARGEST:
        return f"its answer is larger than {LARGEST >> 20} MB"
    try:
        found = msgspec.json.decode(body, type=MachineStatus)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "its answer cannot be read: is its flyatc of another version?"
    return found if found.machine == machine else "another machine has answered at its address"


async def _sessions(store: ObjectStore, config: Config) -> dict[str, Session]:
    """The machines with a heartbeat in the store. Raises StoreUnavailable, OwnershipUnknown."""
    rules, turns = Rules(Terms.of(config.storage.session_ttl)), asyncio.Semaphore(STORE_AT_ONCE)
    newest = sorted(await store.list("machines/"), key=lambda one: -one.modified)[:MOST_ASKED]

    async def one(key: str) -> tuple[str, Session] | None:
        async with turns:
            found = await acquire.read(store, key, record.Session)
        if found is None:
            return None
        session, age = found[0], found[1].age
        ended = session.broken == session.machine
        return session.machine, Session(region=session.region, sign=age, dead=rules.dead(session, age), ended=ended)

    read = await tasks.every((one(stored.key) for stored in newest), "session of a machine")
    return dict(pair for pair in read if pair is not None)
