"""What a tenant needs of its tools. ``daemon.py`` hands them in; ``tenants`` knows no more of them than this."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager as Hold
from dataclasses import dataclass
from typing import Any, Protocol

from flyatc.config.schema import Tenant
from flyatc.kit.types import Effort, Exit, Progress


class Lease(Protocol):
    """The user's databases may be written here. Leaving its hold gives that up."""

    @property
    def doubted(self) -> asyncio.Event:
        """Set while it may end soon: new requests wait."""

    @property
    def ended(self) -> asyncio.Event:
        """It has expired, or somebody else has it: the app is to be killed at once. Never cleared."""

    @property
    def why(self) -> str:
        """Of the end."""

    @property
    def epoch(self) -> int:
        """How often the user has changed hands; 0: there is nobody to agree with."""

    @property
    def known(self) -> bool:
        """Whether anything was on record of the user before."""

    def valid(self) -> bool:
        """Whether it is ours at this very moment. Cheap: each request and each answer asks."""


class Child(Protocol):
    """A running app. Leaving its hold ends the whole process group."""

    @property
    def pid(self) -> int: ...

    @property
    def port(self) -> int: ...

    @property
    def exited(self) -> asyncio.Event:
        """Set when the process has ended, for whatever reason."""

    @property
    def exit(self) -> Exit | None:
        """None while it runs."""

    @property
    def stranger(self) -> str | None:
        """The process which listens on its port instead of it, as a sentence; None: none was seen."""

    async def effort(self) -> Effort:
        """What its processes have done so far, and whether one of them could do more now."""

    async def ready(self) -> None:
        """Returns once the app answers. Raises kit.errors.StartFailed if it ends before that, or if another process
        listens on its port.

        Has no deadline of its own: the caller's ``asyncio.timeout`` is the deadline."""


class Databases(Protocol):
    """The databases of one tenant, held here. Leaving the hold saves them; raises kit.errors.SaveFailed."""

    @property
    def unsaved(self) -> bool:
        """Whether the local copy may have something which the store has not. Cheap."""

    @property
    def saved_at(self) -> float | None:
        """Unix time of the last confirmed save, if any is known."""

    @property
    def lag(self) -> float:
        """Seconds since the store had everything; 0: it has. Cheap."""

    @property
    def octets(self) -> int:
        """Of the local files. Cheap."""

    @property
    def alarms(self) -> list[str]:
        """What the operator should know, a sentence each. Cheap."""

    @property
    def renewed(self) -> Mapping[str, str]:
        """Databases of which all had to be sent again, and why. Cheap."""

    @property
    def gauges(self) -> dict[str, float]:
        """Numbers for /metrics, by name. Cheap."""

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Saves now what has changed: all databases, or ``only`` the one of that name. Raises kit.errors.SaveFailed."""


class Gateway(Protocol):
    """What the edge keeps for one running app: its pool of connections, the open tunnels."""

    def drain(self) -> None:
        """The app is to stop: cut the tunnels, they would never end by themselves. Requests in flight go on."""

    def close(self) -> None:
        """The app is about to be ended: close what is left."""


@dataclass(frozen=True)
class Tools:
    """What a life needs, each held on the way up and given back on the way down.

    ``owned``: entry makes this machine the one which may write (raises HeldElsewhere, OwnershipUnknown).
    ``restored``: entry makes the databases whole (raises RestoreRefused); exit saves them (raises SaveFailed).
    ``running``: entry spawns the app (raises StartFailed); exit ends its group: SIGTERM, grace, SIGKILL. Its second
    argument says whether to hurry (SIGKILL at once); it is asked when the hold is left, and again during the grace.
    ``gateway``: made when the app is ready, from the tenant, its child, and whether it may answer now.
    ``known``: whether anything is on record of its user, here or in the store.
    ``forget``: drops what the app has answered before: another machine may answer otherwise from now on.
    """

    owned: Callable[[Tenant], Hold[Lease]]
    restored: Callable[[Tenant, Any], Hold[Databases]]  # what ``owned`` gave
    running: Callable[[Tenant, Callable[[], bool]], Hold[Child]]
    gateway: Callable[[Tenant, Any, Callable[[], bool]], Gateway]  # the child is what ``running`` gave
    forget: Callable[[Tenant], None] = lambda _: None
    known: Callable[[Tenant], Awaitable[bool]] | None = None  # None: everybody is


class EventLog(Protocol):
    """Takes the daemon's events (``observe.log.Log`` is one). Level: debug, info, warning, error."""

    def event(self, level: str, message: str, /, **fields: Any) -> None: ...
