"""JSON types of the Machines API (OpenAPI: https://docs.machines.dev) and of the simulator's own calls."""

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

from flyatc.sim.machine import MEMORY, Machine, Record

IMAGE = "registry.fly.io/{app}:simulated"


class Mount(Struct):
    volume: str = ""


class Config(Struct):
    """The fields of a machine's config used here. The rest (guest, services …) is stored and returned unchanged."""

    image: str = ""
    metadata: dict[str, str] | None = None
    mounts: list[Mount] | None = None
    env: dict[str, str] | None = None


class CreateMachine(Struct):
    """``POST /v1/apps/{app}/machines``. Of the config, only ``metadata`` and ``env`` have an effect."""

    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    region: str = ""
    skip_launch: bool = False


class StopMachine(Struct):
    """``POST …/stop``. ``timeout``: seconds, or a duration in Go's format."""

    signal: str = "SIGINT"
    timeout: float | str | None = None


class CreateVolume(Struct):
    name: str
    region: str = ""
    size_gb: int = 3


class Exec(Struct):
    command: list[str] = field(default_factory=list)
    timeout: float = 30.0


class Value(Struct):
    value: str


class Failure(Struct):
    error: str


class Faults(Struct, forbid_unknown_fields=True):
    """Injected faults. ``api``: "", "away", "lost" (changes are made, their responses lost), or an error status;
    ``dns``: see dns.FAULTS."""

    api: str = ""
    dns: str = ""


class MachineStatus(Struct):
    """Status of a machine, for ``flyatc sim ps``."""

    name: str
    id: str
    app: str
    region: str
    state: str
    metadata: dict[str, str]
    address: str
    port: int
    log: str


class Overview(Struct):
    proxy: str
    api: str
    dns: str
    app: str
    faults: Faults
    machines: list[MachineStatus]


def machine(one: Machine) -> dict[str, Any]:
    record = one.record
    return {
        "id": record.id,
        "name": record.name,
        "state": one.state,
        "region": record.region,
        "instance_id": instance(record),
        "private_ip": record.address,
        "created_at": _time(record.created),
        "updated_at": _time(record.created + one.updated),
        "image_ref": {"registry": "registry.fly.io", "repository": record.app, "tag": "simulated"},
        "config": {
            "image": IMAGE.format(app=record.app),
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": int(MEMORY)},
            "env": {},
            "services": [{"internal_port": record.port, "autostart": record.autostart, "autostop": "off"}],
            "restart": {"policy": "on-failure", "max_retries": 10},
            **record.config,
            "metadata": record.metadata,
        },
        "events": [],
        "checks": [],
    }


def instance(record: Record) -> str:
    """Return the instance id of the machine's only version."""
    return f"01SIM{record.id.upper()}"


def machine_status(one: Machine, log: str) -> MachineStatus:
    record = one.record
    state = f"{one.state}, host lost" if one.lost else one.state
    return MachineStatus(record.name, record.id, record.app, record.region, state, record.metadata, record.address,
                    record.port, log)  # fmt: skip


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
