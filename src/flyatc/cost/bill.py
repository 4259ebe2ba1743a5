"""The cost of a month for each user of a machine, from what it has used. Pure."""

import math
import re

from msgspec import Struct, structs

from flyatc.cost.prices import GB, MONTH, Prices
from flyatc.cost.usage import Machine, Usage, Use, UserUse
from flyatc.kit.errors import FlyatcError
from flyatc.kit.units import human_seconds

ROUGH = 86400.0  # s; a month computed from less than this is a rough figure
STREAM = 1.0  # s between two uploads of litestream, sync-interval
_SIZE = re.compile(r"(shared-cpu|performance)-([0-9]{1,2})x(?::([0-9]{3,6}))?")
_INCLUDED_MB = {"shared": 256, "performance": 2048}  # for each CPU


class Costs(Struct, kw_only=True):
    """Dollars a month."""

    machine: float = 0.0  # running
    disk: float = 0.0  # of the volume; for what is shared: also the root file system of a stopped machine
    store: float = 0.0
    calls: float = 0.0
    egress: float = 0.0

    @property
    def total(self) -> float:
        return self.machine + self.disk + self.store + self.calls + self.egress

    def add(self, other: "Costs") -> None:
        for name in Costs.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Row(Struct, kw_only=True):
    """A month of one user. ``memory``: bytes on average while its apps run; ``calls``: requests to the store;
    ``egress``: bytes. ``disk``, ``stored``: bytes now; None: not known."""

    hours: float = 0.0
    memory: float = 0.0
    disk: int = 0
    stored: int | None = None
    calls: float = 0.0
    requests: float = 0.0
    egress: float = 0.0
    costs: Costs
    total: float


class Bill(Struct, kw_only=True):
    """``shared``: idle memory, free disk, flyatc itself. ``rough``: computed from less than a day."""

    users: dict[str, Row]
    shared: Row
    total: float
    costs: Costs
    observed: float  # seconds
    since: str
    rough: bool
    machine: Machine
    elsewhere: dict[str, str]
    assumptions: list[str]


def size(text: str | None, region: str | None, machine: Machine) -> Machine:
    """The machine with another size, ``shared-cpu-1x:512`` (megabytes; none: those that are included), and in another
    region; None: its own. Raises FlyatcError."""
    if text is None:
        return structs.replace(machine, region=region or machine.region)
    match = _SIZE.fullmatch(text)
    cpus = int(match[2]) if match is not None else 0
    if match is None or not cpus:
        raise FlyatcError(f"{text!r} is no size of a machine: write shared-cpu-1x, shared-cpu-2x:2048, performance-1x")
    kind = match[1].removesuffix("-cpu")
    memory = int(match[3] or cpus * _INCLUDED_MB[kind])
    return structs.replace(machine, region=region or machine.region, kind=kind, cpus=cpus, memory_mb=memory, assumed=[])


def supposed(usage: Usage) -> Machine:
    """A machine on Fly for what runs here, which is not on Fly."""
    disk = sum(one.disk for one in usage.users.values())
    return Machine(
        app="", id="", region="iad", kind="shared", cpus=1, memory_mb=1024, volume_gb=max(1, math.ceil(disk / GB)),
        rootfs=0,
        assumed=["This is not Fly: the prices are those of one machine there, in iad, with the smallest volume that "
                 "holds the data. --machine and --region choose another."],
    )  # fmt: skip


