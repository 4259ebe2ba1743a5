"""The simulator in the test's own loop, its machines running the puppet."""

import asyncio
import http.client
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyatc.sim.machine import Machine, Record
from flyatc.sim.simulator import TOKEN, Settings, Simulator
from slowness import SLOWNESS

PUPPET = Path(__file__).parent.parent / "apps" / "puppet.py"


@dataclass
class Reported:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Fly:
    simulator: Simulator
    hops: list[str] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def reported(self, line: str) -> None:
        self.hops.append(line)
        self.more.set()

    async def until_reported(self, text: str, since: int = 0) -> None:
        """Waits for a line of the simulator's log."""
        async with asyncio.timeout(10 * SLOWNESS):
            while not any(text in line for line in self.hops[since:]):
                self.more.clear()
                await self.more.wait()

    def __getitem__(self, name: str) -> Machine:
        return self.simulator.machines.named(name)

    def id(self, name: str) -> str:
        return self[name].record.id

    async def visit(
        self,
        path: str = "/",
        script: dict[str, dict[str, str]] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
        **headers: str,
    ) -> Reported:
        """``script``: machine's name → what it answers; ``headers``: with ``_`` for ``-``."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if script is not None:
            named = {word if word == "failed" else self.id(word): lines for word, lines in script.items()}
            given["X-Script"] = json.dumps(named)
        before = len(self.hops)
        reported = await asyncio.to_thread(ask, self.simulator.port, method, path, body, given)
        await self.until_reported(f"{method} {path.partition('?')[0]} ", before)
        return reported

    async def api(
        self, method: str, path: str, value: object = None, *, token: str = TOKEN, **headers: str
    ) -> Reported:
        """``path``: below the app's machines."""
        given = {"Authorization": f"Bearer {token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        body = None if value is None else json.dumps(value).encode()
        path = f"/v1/apps/sim/machines{path}"
        return await asyncio.to_thread(ask, self.simulator.api_port, method, path, body, given)


def ask(port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reported:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * SLOWNESS)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Reported(answer.status, answer.msg, answer.read())
    finally:
        connection.close()


@asynccontextmanager
async def small_fly(
    folder: Path, machines: int = 2, *, ptr: bool = True, stale: float = 0.0, give_up: float = 5.0
) -> AsyncIterator[Fly]:
    """Machines m1 … in regions iad, ams, syd, whose users are 100, 200 …; visitors come in at iad."""

    def command(record: Record, own: Path) -> list[str]:
        return [sys.executable, "-S", str(PUPPET)]

    settings = Settings(folder=folder, ptr=ptr, stale=stale, give_up=give_up, grace=5.0)
    fly = Fly(Simulator(settings, command, lambda line: fly.reported(line)))
    try:
        await fly.simulator.open({f"m{n}": {"customer_id": str(100 * n)} for n in range(1, machines + 1)})
        assert not await fly.simulator.ready(20)  # started is not ready
        yield fly
    finally:
        await fly.simulator.close()
