"""What control needs of the daemon. ``daemon.py`` implements it and hands it in."""

from typing import Protocol

from flyatc.control.answers import Drained, Explanation, History, Overview, Reloaded
from flyatc.databases.choosing import Choice
from flyatc.kit.progress import Progress
from flyatc.observe.journal import Journal
from flyatc.observe.metrics import Counters


class Operations(Protocol):
    """Called on the loop. An operator who leaves cancels what he asked for. Whatever cannot be done is a FlyatcError;
    an address that names nobody is tenants.errors.NoSuchTenant."""

    @property
    def journal(self) -> Journal: ...

    @property
    def counters(self) -> Counters: ...

    @property
    def stopping(self) -> bool:
        """Whether the daemon is on its way out."""

    def status(self) -> Overview:
        """Every configured tenant, and those of '*' that live."""

    def explain(self, url: str) -> Explanation:
        """``control.explain.explain`` by the present configuration, with the tenant's state."""

    async def start(self, address: str) -> None:
        """A user alone: all his tenants. Returns when they are ready."""

    async def stop(self, address: str) -> None:
        """Returns when they are saved and stopped."""

    async def restart(self, address: str) -> None: ...

    async def release(self, user: str, to: str | None, *, remove: bool = False) -> None:
        """All his tenants are saved and stopped, and he is given back: to a machine of our app, or whoever comes.
        ``remove``: to nobody. Goes on, should the operator leave."""

    async def reload(self) -> Reloaded:
        """Reads the file again. Raises ConfigError; then nothing has changed."""

    async def maintain(self, address: str | None, message: str | None, *, closed: bool) -> bool:
        """Closes for maintenance, or opens again; None: everything. Whether that changes anything."""

    async def pause(self, address: str | None, limit: float) -> Drained:
        """Holds new requests, ``limit`` seconds each; None: all. Returns when the apps have none any more, or the limit
        is over. Who leaves before that leaves it paused."""

    async def resume(self, address: str | None) -> int | None:
        """None: all pauses. How many requests were released; None: it was not paused."""

    async def clear_cache(self, address: str | None) -> int:
        """A user alone: all his tenants; None: everything. How many answers there were."""

    async def backup(self, address: str, database: str | None, progress: Progress) -> None:
        """Saves now what has changed; None: all databases."""

    async def restore(self, address: str, database: str | None, choice: Choice, progress: Progress) -> None:
        """Puts what was chosen in place of the local copy; a running app is stopped meanwhile."""

    async def history(self, address: str, database: str | None) -> History: ...
