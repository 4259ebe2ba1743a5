"""The torture test: three machines, one bucket, one user, and everything that goes wrong.

``python -m torture.run --seed 7 --mode snapshot`` runs one seed; without arguments twenty seeds in each mode. The exit
code is 1 where anything was lost beyond the mode's bound, or two machines served at once. What a failing run has left
stays in a folder, which is reported.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fakes import s3
from fakes.simulator import Platform
from torture import gathering, plan
from torture.clients import Client
from torture.copies import Copies, Copy
from torture.director import Director
from torture.judge import Evidence, Row, Verdict, judge
from torture.machines import DATABASE, TENANTS, USER, Machine
from torture.plan import MACHINES, Plan
from torture.simulated import Simulated, fly, unexplained

MODES = ("snapshot", "litestream")
ALL_MODES = (*MODES, "sim")
SECONDS = 60.0
SEEDS = range(1, 21)
SETTLED = 60.0  # s; after the last fault, until someone serves


@dataclass(frozen=True)
class Outcome:
    plan: Plan
    verdict: Verdict
    done: list[str]
    stolen: int

    def __str__(self) -> str:
        found, aside = self.verdict, sum(self.verdict.aside.values())
        head = f"seed {self.plan.seed}, {self.plan.mode}: {len(self.done)} faults, {found.rows} rows acknowledged"
        losses = f"{aside} set aside, {found.wiped} gone with a wiped disk, {self.stolen} times taken over"
        where = [f"  {rows} rows are only in {place}" for place, rows in found.aside.items()]
        return "\n".join(
            [f"{head}; {losses}: {'FAILED' if found.faults else 'ok'}", *where, *map("  ! {}".format, found.faults)]
        )


def torture(chosen: Plan, root: Path) -> Outcome:
    """``root``: a new folder, in which everything happens."""
    with s3.moto() as server:
        bucket = server.bucket()
        scene = Scene(chosen, root, server, bucket)
        try:
            return scene.play()
        finally:
            scene.clean_up()


class Scene:
    def __init__(self, chosen: Plan, root: Path, server: s3.Server, bucket: str) -> None:
        self._plan, self._root, self._server, self._bucket = chosen, root, server, bucket
        self._platform: Platform | None = None
        self._machines: list[Machine] = []
        if chosen.mode == "sim":
            simulated = [
                Simulated(root, f"m{n}", "sim", server, bucket, chosen.rates[n], chosen.habits) for n in range(MACHINES)
            ]
            self._machines += simulated
            self._platform = fly(root, simulated, named=chosen.platform)
        else:
            self._machines += [self._machine(f"m{n}", chosen.rates[n]) for n in range(MACHINES)]
        proxy = None if self._platform is None else self._platform.simulator.port
        self._clients = [Client(f"{t}-{n}", t, self._machines, proxy) for t in TENANTS for n in (1, 2)]
        self._director = Director(chosen, self._machines, self._clients)
        self._others: list[Machine] = []
        self._faults: list[str] = []
        self._copies = Copies(server, bucket)
        if chosen.mode != "sim":  # whose machines end by their platform
            for machine in self._machines:
                machine.ended = self._copies.note

    def play(self) -> Outcome:
        for client in self._clients:
            client.start()
        self._director.run()
        self._settle("after the last fault")
        for client in self._clients:
            client.stop()
        self._leave_platform()
        for machine in self._machines:
            machine.ended = lambda machine, code: None
        self._each_in_turn()
        evidence = self._gather()
        for copy in self._copies.join():
            evidence.faults += self._judge_copy(copy, evidence)
        verdict = judge(evidence)
        outcome = Outcome(self._plan, verdict, self._director.done, len(evidence.stolen))
        report = [str(outcome), "", *self._director.done]
        (self._root / "report.txt").write_text("\n".join(report) + "\n")
        return outcome

    def _leave_platform(self) -> None:
        if self._platform is None:
            return
        platform, self._platform = self._platform, None
        platform.fail()
        for machine in self._machines:
            assert isinstance(machine, Simulated)
            machine.left()
            self._faults += unexplained(machine)
        platform.close()

    def clean_up(self) -> None:
        for client in self._clients:
            client.stop()
        self._leave_platform()
        for machine in (*self._machines, *self._others):
            machine.clean_up()

    def _machine(self, name: str, rate: float, bucket: str | None = None) -> Machine:
        bucket = bucket or self._bucket
        machine = Machine(self._root, name, self._plan.mode, self._server, bucket, rate, self._plan.habits)
        return machine.as_platform() if self._plan.platform else machine

    def _settle(self, when: str) -> None:
        """All clients are served, and all machines would."""
        counts = [len(client.reported) for client in self._clients]

        def served() -> bool:
            return all(len(client.reported) > count for client, count in zip(self._clients, counts, strict=True))

        if not self._director.until(served, SETTLED):
            self._faults.append(f"no one serves: {when}, for {SETTLED:.0f} s")
        if not self._director.until(lambda: all(machine.listens for machine in self._machines), SETTLED):
            self._faults.append(f"some do not come up: {when}, for {SETTLED:.0f} s")

    def _each_in_turn(self) -> None:
        """Each machine serves alone for a moment: what is on its disk and of no use is set aside by that."""
        self._end([machine for machine in self._machines if machine.process is not None])
        for machine in self._machines:
            self._serve_alone(machine)

    def _serve_alone(self, machine: Machine) -> None:
        machine.wanted = True
        clients = [Client(f"{t}-{machine.name}", t, [machine]) for t in TENANTS]
        for client in clients:
            client.start()
        alone = Director(self._plan, [machine], clients)
        if not alone.until(lambda: all(client.reported for client in clients), SETTLED):
            self._faults.append(f"no one serves: {machine.name} alone, for {SETTLED:.0f} s")
        for client in clients:
            client.stop()
        self._clients += clients
        for code in self._end([machine]):
            if code != 0:
                self._faults.append(f"exit code {code}: of {machine.name}, which has served alone and all was well")

    @staticmethod
    def _end(machines: Sequence[Machine]) -> list[int]:
        """In order; their exit codes."""
        for machine in machines:
            machine.wanted = False
            machine.signal(signal.SIGTERM)
        codes = [machine.wait(60) for machine in machines]
        for machine in machines:
            machine.tend()
        return codes

    def _gather(self) -> Evidence:
        faults, bucket = self._faults, gathering.Bucket(self._server, self._bucket, self._root)
        everybody = (*self._machines, self._last_machine())
        aside = bucket.aside(faults)
        for machine in everybody:
            aside |= gathering.here(machine, faults)
            faults += gathering.strange(machine)
        gathering.listed(everybody, aside, faults)
        faults += [strange for client in self._clients for strange in client.strange]
        commits = gathering.commits(everybody)
        final = self._rows(everybody[-1], faults)
        return Evidence(
            mode=self._plan.mode,
            acknowledged={row for client in self._clients for row in client.reported},
            commits=commits,
            final=final,
            aside=aside,
            published=bucket.published(faults) if self._plan.mode != "litestream" else set(),
            wiped=[wiped for machine in self._machines for wiped in machine.wiped],
            hindered=[hindered for machine in self._machines for hindered in machine.hindered],
            stolen=gathering.stolen(everybody),
            own=gathering.own(commits),
            stopped=[stopped for machine in self._machines for stopped in machine.stopped],
            owners=gathering.owners(everybody),
            faults=faults,
        )

    @staticmethod
    def _rows(machine: Machine, faults: list[str]) -> set[Row]:
        found: set[Row] = set()
        for tenant in TENANTS:
            found |= gathering.rows(machine.data / "tenants" / USER / tenant / DATABASE, tenant, faults)
        return found

    def _judge_copy(self, copy: Copy, evidence: Evidence) -> list[str]:
        """Return what a machine makes of the store as it was then: all that counted as saved is there."""
        machine = self._machine(f"copy{len(self._others)}", 1.0, copy.bucket)
        self._others.append(machine)
        before = len(self._faults)
        self._serve_alone(machine)
        faults = self._faults[before:]
        del self._faults[before:]
        then = evidence.until(copy.at, self._rows(machine, faults), lost=None if copy.clean else copy.machine)
        return [f"{copy}: {fault}" for fault in (*faults, *judge(then).faults)]

    def _last_machine(self) -> Machine:
        """A new one, which has nothing but the store."""
        last = self._machine("last", 1.0)
        self._others.append(last)
        self._serve_alone(last)
        return last


def one(seed: int, mode: str, seconds: float, root: Path) -> int:
    """Runs one seed, tells how it went; the exit code."""
    folder = root / f"seed-{seed}-{mode}"
    folder.mkdir(parents=True)
    began, held = time.monotonic(), False
    try:
        outcome = torture(plan.draw(seed, mode, seconds), folder)
        held = not outcome.verdict.faults
        print(f"{outcome} ({time.monotonic() - began:.0f} s)")
    finally:
        if not held:
            print(f"  its logs: {folder}; again: make torture SEED={seed} MODE={mode}", flush=True)
    if held:
        shutil.rmtree(folder)
    return 0 if held else 1


def several(seeds: Sequence[int], modes: Sequence[str], seconds: float, root: Path, jobs: int) -> int:
    """Each in a process of its own, ``jobs`` at a time; the exit code."""

    def run(seed: int, mode: str) -> int:
        arguments = ["--seed", str(seed), "--mode", mode, "--seconds", str(seconds), "--folder", str(root)]
        return subprocess.run([sys.executable, "-m", "torture.run", *arguments], check=False).returncode

    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(lambda case: run(*case), [(seed, mode) for seed in seeds for mode in modes]))
    failed = sum(code != 0 for code in codes)
    print(f"{len(codes) - failed} of {len(codes)} held")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Everything that goes wrong, at once; then: was anything lost?")
    parser.add_argument("--seed", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--mode", nargs="*", choices=ALL_MODES, default=list(ALL_MODES))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--folder", type=Path, help="where all is kept that a failing run has left")
    parser.add_argument("--jobs", type=int, default=3, help="how many at the same time")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that its machines end as well
    root = given.folder or Path(tempfile.mkdtemp(prefix="flyatc-torture-"))
    if len(given.seed) == 1 and len(given.mode) == 1:
        return one(given.seed[0], given.mode[0], given.seconds, root)
    return several(given.seed, given.mode, given.seconds, root, given.jobs)


if __name__ == "__main__":
    sys.exit(main())
