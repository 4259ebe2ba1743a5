"""A machine: a daemon, its data folder, its own way to the store, its clocks; and what can be done to all that."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes.faults import Line
from fakes.s3 import Server
from flyatc.process.ports import PortPool
from torture.clocks import Clocks
from torture.judge import Hindered, Wiped
from torture.plan import INTERVAL, SESSION, STORE, Fault, Habits, Kind
from whole.daemon import Daemon, clean_environment

ROWS = Path(__file__).parent.parent / "apps" / "rows.py"
USER, TENANTS, DATABASE = "ann", ("one", "two"), "app.sqlite3"
AGAIN = 0.3  # s; a daemon which has ended is started again, as a machine's init would

CONFIG = """
server: {{listen: "127.0.0.1:{port}", shutdown_timeout: 20s}}
app:
  command: {command}
  env: {env}
  databases: [{database}]
  writable: [{rows}]
  idle: 1h
  start_timeout: 20s
  stop_grace: 3s
storage: {{mode: {mode}, interval: {interval}s, session_ttl: {session}s, keep: 100000}}
log: {{requests: false}}
users: {{{user}: {{tenants: [{tenants}]}}}}
"""


class Machine(Daemon):
    """``name``: as the app tells it; ``wanted``: whether its daemon is to run.

    ``ended``: called with the exit code when its daemon ends after SIGTERM, and with None just before its disk is
    wiped."""

    def __init__(
        self, root: Path, name: str, mode: str, server: Server, bucket: str, rate: float, habits: Habits
    ) -> None:
        self.name, self.line, self.wanted = name, Line(server.port), True
        self.wiped: list[Wiped] = []
        self.hindered: list[Hindered] = []
        self.stopped: list[Hindered] = []  # when all its processes stood still
        self.ended: Callable[[Machine, int | None], None] = lambda machine, code: None
        self._ending = False
        self.owned: list[tuple[float, dict[str, Any]]] = []  # what it reported of users that it owns, and when
        self._read = 0  # octets of its log
        self._again = 0.0
        folder = root / name
        folder.mkdir(parents=True)
        self.rows_log = root / f"rows-{name}" / "rows.jsonl"  # a folder that its apps may write
        self.rows_log.parent.mkdir()
        self.clocks = Clocks(folder / "clock", rate)
        port = PortPool().take()
        mode = "snapshot" if mode == "sim" else mode
        env = {
            "DATABASE_PATH": f"{{data}}/{DATABASE}", "ROWS_LOG": str(self.rows_log), "ROWS_MACHINE": name,
            "ROWS_TENANT": "{tenant}", **habits.environ,
        }  # fmt: skip
        config = CONFIG.format(
            port=port, command=json.dumps([sys.executable, "-S", str(ROWS)]), database=DATABASE,
            env=json.dumps(env), rows=json.dumps(str(self.rows_log.parent)), mode=mode, interval=INTERVAL,
            session=SESSION, user=USER, tenants=", ".join(TENANTS),
        )  # fmt: skip
        super().__init__(folder, config, {**server.environ(bucket, port=self.line.port), **self.clocks.environ})
        self.port = port
        self.write()

    def as_platform(self) -> "Machine":
        """From now on the platform vouches for its name."""
        self.env |= {"FLY_MACHINE_ID": self.name, "FLY_APP_NAME": "torture", "FLY_REGION": "fra"}
        return self

    @property
    def fly_id(self) -> str | None:
        """Return which the proxy of a small Fly knows it by."""
        return None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def identity(self) -> str | None:
        """Return what other daemons call it; None: it has no name now."""
        try:
            return str(json.loads((self.data / ".flyatc" / "machine.json").read_bytes())["machine"])
        except (OSError, ValueError, KeyError):
            return None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return self.runs
        return False

    # --- its daemon ---

    def tend(self) -> None:
        """To be called often: what is wanted and does not run is started, what it tells is heard."""
        self._hear()
        if self._ending and self.process is not None and (code := self.process.poll()) is not None:
            self._ending = False
            self.ended(self, code)
        if self.wanted and not self.runs and time.monotonic() >= self._again:
            self._again = time.monotonic() + AGAIN
            self.launch()

    def _hear(self) -> None:
        """Its own stamps are of no use: its clock is wrong."""
        if self.log_file.exists():
            with self.log_file.open("rb") as log:
                log.seek(self._read)
                new = log.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            reported = [json.loads(line) for line in whole.splitlines() if b'"user owned"' in line]
            self.owned += [(time.monotonic(), line) for line in reported]

    def launch(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flyatc", "serve", "--config", str(self.config_file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**clean_environment(), **self.env},
            )

    def family(self) -> list[int]:
        """The daemon first, then all which it, or one before it, has started: they bear its folder in their names or in
        their environment."""
        mark, found = bytes(self.folder), []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (place / "environ").read_bytes() or mark in (place / "cmdline").read_bytes():
                    found.append(int(place.name))
        first = self.process.pid if self.process is not None else 0
        return sorted(found, key=lambda pid: (pid != first, pid))

    def send(self, number: signal.Signals, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # --- what is done to it ---

    def begin(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL if self.process is not None:
                self.wanted = False
                self.send(signal.SIGKILL, [self.process.pid])
                self.process.wait()
            case Kind.CRASH | Kind.WIPE:
                self._crash(wipe=fault.kind is Kind.WIPE)
            case Kind.PAUSE:
                self.send(signal.SIGSTOP, self.family())
            case Kind.TERM:
                self.wanted, self._ending = False, True
                self.signal(signal.SIGTERM)
            case Kind.STALL if self.process is not None:
                self.send(signal.SIGSTOP, [self.process.pid])
            case Kind.APP:
                self.send(signal.SIGKILL, self.children())
            case Kind.CLOCK:
                self.clocks.set_wall(fault.amount)
            case _:
                self._cut(fault)

    def end(self, fault: Fault, since: float) -> None:
        """``since``: when it began."""
        if fault.kind is Kind.PAUSE:
            self.send(signal.SIGCONT, self.family())
            self.stopped.append(Hindered(self.name, since, time.monotonic()))
        if fault.kind is Kind.STALL and self.process is not None:
            self.send(signal.SIGCONT, [self.process.pid])
        if fault.kind in STORE:
            self.line.pass_through()
        else:
            self.wanted = True
        if fault.lasts:
            self.hindered.append(Hindered(self.name, since, time.monotonic()))

    def again(self, fault: Fault) -> None:
        """While it lasts."""
        if fault.kind is Kind.LOSE:
            self.line.lose_reply()

    def _crash(self, *, wipe: bool) -> None:
        self.wanted = False
        self.send(signal.SIGKILL, self.family())
        if self.process is not None:
            self.process.wait()
        if wipe:
            while len(self.family()):
                time.sleep(0.01)  # noqa: TID251 - polling for a fact
            self.wiped.append(Wiped(self.name, time.monotonic()))
            self.ended(self, None)
            shutil.rmtree(self.data, ignore_errors=True)

    def _cut(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.REFUSE:
                self.line.refuse()
            case Kind.BLACK_HOLE:
                self.line.black_hole()
            case Kind.RESET:
                self.line.reset()
            case Kind.DELAY:
                self.line.delay(fault.amount)
            case Kind.LOSE:
                self.line.lose_reply()
            case Kind.CONTINUE:
                self.line.cut_continue()

    def clean_up(self) -> None:
        """Ends all of it, at once."""
        self.wanted = False
        family = self.family()
        self.send(signal.SIGKILL, family)
        if self.process is not None:
            self.process.wait()
        self.line.close()
        self.clocks.close()
