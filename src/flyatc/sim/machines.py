"""All machines of the simulator, their creation and their environment."""

import ipaddress
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import time
from typing import Any

import msgspec

from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError
from flyatc.process.ports import PortPool
from flyatc.sim.machine import MEMORY, Machine, Record, WrongState
from flyatc.sim.proxy_rules import MachineView

RECORDS, NETWORK = "machines.json", "network.json"
WITHHELD = ("FLY_", "PORT", "CUSTOMER_ID")  # prefixes of variables not inherited from our environment


class Machines:
    """All machines. ``command``: a machine's program; ``environ``: variables in addition to our environment and Fly's;
    ``folder``: contains each machine's disk. ``stale``, ``grace``: see ``Machine``."""

    def __init__(
        self,
        folder: Path,
        command: Callable[[Record, Path], list[str]],
        environ: Callable[[Record, Path], Mapping[str, str]],
        *,
        stale: float,
        grace: float,
    ) -> None:
        self._folder, self._command, self._environ = folder, command, environ
        self._stale, self._grace = stale, grace
        self._ports = PortPool()
        self._all: dict[str, Machine] = {}

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self._all.values()))

    def load(self) -> None:
        """Load the machines of earlier runs, all stopped. Raises FlyatcError."""
        path = self._folder / RECORDS
        try:
            records = msgspec.json.decode(path.read_bytes(), type=list[Record])
        except FileNotFoundError:
            return
        except (msgspec.MsgspecError, OSError) as error:
            raise FlyatcError(f"{path} cannot be read: {error}. Remove the folder to begin anew.") from error
        for record in records:
            record.port, record.private = self._ports.take(), self._ports.take()
            self._admit(record).state = "stopped"
        self.save()

    def create(
        self,
        app: str,
        region: str,
        metadata: Mapping[str, str],
        name: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> Machine:
        """Create a machine, not started yet. ``config``: as in the API."""
        names = {one.record.name for one in self}
        name = name or next(f"m{number}" for number in range(1, len(names) + 2) if f"m{number}" not in names)
        record = Record(
            id=secrets.token_hex(7), name=name, app=app, region=region, address=_address(), port=self._ports.take(),
            private=self._ports.take(), metadata=dict(metadata), config=dict(config or {}), created=time(),
        )  # fmt: skip
        one = self._admit(record)
        self.save()
        return one

    def save(self) -> None:
        self._write(RECORDS, [one.record for one in self])
        self._write(NETWORK, {one.record.address: f"127.0.0.1:{one.record.private}" for one in self})

    @property
    def network(self) -> Path:
        """File that maps private addresses to loopback ports, for the machines: see fly.environment."""
        return self._folder / NETWORK

    def _write(self, name: str, value: object) -> None:
        durable_files.make_folder(self._folder)
        beside = self._folder / f"{name}.new"
        beside.write_bytes(msgspec.json.encode(value))
        beside.replace(self._folder / name)

    async def destroy(self, one: Machine) -> None:
        await one.destroy()
        del self._all[one.record.id]
        for port in (one.record.port, one.record.private):
            self._ports.give_back(port)
        self.save()

    def get(self, machine: str) -> Machine | None:
        return self._all.get(machine)

    def named(self, name: str) -> Machine:
        """Return the machine with this id or name. Raises FlyatcError."""
        for one in self:
            if name in (one.record.id, one.record.name):
                return one
        raise FlyatcError(f"there is no machine {name}; flyatc sim ps lists them")

    def apps(self) -> set[str]:
        return {one.record.app for one in self}

    def seen(self) -> list[MachineView]:
        return [one.seen() for one in self]

    async def start_all(self) -> None:
        await tasks.every([one.start() for one in self], "start of a machine")

    async def stop_all(self) -> None:
        await tasks.every([_stop(one) for one in self], "stop of a machine")

    def _admit(self, record: Record) -> Machine:
        folder = self._folder / record.name
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(WITHHELD)},
            **(record.config.get("env") or {}),
            **self._environ(record, folder),
            **runtime_environment(record),
        }
        one = Machine(
            record, self._command(record, folder), environ, folder, grace=self._grace, stale=self._stale
        )  # fmt: skip
        self._all[record.id] = one
        return one


def runtime_environment(record: Record) -> dict[str, str]:
    """Return Fly's variables and PORT, since all machines share a host:
    https://fly.io/docs/machines/runtime-environment/."""
    return {
        "FLY_APP_NAME": record.app,
        "FLY_MACHINE_ID": record.id,
        "FLY_ALLOC_ID": record.id,
        "FLY_REGION": record.region,
        "FLY_PRIVATE_IP": record.address,
        "FLY_IMAGE_REF": f"registry.fly.io/{record.app}:simulated",
        "FLY_MACHINE_VERSION": "01SIMULATED00000000000000A",
        "FLY_PROCESS_GROUP": "app",
        "FLY_VM_MEMORY_MB": MEMORY,
        "PRIMARY_REGION": record.region,
        "PORT": str(record.port),
    }


async def _stop(one: Machine) -> None:
    try:
        await one.stop()
    except WrongState:  # it never ran
        await one.kill()


def _address() -> str:
    """Return a random 6PN address: fdaa, 32 bits of network, 32 of host, 32 of machine, 16 free
    (https://fly.io/docs/networking/private-networking/)."""
    random = secrets.token_hex(6)
    text = f"fdaa:0:51:a7b:{random[:4]}:{random[4:8]}:{random[8:]}:2"
    return str(ipaddress.IPv6Address(text))
