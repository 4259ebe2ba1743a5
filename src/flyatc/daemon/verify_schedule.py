"""``storage.verify``: restore tests of the databases in the store, one at a time and rarely, to keep the load small.

With an interval: each database in the store. Without one: the databases of tenants which have run here for EVERY;
shorter runs are verified when they end. Results are kept on disk, so that a machine which often stops does not start
over each time. A damaged copy is an error; if its tenant runs, the store gets a new copy of the local file at once.
Nothing is removed from the store."""

import asyncio
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Protocol

import msgspec
from msgspec import Struct, structs

from flyatc.admin import store_access
from flyatc.config.schema import Config
from flyatc.config.schema_sections import segment_of
from flyatc.control import types
from flyatc.databases.decisions.inventory import StoredDatabase
from flyatc.databases.verify import Verdict, Verifier
from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError, SaveFailed
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log, stamp
from flyatc.process.child_records import Records

SHARE = 0.1  # of the time spent verifying, on average
PAUSE = 1.0  # s; between two databases, at least
FIRST = 30.0  # s; after the start of the daemon
LOOKS = 24  # checks per period
EVERY = 86400.0  # s; without storage.verify. Each database is read once a day: 4 GB of databases are 50 KB a second
EARLIEST = 0.5  # of the period, before the first tests; they are spread over the rest of it

LOST = "the store has nothing of it any more: did an operator, or a rule of the bucket, remove it?"

_LEVELS = {"ok": "info", "damaged": "error", "unknown": "warning"}
_MESSAGES = {
    "ok": "verified",
    "damaged": "what the store has cannot be restored",
    "unknown": "not verified: the test could not be made",
}


class VerifyResult(Struct, frozen=True, kw_only=True):
    """Result of one test. ``at``: Unix time. No verdicts: nothing was saved yet."""

    tenant: str
    database: str
    at: float
    verdicts: list[Verdict]
    healed: bool = False  # it was damaged, and the store has a new copy since

    @property
    def state(self) -> str:
        """The worst state of all verdicts."""
        return max((one.state for one in self.verdicts), key=["ok", "unknown", "damaged"].index, default="ok")


class _File(Struct, frozen=True):
    databases: list[VerifyResult]
    v: int = 1


def due(known: Mapping[tuple[str, str], VerifyResult], every: float, now: float) -> list[tuple[str, str]]:
    """Known databases which are due again. An untested one is due at each check."""
    return [name for name, one in known.items() if one.state == "unknown" or not now - every < one.at <= now]


def due_of_running(
    known: Mapping[tuple[str, str], VerifyResult],
    there: Iterable[tuple[str, str]],
    since: float,
    every: float,
    now: float,
) -> list[tuple[str, str]]:
    """Databases due of a tenant which runs since ``since`` (Unix time). First tests are spread by name."""
    found = []
    for name in there:
        one = known.get(name)
        if one is not None and one.at > since:
            if one.state == "unknown" or not now - every < one.at <= now:
                found.append(name)
        elif now - since > every * (EARLIEST + (1 - EARLIEST) * _spread(name)):
            found.append(name)
    return found


def _spread(name: tuple[str, str]) -> float:
    """Hash of the name, from 0 to 1."""
    return zlib.crc32("\0".join(name).encode()) / 2**32


class Running(Protocol):
    """The tenants which run here. DatabaseService implements it."""

    def running(self) -> dict[str, float]:
        """Start times (Unix time) by address."""

    def expected(self, address: str) -> dict[str, str]:
        """Copies which the store must have: stream or snapshot, by database."""

    async def compare(self, address: str, database: str, version: str, raw: Path) -> str | None:
        """See databases.verify.Compare."""

    async def heal(self, address: str, database: str, kind: str, reason: str) -> bool:
        """Replace the store's copy by one of the local file. False: not possible here. Raises SaveFailed."""


