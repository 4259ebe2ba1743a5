"""The JSON of the Machines API, as https://docs.machines.dev (OpenAPI) has it: the fields we need.

Why the Machines API did not do what it was asked. Each says what to do; none has anything of the token in it.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from flyatc.kit.errors import FlyatcError

GONE: Final = frozenset(("destroying", "destroyed", "replaced", "migrated"))  # states of which nobody comes back


class Guest(Struct, frozen=True):
    cpu_kind: str = ""
    cpus: int = 0
    memory_mb: int = 0


class Mount(Struct, frozen=True):
    """``name``: of the volume."""

    volume: str = ""
    path: str = ""
    name: str = ""
    size_gb: int = 0


class Config(Struct, frozen=True):
    """What we read of it; see ``MachinesApi.config`` for the whole."""

    image: str = ""
    metadata: dict[str, str] | None = None
    guest: Guest | None = None
    mounts: list[Mount] | None = None


class Machine(Struct, frozen=True):
    """``state``: https://fly.io/docs/machines/machine-states/; ``instance_id``: of its version; ``created_at``: RFC
    3339; ``private_ip``: 6PN."""

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


class Lease(Struct, frozen=True):
    """``expires_at``: Unix seconds."""

    nonce: str
    expires_at: int = 0
    owner: str = ""


class Ran(Struct, frozen=True):
    """What a command came to."""

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


class Leased(Struct):
    data: Lease


class Executed(Struct):
    exit_code: int = 0
    stdout: str | None = None
    stderr: str | None = None


class Create(Struct, omit_defaults=True):
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    region: str = ""
    skip_launch: bool = False


class ApiError(FlyatcError):
    """Root of them. ``done``: it may have been done all the same."""

    done = False


class NoToken(ApiError):
    """There is none, or it is not accepted, or may not do this (401, 403)."""


class Refused(ApiError):
    """400, 422 and what else is no use to repeat: a fault in what was asked, no capacity, a limit of the account."""


class NotFound(ApiError):
    """404: there is no such app, machine, volume or lease."""


class Conflict(ApiError):
    """409, 412: somebody has a lease on the machine, or its state does not allow it."""


class NameTaken(Conflict):
    """A machine of this name is there already. ``machine``: its id, where it is told."""

    def __init__(self, text: str, machine: str | None) -> None:
        super().__init__(text)
        self.machine = machine


class TooMany(ApiError):
    """429, to the last try."""


class Away(ApiError):
    """Not reached, no answer in time, 5xx, or an answer which cannot be read."""

    def __init__(self, text: str, *, done: bool) -> None:
        super().__init__(text)
        self.done = done


class TooSlow(ApiError):
    """408: what was waited for has not come in time, such as the state of a machine."""
