"""Everything at once, in random order: the invariants hold."""

import asyncio
import random

import pytest

from fakes.stage import Stage, changed, make_config, restore_refused, save_failed, start_failed
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed
from flyatc.tenants.errors import Failed, NoSuchTenant, Removed, Unavailable
from flyatc.tenants.tenant import Tenant

pytestmark = pytest.mark.looptime

NAMES = ["a", "b", "c", "d", "e", "f"]
STEPS = ["restore", "spawn", "ready", "end", "save"]
MOMENTS = [0.0, 0.001, 0.0099999, 0.01, 0.02, 0.05, 0.3]


class Storm:
    """``faults``: whether tools and apps fail; without them no visitor may ever be refused."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        self.chance = random.Random(seed)
        self.faults = faults
        self.config = make_config(*NAMES, running=3, idle=0.02, drain_timeout=0.05, pattern="[0-9]")
        self.stage = Stage(self.config)
        self.stage.takes = {step: self.chance.choice([0.0, 0.003, 0.01]) for step in STEPS}
        self.served = 0

    async def visitor(self) -> None:
        name = self.chance.choice([*NAMES, "1", "2"])
        tenant = self.stage.fleet.find(name, "")
        if tenant is None:
            return
        visit = tasks.start(self.stay(tenant), "visitor")
        if self.chance.random() < 0.2:
            await asyncio.sleep(self.chance.choice(MOMENTS))
            visit.cancel()
        await asyncio.gather(visit, return_exceptions=True)
        if visit.cancelled() or visit.exception() is None:
            self.served += 1
        else:
            assert isinstance(visit.exception(), Unavailable if self.faults else Removed)

    async def stay(self, tenant: Tenant) -> None:
        visit = tenant.visit() or await tenant.serving()
        try:
            await asyncio.sleep(self.chance.choice(MOMENTS))
        finally:
            visit.end()

    async def operator(self) -> None:
        fleet, name = self.stage.fleet, self.chance.choice(NAMES)
        try:
            match self.chance.randrange(7):
                case 0:
                    await fleet.stop(name)
                case 1:
                    await fleet.restart(name)
                case 2:
                    async with fleet.paused(name):
                        assert self.stage.alive[name] == 0
                        await asyncio.sleep(self.chance.choice(MOMENTS))
                        assert self.stage.alive[name] == 0
                case 3:
                    await fleet.recover([name])
                case 4:
                    fleet.apply(changed(self.config, name, env={"N": str(self.chance.random())}))
                case 5:
                    fleet.apply(make_config(*(n for n in NAMES if n != name), running=3, idle=0.02, pattern="[0-9]"))
                case _:
                    fleet.apply(self.config)
        except (Removed, NoSuchTenant):
            pass
        except (Unavailable, SaveFailed):
            assert self.faults

    def break_something(self) -> None:
        for child in self.stage.children[-3:]:
            if self.chance.random() < 0.2:
                child.die()
        faults = {"restore": restore_refused(), "ready": start_failed(), "save": save_failed()}
        self.stage.faults = {step: error for step, error in faults.items() if self.chance.random() < 0.1}

    async def rage(self, steps: int) -> None:
        going: list[asyncio.Task[None]] = []
        sweep = tasks.start(self.stage.fleet.sweep(), "sweep")
        for _ in range(steps):
            going.append(tasks.start(self.visitor(), "visitor"))
            if self.chance.random() < 0.1:
                going.append(tasks.start(self.operator(), "operator"))
            if self.faults and self.chance.random() < 0.1:
                self.break_something()
            await asyncio.sleep(self.chance.choice([0.001, 0.002, 0.01]))
            assert self.stage.running <= 3
        self.stage.faults = {}
        await asyncio.gather(*going)
        sweep.cancel()


@pytest.mark.parametrize("seed", range(6))
async def test_without_faults_no_client_is_ever_refused(seed: int) -> None:
    storm = Storm(seed, faults=False)
    await storm.rage(600)
    assert storm.served > 400
    assert storm.stage.most_running == 3
    assert sum(one.requests for one in storm.stage.fleet.status()) == 0
    assert await storm.stage.fleet.close(25)
    assert storm.stage.fleet.quiet_for() >= 0


@pytest.mark.parametrize("seed", range(6))
async def test_with_faults_of_every_kind_all_is_given_back_and_saved_in_the_end(seed: int) -> None:
    storm = Storm(seed, faults=True)
    await storm.rage(600)
    assert storm.served > 50
    await asyncio.sleep(100)
    assert not any(one.unsaved for one in storm.stage.fleet.status())
    storm.stage.fleet.apply(storm.config)
    for name in NAMES:
        try:
            await storm.stage.visit(name)
        except Failed as error:
            pytest.fail(f"{name} did not recover: {error}")
    assert await storm.stage.fleet.close(25)
    assert +storm.stage.alive == {}
