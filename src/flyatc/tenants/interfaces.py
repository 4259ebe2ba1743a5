"""Protocols of the tools that a run uses; ``daemon/wiring.py`` supplies the implementations."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager as Hold
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from flyatc.config.schema import Tenant
from flyatc.kit.streams import Streams
from flyatc.kit.types import Effort, Exit, Progress, Work
from flyatc.ownership.lease import Lease


class Child(Protocol):
    """A running app. Leaving its context ends all of its processes."""

    @property
    def pid(self) -> int: ...

    @property
    def port(self) -> int: ...

    @property
    def exited(self) -> asyncio.Event:
        """Set when the process has ended, for any reason."""

    @property
    def exit(self) -> Exit | None:
        """None while it runs."""

    @property
    def stranger(self) -> str | None:
        """Sentence about another process that listens on the app's port; None: none was seen."""

    @property
    def probe(self) -> str | None:
        """Where the app was expected to respond, and what came instead; None: it was not tried yet."""

    @property
    def isolation(self) -> str:
        """How it is separated from other apps, in a few words."""

    def signal(self, number: int) -> None:
        """Send a signal to the process group of its command."""

    async def effort(self) -> Effort:
        """Return the CPU time of its processes so far, and whether one of them is runnable or waits for a disk."""

    async def work(self, *, oldest: float, youngest: float) -> Work:
        """Return what its processes do. Of the threads that sleep, only those that began between ``oldest`` and
        ``youngest`` seconds ago are listed."""

    async def ready(self) -> None:
        """Wait until the app responds. Raises kit.errors.StartFailed if it ends before that, PortTaken if another
        process listens on its port.

        Has no deadline of its own: use ``asyncio.timeout``."""


class Databases(Protocol):
    """The open databases of one tenant. Leaving their context saves them; raises kit.errors.SaveFailed."""

    @property
    def unsaved(self) -> bool:
        """True if the local copy may have changes that the store lacks. Cheap."""

    @property
    def saved_at(self) -> float | None:
        """Unix time of the last confirmed save, if any is known."""

    @property
    def lag(self) -> float:
        """Seconds since the store was up to date; 0: it is. Cheap."""

    @property
    def size(self) -> int:
        """Size of the local files in bytes. Cheap."""

    @property
    def changed(self) -> tuple[str, float] | None:
        """Name and Unix time of the last change of a database that was not flyatc's own. Cheap."""

    @property
    def alarms(self) -> list[str]:
        """Warnings for the operator, a sentence each. Cheap."""

    @property
    def renewed(self) -> Mapping[str, str]:
        """Databases that had to be uploaded in full again, with the reason. Cheap."""

    @property
    def gauges(self) -> dict[str, float]:
        """Numbers for /metrics, by name. Cheap."""

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Save changes now, of all databases or ``only`` the named one. Raises kit.errors.SaveFailed."""


class DataWatch(Protocol):
    """Watch for databases of one run that are not saved, and for those that another tenant has open as well."""

    @property
    def overlooked(self) -> list[str]:
        """Databases that are not saved, a sentence each. Cheap."""

    def begin(self, child: Any) -> None:
        """Begin to look at the processes of the ready app, the child from ``Tools.running``."""


class Gateway(Protocol):
    """The edge's state for one running app: its connection pool and open tunnels."""

    def drain(self) -> None:
        """Close the tunnels, which would not end by themselves. Requests in flight go on."""

    def close(self) -> None:
        """Close everything that is left, before the app is ended."""


Watched = Callable[[Callable[[], Awaitable[Effort]]], AbstractContextManager[None]]


@dataclass(frozen=True)
class Tools:
    """Context managers and callbacks of a run, entered on the way up and left in reverse order.

    ``lease``: entry acquires the lease (raises HeldElsewhere, OwnershipUnknown).
    ``restored``: entry makes the databases current (raises RestoreRefused; SaveFailed, if it is cut short and something
    cannot be saved); exit saves them (raises SaveFailed).
    ``watched``: entered before the app is spawned, left when it has ended. Its second argument ends the run and refuses
    its clients, for a reason.
    ``running``: entry spawns the app (raises StartFailed); exit ends its processes: SIGTERM, grace, SIGKILL. Its
    second argument returns whether to hurry (SIGKILL at once); it is called on exit and again during the grace.
    ``prepared``: runs the commands of ``app.before_start`` (raises StartFailed, StillRunning). Arguments: the tenant,
    whether to hurry as above, and a context for the time in which a command runs, given a measure of its effort.
    ``gateway``: created when the app is ready, from the tenant, its child, and a check that it may respond now.
    ``known``: whether the user has data or a lease record, here or in the store.
    ``command``: as ``running``, for a command of an operator (``app.command``) with its streams (kit.streams.Streams).
    ``forget``: drops the app's cached responses: another machine may respond differently from now on.
    """

    lease: Callable[[Tenant], Hold[Lease]]
    restored: Callable[[Tenant, Any], Hold[Databases]]  # the second argument is the lease from ``lease``
    watched: Callable[[Tenant, Callable[[str], None]], Hold[DataWatch]]
    running: Callable[[Tenant, Callable[[], bool]], Hold[Child]]
    gateway: Callable[[Tenant, Any, Callable[[], bool]], Gateway]  # the second argument is the child from ``running``
    prepared: Callable[[Tenant, Callable[[], bool], Watched], Awaitable[None]]
    forget: Callable[[Tenant], None] = lambda _: None
    known: Callable[[Tenant], Awaitable[bool]] | None = None  # None: every user is known
    command: Callable[[Tenant, Callable[[], bool], Streams], Hold[Child]] | None = None  # None: there are none