def bill(usage: Usage, machine: Machine, prices: Prices) -> Bill:
    """Compute a month. The running machine is shared out by memory and time: a user whose apps have used half of its
    memory for half of the time costs a quarter. What is left is idle, and ``shared``. So is the volume, by bytes."""
    month = MONTH / usage.observed if usage.observed > 0 else 0.0
    memory_gb = machine.memory_mb / 1024
    running = prices.machine(machine.kind, machine.cpus, memory_gb, machine.region) * usage.up * month
    volume = machine.volume_gb * prices.volume_gb
    used, on_disk = (sum(getattr(one, name) for one in usage.users.values()) for name in ("memory", "disk"))
    capacity = max(memory_gb * GB * usage.up, used)  # apps that share memory may seem to use more than there is
    room = max(machine.volume_gb * GB, on_disk)
    rows, sum_of_costs = dict[str, Row](), Costs()
    for user, one in usage.users.items():
        costs = _counted(one, prices, machine.region, month)
        costs.machine = running * _part(one.memory, capacity)
        costs.disk = volume * _part(one.disk, room)
        costs.store = (one.stored or 0) / GB * prices.store_gb
        rows[user] = _row(one, costs, month)
        sum_of_costs.add(costs)
    shared_costs = _counted(usage.shared, prices, machine.region, month)
    shared_costs.machine = running * (1 - _part(used, capacity))
    stopped = max(0.0, 1 - usage.up * month / MONTH) if month else 0.0
    shared_costs.disk = volume * (1 - _part(on_disk, room)) + machine.rootfs / GB * prices.stopped_rootfs_gb * stopped
    sum_of_costs.add(shared_costs)
    return Bill(
        users=rows,
        shared=_row(usage.shared, shared_costs, month),
        total=sum_of_costs.total,
        costs=sum_of_costs,
        observed=usage.observed,
        since=usage.since,
        rough=usage.observed < ROUGH,
        machine=machine,
        elsewhere=usage.elsewhere,
        assumptions=_assumptions(usage, machine, prices, rows),
    )


def _part(some: float, whole: float) -> float:
    return some / whole if whole > 0 else 0.0


def _counted(use: Use, prices: Prices, region: str, month: float) -> Costs:
    calls = use.writes * prices.store_writes + use.reads * prices.store_reads
    egress = (use.sent + use.uploaded) / GB * prices.egress(region)
    return Costs(calls=calls / 1000 * month, egress=egress * month)


def _row(use: Use, costs: Costs, month: float) -> Row:
    return Row(
        hours=use.seconds / 3600 * month,
        memory=_part(use.memory, use.seconds),
        disk=use.disk if isinstance(use, UserUse) else 0,
        stored=use.stored if isinstance(use, UserUse) else None,
        calls=(use.writes + use.reads) * month,
        requests=use.requests * month,
        egress=(use.sent + use.uploaded) * month,
        costs=costs,
        total=costs.total,
    )


def _assumptions(usage: Usage, machine: Machine, prices: Prices, rows: dict[str, Row]) -> list[str]:
    rough = (
        ": a rough figure, as one start or save weighs too much in less than a day" if usage.observed < ROUGH else ""
    )
    volume = f"a volume of {machine.volume_gb} GB" if machine.volume_gb else "no volume"
    found = [
        f"A month has 30 days. It is computed from {human_seconds(usage.observed)} since {usage.since}, in which "
        f"flyatc ran {_part(usage.up, usage.observed):.0%} of the time{rough}.",
        f"The machine is priced as {_name(machine)} in {machine.region} with {volume}, for the time in which flyatc "
        f"runs{'; else only its root file system costs' if machine.rootfs else ''}.",
        *machine.assumed,
        "Its price is shared out by the memory that the apps of a user hold, and for how long. The rest, such as free "
        "memory and flyatc itself, is idle or shared. So is the price of its volume, by bytes.",
    ]
    here = [user for user, one in rows.items() if one.hours or one.disk]
    if len(here) == 1:
        found.append(f"{here[0]} is the only user of this machine, and so costs what is idle or shared as well.")
    if machine.region not in prices.regions:
        found.append(f"The prices have no region {machine.region}: those of iad are taken.")
    found += [
        "Egress is all that is sent to clients, and what flyatc uploads, which Fly counts as well: all at the price of "
        "traffic to the internet. What apps themselves send elsewhere is not known.",
        "Calls are the requests of flyatc to the store that have a result; the others cost nothing.",
    ]
    if usage.streams:
        dollars = MONTH / STREAM / 1000 * prices.store_writes
        found.append(
            "The calls and uploads of litestream are not counted. It sends one a second for a database that is written "
            f"all the time, which would be ${dollars:.2f} a month for each."
        )
    return [
        *found,
        "Not in it: free allowances, reservations, taxes, snapshots of volumes, addresses, certificates, support.",
        f"Prices in US dollars ({prices.date}): {', '.join(prices.sources)}. --prices FILE replaces them.",
        *usage.notes,
    ]


def _name(machine: Machine) -> str:
    kind = "shared-cpu" if machine.kind == "shared" else machine.kind
    return f"{kind}-{machine.cpus}x with {machine.memory_mb} MB"
