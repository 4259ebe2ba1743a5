"""JSON types and errors of the Machines API, see https://docs.machines.dev (OpenAPI); only the fields used here.

Error texts say what to do, and never contain the token.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from flyatc.kit.errors import FlyatcError

GONE: Final = frozenset(("destroying", "destroyed", "replaced", "migrated"))  # final states


class Guest(Struct, frozen=True):
    cpu_kind: str = ""
    cpus: int = 0
    memory_mb: int = 0


class Mount(Struct, frozen=True):
    """A mounted volume. ``name``: of the volume."""

    volume: str = ""
    path: str = ""
    name: str = ""
    size_gb: int = 0


class Config(Struct, frozen=True):
    """Part of a machine's config; ``MachinesApi.config`` returns the whole."""

    image: str = ""
    metadata: dict[str, str] | None = None
    guest: Guest | None = None
    mounts: list[Mount] | None = None


class Machine(Struct, frozen=True):
    """A machine. ``state``: https://fly.io/docs/machines/machine-states/; ``instance_id``: of its version;
    ``created_at``: RFC 3339; ``private_ip``: 6PN."""

    id: str
    state: str
    name: str = ""
    region: str = ""
    instance_id: str = ""
    private_ip: str = ""
    created_at: str = ""
    config: Config | None = None

    @property
    def metadata(self) -> Mapping[str, str]:
        return (self.config and self.config.metadata) or {}


class Ran(Struct, frozen=True):
    """The result of a command."""

    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""


class Volume(Struct, frozen=True):
    id: str
    name: str = ""
    region: str = ""
    size_gb: int = 0
    state: str = ""
    attached_machine_id: str | None = None


class Executed(Struct):
    exit_code: int = 0
    stdout: str | None = None
    stderr: str | None = None


class ApiError(FlyatcError):
    """Base class. ``done``: the request may have taken effect all the same."""

    done = False


class NoToken(ApiError):
    """The token is missing, not accepted, or not permitted to do this (401, 403)."""


class Refused(ApiError):
    """400, 422 and other errors not worth repeating: an invalid request, no capacity, a limit of the account."""


class NotFound(ApiError):
    """404: there is no such app, machine, volume or lease."""


class Conflict(ApiError):
    """409, 412: the machine is leased, or its state does not allow the request."""


class NameTaken(Conflict):
    """A machine of this name exists already. ``machine``: its id, if the API gave it."""

    def __init__(self, text: str, machine: str | None) -> None:
        super().__init__(text)
        self.machine = machine


class TooMany(ApiError):
    """429, also for the last retry."""


class Away(ApiError):
    """No connection, no response in time, 5xx, or an unreadable response."""

    def __init__(self, text: str, *, done: bool) -> None:
        super().__init__(text)
        self.done = done


class TooSlow(ApiError):
    """408, or a wait, as for a machine's state, that timed out."""
