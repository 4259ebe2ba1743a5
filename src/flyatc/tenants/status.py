"""What people are told of a tenant."""

from msgspec import Struct

from flyatc.tenants.lifecycle import State


class Status(Struct, frozen=True, kw_only=True):
    """Times are RFC 3339 in UTC."""

    tenant: str  # its address
    user: str
    state: State
    pid: int | None = None
    port: int | None = None
    queued: int | None = None  # place in line for limits.starting: 1 is the next
    visitors: int = 0  # in flight, and waiting to be served
    since: str  # when the state last changed
    idle_at: str | None = None  # when it will be stopped if nobody comes
    starts: int = 0
    crashes: int = 0
    last_exit: str | None = None
    reason: str | None = None  # of the last life's failure
    unsaved: bool = False  # the local copy may have something which the store has not
    saved_at: str | None = None
    lag: float | None = None  # seconds since the store had everything; None: nothing runs
    octets: int | None = None  # of the local databases
    renewed: dict[str, str] = {}  # databases of which litestream had to send all again, and why the last time
    epoch: int | None = None  # of the ownership
    alarms: list[str] = []  # of its databases: what the operator should know
    gauges: dict[str, float] = {}  # of its databases: numbers for /metrics
    restart_pending: bool = False  # runs with a former configuration until it is idle
