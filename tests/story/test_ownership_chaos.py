"""The keepers themselves, three machines and one user, while the store comes and goes for each of them, answers get
lost, clocks jump and daemons are killed. The rules alone are tried much harder in tests/pure."""

import asyncio
import random

import pytest

from fakes.ownership_store import FakeMachine, FakeStore, now
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.ownership.lease import HeldLease

pytestmark = pytest.mark.looptime

SECONDS = 400.0


class Troubled:
    """A machine to which things happen: one run of the daemon after another."""

    def __init__(self, store: FakeStore, name: str, roll: random.Random) -> None:
        self._store, self._name, self._roll = store, name, roll
        self._rate = 1 + roll.uniform(-0.01, 0.01)
        self.owned: HeldLease | None = None
        self.epochs: list[int] = []
        self._known, self._run = 0, 0
        self._start()

    def _start(self) -> None:
        self._run += 1
        self.owned = None
        self._machine = FakeMachine(self._store, self._name, self._run, rate=self._rate)
        self._trouble(0.05)

    def _trouble(self, share: float) -> None:
        faults = ("lost", "deaf", "late")
        self._machine.link.fault = lambda what, key: self._roll.choice(faults) if self._roll.random() < share else None

    async def live(self) -> None:
        while now() < SECONDS:
            self._suffer()
            if self.owned is None or self.owned.ended.is_set():
                await self._machine.leave()
                await self._take()
            elif self._roll.random() < 0.02:
                await self._machine.leave()
                self.owned = None
            await asyncio.sleep(0.5 + self._roll.random())

    def _suffer(self) -> None:
        roll = self._roll.random()
        if roll < 0.02:
            self._machine.link.away()
        elif roll < 0.06:
            self._trouble(0.05)
        elif roll < 0.07:
            self._machine.skew += self._roll.uniform(-100, 100)
        elif roll < 0.08:
            self._machine.link.away()  # whatever the killed daemon has not said yet it will never say
            self._start()

    async def _take(self) -> None:
        try:
            owned = await self._machine.live(known=self._known)
        except FlyatcError:
            return
        self.owned, self._known = owned, owned.epoch
        self.epochs.append(owned.epoch)


@pytest.mark.parametrize("seed", range(2))
async def test_never_do_two_machines_own_the_same_user(seed: int) -> None:
    roll, store = random.Random(seed), FakeStore()
    machines = [Troubled(store, f"m{number}", roll) for number in range(3)]
    lives = [tasks.start(machine.live(), "live") for machine in machines]
    while now() < SECONDS:
        assert sum(machine.owned is not None and machine.owned.valid() for machine in machines) <= 1
        await asyncio.sleep(0.25)
    await asyncio.gather(*lives)
    assert sum(len(machine.epochs) for machine in machines) > 5
    assert sum(len(machine.epochs) > 0 for machine in machines) > 1
    assert all(machine.epochs == sorted(machine.epochs) for machine in machines)
