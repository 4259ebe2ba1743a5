"""``storage.verify``: each database of the store is drilled now and then, one at a time, so that the load stays small.

What was found is on the disk, so that a machine which often stops does not begin anew each time."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import monotonic, time

import msgspec
from msgspec import Struct, structs

from flyatc.config.schema import Config
from flyatc.control import answers
from flyatc.daemon import drills
from flyatc.databases.drill import Drill, Verdict
from flyatc.databases.inventory import Stocked
from flyatc.kit import durable
from flyatc.kit.errors import FlyatcError
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log, stamp
from flyatc.process.records import Records

SHARE = 0.1  # of the time it may be at work, on average
PAUSE = 1.0  # s; between two databases, at least
FIRST = 30.0  # s; after the start, which has other things to do
LOOKS = 24  # how often within a period it is looked whether one is due

_LEVELS = {"ok": "info", "damaged": "error", "unknown": "warning"}
_WORDS = {
    "ok": "verified",
    "damaged": "what the store has cannot be restored",
    "unknown": "not verified: it could not be tried",
}


class Drilled(Struct, frozen=True, kw_only=True):
    """``at``: Unix time. No verdicts: nothing was saved of it yet."""

    tenant: str
    database: str
    at: float
    verdicts: list[Verdict]

    @property
    def state(self) -> str:
        """The worst."""
        return max((one.state for one in self.verdicts), key=["ok", "unknown", "damaged"].index, default="ok")


class _File(Struct, frozen=True):
    databases: list[Drilled]
    v: int = 1


def due(known: Mapping[tuple[str, str], Drilled], every: float, now: float) -> list[tuple[str, str]]:
    """Of those which are known: whose turn it is again. What could not be tried is tried again at each look."""
    return [name for name, one in known.items() if one.state == "unknown" or not now - every < one.at <= now]


class Verifying:
    def __init__(
        self, config: Config, environ: Mapping[str, str], store: ObjectStore, records: Records, log: Log
    ) -> None:
        self._config, self._environ, self._store = config, environ, store
        self._records, self._log = records, log
        self._path = Path(config.server.data) / ".flyatc" / "verified.json"
        self._known: dict[tuple[str, str], Drilled] = {}

    def told(self) -> answers.Verified:
        tried = [one for one in self._known.values() if one.verdicts]
        bad = [
            answers.Bad(
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
        return answers.Verified(
            databases=len(times),
            bad=bad,
            first=stamp(min(times)) if times else None,
            last=stamp(max(times)) if times else None,
        )

    async def run(self) -> None:
        """Never returns."""
        every = self._config.storage.verify
        self._known = await asyncio.to_thread(self._read)
        await asyncio.sleep(min(FIRST, every / LOOKS))
        while True:
            try:
                await self._look(every)
            except (FlyatcError, OSError) as error:
                self._log.event("warning", "the store's databases cannot be verified now", error=str(error))
            await asyncio.sleep(max(PAUSE, every / LOOKS))

    async def _look(self, every: float) -> None:
        found = (await drills.stock(self._store, None)).databases
        there = {self._name(one): one for one in found}
        self._known = {name: one for name, one in self._known.items() if name in there}
        turns = [name for name in there if name not in self._known] + sorted(
            due(self._known, every, time()), key=lambda name: self._known[name].at
        )
        if turns:
            async with drills.ready(self._config, self._environ, self._store, self._records, self._log) as drill:
                for name in turns:
                    await self._verify(drill, there[name])

    async def _verify(self, drill: Drill, one: Stocked) -> None:
        began = monotonic()
        tenant = self._config.tenant_kept_as(one.user, one.key)
        verdicts = await drill.verify(tenant, one)
        for verdict in verdicts:
            told = structs.asdict(verdict)
            self._log.event(_LEVELS[verdict.state], _WORDS[told.pop("state")], **told)
        name = self._name(one)
        self._known[name] = Drilled(tenant=tenant.address, database=one.database, at=time(), verdicts=verdicts)
        await asyncio.to_thread(partial(durable.write, self._path, self._written()))
        await asyncio.sleep(max(PAUSE, (monotonic() - began) * (1 / SHARE - 1)))

    def _name(self, one: Stocked) -> tuple[str, str]:
        return self._config.tenant_kept_as(one.user, one.key).address, one.database

    def _written(self) -> bytes:
        return msgspec.json.encode(_File(list(self._known.values())))

    def _read(self) -> dict[tuple[str, str], Drilled]:
        """What cannot be understood is verified anew."""
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, ValueError):
            return {}
        return {(one.tenant, one.database): one for one in file.databases if file.v == 1}
