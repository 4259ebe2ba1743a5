"""A daemon for the control room: it writes down what it was asked, and does what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from flyatc import __version__
from flyatc.control.types import (
    Daemon,
    Drained,
    Explanation,
    History,
    LocalDatabase,
    Overview,
    Reloaded,
    TenantDetails,
    Version,
)
from flyatc.cost.usage import Usage, Use
from flyatc.databases.decisions.version_choice import Choice
from flyatc.kit.types import Progress
from flyatc.observe.counters import Counters
from flyatc.observe.log import Journal
from flyatc.tenants.errors import NoSuchTenant
from flyatc.tenants.state import State, Status

STARTED = "2026-03-01T12:00:00.000000Z"
WINTER = Status(
    tenant="bellevue/2025/winter",
    user="bellevue",
    state=State.READY,
    pid=4711,
    port=40001,
    requests=2,
    since=STARTED,
    starts=3,
    crashes=1,
    last_exit="exit code 1",
    saved_at=STARTED,
)
SUMMER = Status(tenant="bellevue/2025/summer", user="bellevue", state=State.STOPPED, since=STARTED)
VERSIONS = [
    Version(database="a.db", id="000001-000000002", saved=STARTED, size=2048, compressed=512, current=True),
    Version(database="a.db", id="000001-000000001", saved=STARTED, size=None, compressed=500, current=False),
]


class Desk:
    """``reported``: what was asked. ``fails``: what the next commands raise. ``gate``: they wait for it."""

    def __init__(self) -> None:
        self.journal, self.counters = Journal(), Counters()
        self.stopping = False
        self.reported: list[str] = []
        self.fails: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.steps: list[tuple[str, int, int]] = []
        self.tenants = [WINTER, SUMMER]
        self.copied = Path(__file__)  # the copy of every database

    def status(self, *, seen: bool = False) -> Overview:
        daemon = Daemon(
            version=__version__,
            pid=1,
            started=STARTED,
            listen="*:3000",
            config=str(Path("tenants.yaml")),
            running=1,
            limit=20,
        )
        return Overview(tenants=self.tenants, daemon=daemon)

    def explain(self, url: str) -> Explanation:
        self.reported.append(f"explain {url}")
        return Explanation(path=url, outcome="here", why="the fake says so", tenant=WINTER.tenant, state="ready")

    def address(self, pasted: str) -> str | None:
        self.reported.append(f"address {pasted}")
        return pasted.partition("://")[2].partition("/")[2].strip("/") or pasted.strip("/") or None

    async def with_data(self, user: str | None) -> list[str]:
        self.reported.append(f"with_data {user}")
        return [WINTER.tenant]

    def tenant(self, address: str) -> TenantDetails:
        self.reported.append(f"tenant {address}")
        found = next((one for one in self.tenants if one.tenant == address), None)
        if found is None:
            raise NoSuchTenant(address, WINTER.tenant)
        return TenantDetails(
            status=found, path=f"/{address}/", tunnels=1, activity=[], databases=[LocalDatabase("a.db", 2048)], files=[]
        )

    async def usage(self, days: int) -> Usage:
        self.reported.append(f"usage {days}")
        return Usage(since=STARTED, observed=1.0, up=1.0, users={}, shared=Use(), machine=None)

    async def start(self, address: str) -> None:
        await self._do(f"start {address}")

    async def stop(self, address: str) -> None:
        await self._do(f"stop {address}")

    async def restart(self, address: str) -> None:
        await self._do(f"restart {address}")

    async def release(self, user: str, to: str | None, *, remove: bool = False) -> None:
        await self._do(f"release {user} {'nonesuch' if remove else to}")

    async def reload(self) -> Reloaded:
        await self._do("reload")
        return Reloaded(added=["boston"], restart=["server.listen"])

    async def maintain(self, address: str | None, message: str | None, *, closed: bool) -> bool:
        await self._do(f"maintain {address} {message} {closed}")
        return True

    async def pause(self, address: str | None, limit: float) -> Drained:
        await self._do(f"pause {address} {limit}")
        return Drained(requests=0, tunnels=2)

    async def resume(self, address: str | None) -> int | None:
        await self._do(f"resume {address}")
        return 3

    async def clear_cache(self, address: str | None) -> int:
        await self._do(f"clear cache {address}")
        return 7

    async def backup(self, address: str, database: str | None, progress: Progress) -> None:
        await self._tell(f"backup {address} {database}", progress)

    async def restore(self, address: str, database: str | None, choice: Choice, progress: Progress) -> list[str]:
        await self._tell(f"restore {address} {database} {choice}", progress)
        return []

    async def history(self, address: str, database: str | None) -> History:
        await self._do(f"history {address} {database}")
        return History(versions=VERSIONS)

    @contextlib.asynccontextmanager
    async def copy(self, address: str, database: str, choice: Choice, progress: Progress) -> AsyncIterator[Path]:
        await self._tell(f"copy {address} {database} {choice}", progress)
        yield self.copied

    async def _tell(self, reported: str, progress: Progress) -> None:
        for step in self.steps:
            progress(*step)
        await self._do(reported)

    async def _do(self, reported: str) -> None:
        self.reported.append(reported)
        self.begun.set()
        if "nonesuch" in reported:
            raise NoSuchTenant("nonesuch", WINTER.tenant)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.reported.append("cancelled")
            raise
        if self.fails is not None:
            raise self.fails
