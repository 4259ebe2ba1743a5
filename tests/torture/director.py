"""Carries a plan out, on machines which serve meanwhile."""

import time
from collections.abc import Callable, Sequence

from slowness import SLOWNESS
from torture import gathering
from torture.clients import Client
from torture.machines import Machine
from torture.plan import PROCESSES, STORE, Fault, Plan

STEP = 0.05  # s
START = 60.0  # s; nothing is wrong yet


class Director:
    """``done``: what was really done to which machine, for people."""

    def __init__(self, plan: Plan, machines: Sequence[Machine], clients: Sequence[Client]) -> None:
        self.done: list[str] = []
        self._plan, self._machines, self._clients = plan, machines, clients
        self._busy: dict[tuple[str, bool], tuple[float, Fault, float]] = {}  # (machine, its line?): until, what, since
        self._began = 0.0
        self._serving = 0

    def run(self) -> None:
        """From when all machines are up and every client is served, so that there is a serving machine.
        Raises AssertionError where that does not come."""
        up = self.until(lambda: all(machine.listens for machine in self._machines), START)
        assert up, f"a daemon does not start: see {self._machines[0].log_file}"
        served = self.until(lambda: all(client.served_by is not None for client in self._clients), START)
        assert served, f"no one is served, though nothing is wrong yet: see {self._machines[0].log_file}"
        self._began = time.monotonic()
        waiting = list(self._plan.faults)
        while (now := self._now()) < self._plan.seconds or self._busy:
            for fault in [fault for fault in waiting if fault.at <= now]:
                waiting.remove(fault)
                self._begin(fault)
            self._go_on(now)
            self.tend()
            time.sleep(STEP)  # noqa: TID251 - the beat of the plan

    def tend(self) -> None:
        for machine in self._machines:
            machine.tend()

    def until(self, check: Callable[[], bool], within: float) -> bool:
        """Return whether it came about. Machines are tended meanwhile."""
        began = time.monotonic()
        while not check():
            if time.monotonic() - began > within * SLOWNESS:
                return False
            self.tend()
            time.sleep(STEP)  # noqa: TID251 - polling for a fact
        return True

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _begin(self, fault: Fault) -> None:
        track = fault.kind in STORE
        machine = self._choose(fault, track)
        if machine is None:
            return self.done.append(f"{fault}: left out, there is enough going on")
        since = time.monotonic()
        self.done.append(f"{fault}: {machine.name} at {since:.3f}")
        machine.begin(fault)
        if fault.kind in PROCESSES or track:
            self._busy[machine.name, track] = (self._now() + fault.lasts, fault, since)
        return None

    def _taken(self, since: float) -> bool:
        return any(stolen.at > since for stolen in gathering.stolen(self._machines))

    def _choose(self, fault: Fault, track: bool) -> Machine | None:
        """The one that is meant, or whichever serves or was the last to; another where that one has enough."""
        serving = [client.served_by for client in self._clients if client.served_by is not None]
        self._serving = (serving or [self._serving])[0]
        meant = self._serving if fault.target is None else fault.target
        order = [self._machines[(meant + n) % len(self._machines)] for n in range(len(self._machines))]
        return next((machine for machine in order if (machine.name, track) not in self._busy), None)

    def _go_on(self, now: float) -> None:
        for (name, track), (until, fault, since) in list(self._busy.items()):
            machine = next(machine for machine in self._machines if machine.name == name)
            machine.again(fault)
            if now >= until or (fault.until_taken and self._taken(since)):
                del self._busy[name, track]
                machine.end(fault, since)
