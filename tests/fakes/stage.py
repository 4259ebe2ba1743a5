"""Fake tools for a fleet, typed against tenants/interfaces.py: they record what is taken and given back, in order."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from fakes.owners import FakeLease, previous
from flyatc.config import schema, schema_sections
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed, StartFailed
from flyatc.kit.streams import Streams
from flyatc.kit.types import Effort, Exit, Progress, Work
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.interfaces import Tools, Watched
from flyatc.tenants.state import Status
from flyatc.tenants.tenant import Tenant

UP = ["+owner", "+db", "+app", "+gateway"]
DOWN = ["-gateway", "-app", "-db", "saved", "-owner"]
SAVES = ["+owner", "+db", "-db", "saved", "-owner"]
EPOCH = 1_800_000_000.0  # what the wall clock says when a story begins


def make_config(
    *addresses: str, running: int = 100, starting: int | None = 1000, pattern: str | None = None, **app: Any
) -> schema.Config:
    server, common = schema.Server(data="/data"), schema.App(command=["app"], **app)
    tenants = {}
    for address in addresses:
        user, _, name = address.partition("/")
        tenants[address] = schema.make_tenant(server, user, name, common)
    return schema.Config(
        path=Path("/tenants.yaml"),
        server=server,
        storage=schema.Storage(),
        limits=schema.Limits(running=running, starting=starting),
        cache=schema_sections.Cache(),
        machine_idle=schema_sections.MachineIdle(),
        log=schema.Logging(),
        pages={},
        tenants=tenants,
        pattern=schema.Pattern(match=pattern, app=common, tenants=(("", common),)) if pattern else None,
    )


def changed(config: schema.Config, address: str, **app: Any) -> schema.Config:
    """The same, with another app for one tenant."""
    spec = config.tenants[address]
    other = msgspec.structs.replace(spec, app=msgspec.structs.replace(spec.app, **app))
    return msgspec.structs.replace(config, tenants=config.tenants | {address: other})


class FakeChild:
    def __init__(self, stage: "Stage", tenant: str, number: int) -> None:
        self._stage, self._tenant = stage, tenant
        self.pid = self.port = number
        self.exited = asyncio.Event()
        self.exit: Exit | None = None
        self.stranger: str | None = None
        self.probe: str | None = None
        self.isolation = "none"

    def signal(self, number: int) -> None:
        self.die(128 + number)

    async def effort(self) -> Effort:
        return Effort(0.0, wants=self._tenant not in self._stage.lazy)

    async def work(self, *, oldest: float, youngest: float) -> Work:
        stage = self._stage
        stage.looks.append((self._tenant, asyncio.get_running_loop().time()))
        await stage.step("look", self._tenant)
        return stage.work(self._tenant)

    async def ready(self) -> None:
        stage = self._stage
        stage.starting += 1
        stage.most_starting = max(stage.starting, stage.most_starting)
        try:
            await stage.step("ready", self._tenant)
        finally:
            stage.starting -= 1
        if self.exit is not None:
            raise StartFailed(f"the app ended before it was ready: {self.exit}")

    def die(self, code: int = 1, *output: str) -> None:
        self.exit = self.exit or Exit(code, output=output)
        self.exited.set()


class FakeDatabases:
    unsaved = False
    saved_at: float | None = None
    changed: tuple[str, float] | None = None
    lag, size = 0.0, 8192

    def __init__(self, renewed: dict[str, str]) -> None:
        self.renewed = renewed

    @property
    def alarms(self) -> list[str]:
        return []

    @property
    def gauges(self) -> dict[str, float]:
        return {}

    async def save(self, progress: Progress, only: str | None = None) -> None:
        self.saved_at = EPOCH


class FakeDataWatch:
    def __init__(self, refuse: Callable[[str], None]) -> None:
        self.refuse = refuse
        self.overlooked: list[str] = []
        self.begun: object = None  # the child

    def begin(self, child: object) -> None:
        self.begun = child


class FakeGateway:
    def __init__(self, stage: "Stage", tenant: str) -> None:
        self._stage, self._tenant = stage, tenant

    def drain(self) -> None:
        self._stage.reported(self._tenant, "drain")

    def close(self) -> None:
        self._stage.reported(self._tenant, "-gateway")


class Stage:
    """``takes``: seconds of a step (restore, spawn, ready, end, save), for all or for ``(step, tenant)``.

    ``faults``: the error of a step, likewise; ``at_step`` is called at each, and may cancel or ask to stop."""

    open: ClassVar[list["Stage"]] = []  # those whose story is not over

    def __init__(self, config: schema.Config | None = None) -> None:
        Stage.open.append(self)
        self.story: dict[str, list[str]] = {}
        self.takes: dict[str | tuple[str, str], float] = {"ready": 2.0}
        self.faults: dict[str | tuple[str, str], Exception] = {}
        self.at_step: Callable[[str, str], None] = lambda step, tenant: None
        self.hang: Callable[[], Coroutine[Any, Any, None]] | None = None  # instead of a restore
        self.children: list[FakeChild] = []
        self.commands: list[FakeChild] = []
        self.epoch = 3  # of the next lease
        self.owned = FakeLease(3)  # the last
        self.forgotten: list[str] = []  # tenants whose cached responses were dropped
        self.lazy: set[str] = set()  # tenants whose apps use no CPU while they start
        self.starting = self.most_starting = 0
        self.running = self.most_running = 0
        self.saving = self.most_saving = 0
        self.alive: Counter[str] = Counter()  # databases held, by tenant
        self.events: list[dict[str, Any]] = []
        self.work: Callable[[str], Work] = lambda tenant: Work({}, {})  # what the processes of a tenant do
        self.looks: list[tuple[str, float]] = []  # at work: the tenant and the loop's clock
        self.watches: dict[str, FakeDataWatch] = {}  # of each run
        self.renewed: dict[str, str] = {}  # what the databases tell
        self.config = config or make_config("a", "b")
        self.on_record: set[str] | None = None  # users; None: all
        tools = Tools(
            self._owned, self._restored, self._watched, self._running, self._gateway, self._prepared,
            self._forget_responses, known=self._known, command=self._command,
        )  # fmt: skip
        self.fleet = Fleet(self.config, tools, self, wall=lambda: EPOCH + asyncio.get_running_loop().time())

    async def strike(self) -> None:
        """Ends whatever goes on, without taking time."""
        self.takes, self.faults, self.at_step = {}, {}, lambda step, tenant: None
        self.fleet.hurry()
        assert await self.fleet.close(60), [one for one in self.fleet.status() if one.state != "stopped"]
        assert self.running == self.saving == 0

    # --- what a test asks ---

    def tenant(self, user: str = "a", name: str = "") -> Tenant:
        tenant = self.fleet.find(user, name)
        assert tenant is not None
        return tenant

    def status(self, address: str = "a") -> Status:
        return next(one for one in self.fleet.status() if one.tenant == address)

    async def visit(self, user: str = "a", stay: float = 0.0) -> int:
        """The port; the visitor stays for so long."""
        tenant = self.tenant(user)
        visit = tenant.visit() or await tenant.serving()
        try:
            if stay:
                await asyncio.sleep(stay)
            return visit.port
        finally:
            visit.end()

    def states(self, address: str = "a") -> list[str]:
        return [e["state"] for e in self.events if e.get("tenant") == address and "state" in e]

    # --- what the fleet is given ---

    def event(self, level: str, message: str, /, **fields: Any) -> None:
        self.events.append({"level": level, "msg": message, **fields})
        if "state" in fields:
            self.at_step(f"is {fields['state']}", fields["tenant"])

    def reported(self, tenant: str, what: str) -> None:
        self.story.setdefault(tenant, []).append(what)

    async def step(self, step: str, tenant: str) -> None:
        self.at_step(step, tenant)
        seconds = self.takes.get((step, tenant), self.takes.get(step, 0.0))
        if seconds:
            await asyncio.sleep(seconds)
        error = self.faults.get((step, tenant), self.faults.get(step))
        if error is not None:
            raise error

    async def _known(self, spec: schema.Tenant) -> bool:
        return self.on_record is None or spec.user in self.on_record

    def _forget_responses(self, spec: schema.Tenant) -> None:
        self.forgotten.append(spec.address)

    @contextlib.asynccontextmanager
    async def _owned(self, spec: schema.Tenant) -> AsyncIterator[FakeLease]:
        await self.step("own", spec.address)
        self.reported(spec.address, "+owner")
        before = previous(self.epoch - 1 if await self._known(spec) else 0, clean=True)
        self.owned = FakeLease(self.epoch, before)
        try:
            yield self.owned
        finally:
            release = self._disown(spec)  # as a LeaseManager's, one that takes time is not cut short
            await (tasks.to_the_end(tasks.start(release, "release")) if "disown" in self.takes else release)

    async def _disown(self, spec: schema.Tenant) -> None:
        await self.step("disown", spec.address)
        self.reported(spec.address, "-owner!" if self.owned.ended.is_set() else "-owner")

    @contextlib.asynccontextmanager
    async def _restored(self, spec: schema.Tenant, owned: FakeLease) -> AsyncIterator[FakeDatabases]:
        if self.hang is not None:
            await self.hang()
        await self.step("restore", spec.address)
        self.reported(spec.address, "+db")
        self.alive[spec.address] += 1
        assert self.alive[spec.address] == 1, f"{spec.address} has two lives"
        databases = FakeDatabases(self.renewed)
        try:
            yield databases
        finally:
            self.reported(spec.address, "-db")
            self.alive[spec.address] -= 1
            self.saving += 1
            self.most_saving = max(self.saving, self.most_saving)
            try:
                await self.step("save", spec.address)
                databases.saved_at = EPOCH
                self.reported(spec.address, "saved")
            finally:
                self.saving -= 1

    @contextlib.asynccontextmanager
    async def _running(self, spec: schema.Tenant, hurry: Callable[[], bool]) -> AsyncIterator[FakeChild]:
        await self.step("spawn", spec.address)
        child = FakeChild(self, spec.address, len(self.children) + 1)
        self.children.append(child)
        self.reported(spec.address, "+app")
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            yield child
        finally:
            self.reported(spec.address, "-app!" if hurry() else "-app")
            self.running -= 1
            try:
                if not hurry():
                    await self.step("end", spec.address)
            finally:
                child.die(0)

    @contextlib.asynccontextmanager
    async def _command(
        self, spec: schema.Tenant, hurry: Callable[[], bool], streams: Streams
    ) -> AsyncIterator[FakeChild]:
        """It runs until its number is called: ``commands[n].die()``."""
        child = FakeChild(self, spec.address, 0)
        self.commands.append(child)
        self.reported(spec.address, "+command")
        try:
            yield child
        finally:
            self.reported(spec.address, "-command!" if hurry() else "-command")
            child.die(0)

    @contextlib.asynccontextmanager
    async def _watched(self, spec: schema.Tenant, refuse: Callable[[str], None]) -> AsyncIterator[FakeDataWatch]:
        self.watches[spec.address] = FakeDataWatch(refuse)
        try:
            yield self.watches[spec.address]
        finally:
            del self.watches[spec.address]

    async def _prepared(self, spec: schema.Tenant, hurry: Callable[[], bool], watched: Watched) -> None:
        with watched(FakeChild(self, spec.address, 0).effort):
            self.reported(spec.address, "+prepare")
            try:
                await self.step("prepare", spec.address)
            finally:
                self.reported(spec.address, "-prepare!" if hurry() else "-prepare")

    def _gateway(self, spec: schema.Tenant, child: FakeChild, may_answer: Callable[[], bool]) -> FakeGateway:
        self.at_step("gateway", spec.address)
        self.reported(spec.address, "+gateway")
        return FakeGateway(self, spec.address)


def start_failed() -> StartFailed:
    return StartFailed("the app ended before it was ready: exit code 1")


def save_failed() -> SaveFailed:
    return SaveFailed("the store does not answer")


def restore_refused() -> RestoreRefused:
    return RestoreRefused("the store does not answer; nothing was started")
