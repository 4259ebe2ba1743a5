"""The JSON of the Machines API, as https://docs.machines.dev (OpenAPI) has it: the fields we need."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

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