class VerifySchedule:
    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        store: ObjectStore,
        records: Records,
        log: Log,
        here: Running | None = None,
    ) -> None:
        self._config, self._environ, self._store = config, environ, store
        self._records, self._log, self._here = records, log, here
        self.damaged = self.healed = 0  # copies since the start
        self._path = Path(config.server.data) / ".flyatc" / "verified.json"
        self._known: dict[tuple[str, str], VerifyResult] = {}

    def summary(self) -> types.Verified:
        """Results for ``flyatc status``."""
        tried = [one for one in self._known.values() if one.verdicts]
        bad = [
            types.Bad(
                tenant=one.tenant,
                database=one.database,
                state=verdict.state,
                version=verdict.version,
                why=verdict.why,
                at=stamp(one.at),
            )
            for one in tried
            for verdict in one.verdicts
            if verdict.state != "ok"
        ]
        times = [one.at for one in tried]
        return types.Verified(
            databases=len(times),
            bad=bad,
            damaged=self.damaged,
            healed=self.healed,
            first=stamp(min(times)) if times else None,
            last=stamp(max(times)) if times else None,
        )

    async def run(self) -> None:
        """Verify databases as they become due. Never returns."""
        configured = self._config.storage.verify
        every = EVERY if configured is None else configured
        self._known = await asyncio.to_thread(self._read)
        await asyncio.sleep(min(FIRST, every / LOOKS))
        while True:
            try:
                await (self._look_at_running(every) if configured is None else self._look(every))
            except (FlyatcError, OSError) as error:
                self._log.event("warning", "the store's databases cannot be verified now", error=str(error))
            await asyncio.sleep(max(PAUSE, every / LOOKS))

    async def _look(self, every: float) -> None:
        found = (await store_access.take_inventory(self._store, None)).databases
        there: dict[tuple[str, str], StoredDatabase] = {}
        for address in self._here.running() if self._here is not None else ():
            there |= self._expected_of(address)
        there |= {self._name(one): one for one in found}
        self._known = {name: one for name, one in self._known.items() if name in there}
        turns = [name for name in there if name not in self._known] + sorted(
            due(self._known, every, time()), key=lambda name: self._known[name].at
        )
        await self._take_turns(turns, there)

    async def _look_at_running(self, every: float) -> None:
        running = self._here.running() if self._here is not None else {}
        self._known = {n: one for n, one in self._known.items() if n[0] in running or one.state == "damaged"}
        turns: list[tuple[str, str]] = []
        there: dict[tuple[str, str], StoredDatabase] = {}
        for address, since in running.items():
            if time() - since > every * EARLIEST:
                found = {
                    self._name(one): one for one in (await store_access.take_inventory(self._store, address)).databases
                }
                there |= self._expected_of(address)
                there |= {name: one for name, one in found.items() if name[0] == address}
                turns += due_of_running(
                    self._known, [name for name in there if name[0] == address], since, every, time()
                )
        await self._take_turns(turns, there)

    async def _take_turns(self, turns: list[tuple[str, str]], there: Mapping[tuple[str, str], StoredDatabase]) -> None:
        if turns:
            async with store_access.open_verifier(
                self._config, self._environ, self._store, self._records, self._log
            ) as verifier:
                if self._here is not None:
                    verifier.compare = self._here.compare
                for name in turns:
                    await self._verify(verifier, there[name])

    async def _verify(self, verifier: Verifier, one: StoredDatabase) -> None:
        began = monotonic()
        tenant = self._config.tenant_kept_as(one.user, one.key)
        verdicts = self._with_lost(await verifier.verify(tenant, one), tenant.address, one.database)
        self._log_verdicts(verdicts)
        healed = False
        for verdict in verdicts:
            if verdict.state == "damaged":
                self.damaged += 1
                healed |= await self._heal(verdict)
        if healed:
            verdicts = await verifier.verify(tenant, one)
            self._log_verdicts(verdicts)
        name = self._name(one)
        self._known[name] = VerifyResult(
            tenant=tenant.address, database=one.database, at=time(), verdicts=verdicts, healed=healed
        )
        await asyncio.to_thread(partial(durable_files.write, self._path, self._written()))
        await asyncio.sleep(max(PAUSE, (monotonic() - began) * (1 / SHARE - 1)))

    def _with_lost(self, verdicts: list[Verdict], address: str, database: str) -> list[Verdict]:
        """Add a verdict if the expected copy is missing from the store."""
        kind = self._here.expected(address).get(database) if self._here is not None else None
        if kind is None or any(verdict.kind == kind for verdict in verdicts):
            return verdicts
        lost = Verdict(tenant=address, database=database, kind=kind, state="damaged", why=LOST)
        return [*verdicts, lost]

    def _log_verdicts(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            fields = structs.asdict(verdict)
            self._log.event(_LEVELS[verdict.state], _MESSAGES[fields.pop("state")], **fields)

    async def _heal(self, verdict: Verdict) -> bool:
        """Replace a damaged copy. True if the store has a new one."""
        labels = {"tenant": verdict.tenant, "database": verdict.database}
        if self._here is None:
            return False
        reason = f"the store's copy ({verdict.version}) cannot be restored: {verdict.why}"
        try:
            healed = await self._here.heal(verdict.tenant, verdict.database, verdict.kind, reason)
        except SaveFailed as error:
            self._log.event("error", "a damaged copy in the store cannot be replaced yet", error=str(error), **labels)
            return False
        if healed:
            self.healed += 1
            self._log.event("warning", "the store has a new copy, made of the local file", **labels)
        return healed

    def _expected_of(self, address: str) -> dict[tuple[str, str], StoredDatabase]:
        """Databases expected in the store, even if it has nothing of them."""
        user, _, name = address.partition("/")
        key, databases = segment_of(name), self._here.expected(address) if self._here is not None else {}
        return {(address, one): StoredDatabase(user, key, one, snapshots=False, lines=False) for one in databases}

    def _name(self, one: StoredDatabase) -> tuple[str, str]:
        return self._config.tenant_kept_as(one.user, one.key).address, one.database

    def _written(self) -> bytes:
        return msgspec.json.encode(_File(list(self._known.values())))

    def _read(self) -> dict[tuple[str, str], VerifyResult]:
        """Read earlier results. Unreadable ones are ignored."""
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, ValueError):
            return {}
        return {(one.tenant, one.database): one for one in file.databases if file.v == 1}
