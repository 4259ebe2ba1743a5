"""Machines of the simulator, which visitors reach through its proxy: the same faults as its platform knows them."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fakes.simulator import Platform
from flyatc.sim.machine import Record
from flyatc.sim.machines import RECORDS
from flyatc.sim.simulator import Settings
from torture.judge import Wiped
from torture.machines import USER, Machine
from torture.plan import Fault, Kind
from whole.daemon import clean_environment

REPLAY = 3.0  # s; replay.timeout
SHORT = 4.0  # s; pauses which are shorter are reported to the platform: a request wakes the machine
DNS = ("", "silent", "servfail", "nxdomain")
ASLEEP = ("stopped", "suspended", "stopping", "suspending")


class Simulated(Machine):
    """``platform``: None once the simulator is closed: then it is a machine like any other."""

    platform: Platform | None = None

    @property
    def log_file(self) -> Path:
        return self.folder / "machine.log"

    @property
    def fly_id(self) -> str | None:
        return None if self.platform is None else self.platform.id(self.name)

    @property
    def runs(self) -> bool:
        if self.platform is None:
            return super().runs
        return self.platform[self.name].reachable

    @property
    def listens(self) -> bool:
        """Or is asleep, and would be woken."""
        return (self.platform is not None and self.platform[self.name].state in ASLEEP) or super().listens

    def born(self, record: Record) -> list[str]:
        """Return what the simulator is to run, once its port is known."""
        self.config = self.config.replace(str(self.port), str(record.port)).replace("requests: false", "requests: true")
        self.config += f"replay: {{timeout: {REPLAY}s}}\n"
        self.port = record.port
        self.write()
        environ = [f"{name}={value}" for name, value in self.env.items()]
        return ["env", *environ, sys.executable, "-m", "flyatc", "serve", "--config", str(self.config_file)]

    def left(self) -> None:
        """By the simulator, which has stopped it."""
        assert self.platform is not None
        record, self.platform = self.platform[self.name].record, None
        self.env |= {"FLY_MACHINE_ID": record.id, "FLY_APP_NAME": record.app, "FLY_REGION": record.region}

    def launch(self) -> None:
        if self.platform is None:
            super().launch()

    def begin(self, fault: Fault) -> None:
        if self.platform is None:
            return super().begin(fault)
        match fault.kind:
            case Kind.KILL:
                self._kill_daemon()
            case Kind.CRASH | Kind.WIPE:
                self.platform.kill(self.name)
                if fault.kind is Kind.WIPE:
                    self.wiped.append(Wiped(self.name, time.monotonic()))
                    shutil.rmtree(self.data, ignore_errors=True)
            case Kind.PAUSE if fault.lasts < SHORT:
                with contextlib.suppress(Exception):  # it sleeps already
                    self.platform.suspend(self.name)
            case Kind.PAUSE:
                self.platform.freeze(self.name)
            case Kind.TERM:
                self.platform.stop(self.name)
            case Kind.DNS:
                self.platform.fail(dns=DNS[int(fault.amount)])
            case _:
                super().begin(fault)
        return None

    def end(self, fault: Fault, since: float) -> None:
        if self.platform is not None:
            if fault.kind in (Kind.CRASH, Kind.WIPE):
                self.platform.start(self.name)
            if fault.kind is Kind.PAUSE and fault.lasts >= SHORT:
                self.platform.thaw(self.name)
            if fault.kind in (Kind.TERM, Kind.PAUSE) and fault.lasts < SHORT:
                return  # it sleeps until it is needed
        super().end(fault, since)

    def _kill_daemon(self) -> None:
        for pid in self.family():
            with contextlib.suppress(OSError):
                if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)


def fly(root: Path, machines: Sequence[Simulated], *, named: bool) -> Platform:
    """``named``: the metadata of the first machine name the user; else no one knows of metadata."""
    records = [
        Record(
            id=secrets.token_hex(7), name=one.name, app="sim", region=("iad", "ams", "syd")[number],
            address=f"fdaa:0:51:a7b:{number + 1}::2", port=0,
            metadata={"customer": USER if number == 0 else f"other{number}"} if named else {},
        )
        for number, one in enumerate(machines)
    ]  # fmt: skip
    (root / RECORDS).write_bytes(msgspec.json.encode(records))
    of = {one.name: one for one in machines}
    platform = Platform(Settings(folder=root, grace=20.0), lambda record, _: of[record.name].born(record))
    dropped = {name: os.environ.pop(name) for name in set(os.environ) - set(clean_environment())}
    try:
        platform.open({})
    finally:
        os.environ.update(dropped)
    for one in machines:
        one.platform = platform
    return platform


def unexplained(machine: Machine) -> list[str]:
    """Answers of 5xx without a reason in the log."""
    bare = [line for line in machine.reported("request") if line["status"] >= 500 and not line.get("reason")]
    return [f"no reason: {machine.name}: {json.dumps(line)}" for line in bare]
