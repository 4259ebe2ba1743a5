"""What a tenant needs of its tools. ``daemon.py`` hands them in; ``tenants`` knows no more of them than this."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager as Hold
from dataclasses import dataclass
from typing import Any, Protocol

from flyatc.config.schema import Tenant
from flyatc.kit.errors import FlyatcError


class RestoreRefused(FlyatcError):
    """The databases cannot be vouched for now (store away, snapshot damaged): the app must not start. Try later."""


class SaveFailed(FlyatcError):
    """The store did not confirm the last save. The local copy is kept and says so."""


class StartFailed(FlyatcError):
    """The app did not come up: it ended, or its command cannot be run."""


@dataclass(frozen=True)
class Exit:
    """How a child ended: ``code`` 0-255, or ``signal`` where one killed it; the last lines of its output."""

    code: int | None
    signal: int | None
    output: tuple[str, ...]

    def __str__(self) -> str:
        return f"killed by signal {self.signal}" if self.signal else f"exit code {self.code}"


class Child(Protocol):
    """A running app. Leaving its hold ends the whole process group."""

    pid: int
    port: int
    exited: asyncio.Event

    @property
    def exit(self) -> Exit | None:
        """None while it runs."""

    async def ready(self) -> None:
        """Returns once the app answers. Raises StartFailed if it ends before that.

        Has no deadline of its own: the caller's ``asyncio.timeout`` is the deadline."""


class Databases(Protocol):
    """The databases of one tenant, held here. Leaving the hold saves them; raises SaveFailed."""

    @property
    def unsaved(self) -> bool:
        """Whether the local copy may have something the store has not."""

    async def save(self, progress: "Progress | None" = None, only: str | None = None) -> None:
        """Saves now what has changed (all databases, or ``only`` the one of that name). Raises SaveFailed."""

    def saved_at(self) -> float | None:
        """Unix time of the last confirmed save, if any."""


class Progress(Protocol):
    def __call__(self, step: str, done: int, total: int) -> None:
        """``step`` is a word for people (copy, upload, download); done and total in bytes."""


@dataclass(frozen=True)
class Tools:
    """What a life needs, each held on the way up and given back on the way down.

    ``restored``: entry makes the databases whole (raises RestoreRefused); exit saves them (raises SaveFailed).
    ``running``: entry spawns the app (raises StartFailed); exit ends its group: SIGTERM, grace, SIGKILL. The second
    argument says whether to hurry (SIGKILL at once), asked at the time of leaving.
    """

    restored: Callable[[Tenant], Hold[Databases]]
    running: Callable[[Tenant, Callable[[], bool]], Hold[Child]]


class Teller(Protocol):
    """Takes the daemon's events (``observe.log.Log`` is one)."""

    def event(self, level: str, message: str, /, **fields: Any) -> None: ...
