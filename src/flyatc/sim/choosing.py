"""Which machine Fly Proxy sends a request to. Pure.

https://fly.io/docs/networking/dynamic-request-routing/, https://fly.io/docs/reference/load-balancing/ and
https://fly.io/docs/reference/fly-proxy-autostop-autostart/.
"""

from collections.abc import Sequence

from msgspec import Struct

from flyatc.sim.replay import Replay

ALIASES = {
    "na": "atl bos den dfw ewr iad lax mia ord phx sea sjc yul yyz qro gdl",
    "us": "atl bos den dfw ewr iad lax mia ord phx sea sjc",
    "eu": "ams arn cdg fra lhr mad otp waw",
    "sa": "bog eze gig gru scl",
    "apac": "bom hkg nrt sin syd",
}
ANYWHERE = "any"
RUNNING = "started"
STARTABLE = frozenset(("stopped", "suspended", "suspending"))  # created, replacing: PM07; stopping, destroyed: PM08


class Seen(Struct, frozen=True):
    """A machine as the proxy sees it, which may be as it was a while ago. ``load``: requests in flight."""

    id: str
    app: str
    region: str
    state: str
    autostart: bool = True
    cordoned: bool = False
    load: int = 0

    @property
    def usable(self) -> bool:
        return self.state == RUNNING or (self.autostart and self.state in STARTABLE)


def candidates(machines: Sequence[Seen], want: Replay, edge: str, origin: str | None) -> list[Seen]:
    """Best first; ``want.app`` is filled in. ``edge``: the region where the visitor came in; ``origin``: the machine
    that replayed."""
    found = [m for m in machines if m.app == want.app and m.usable and not m.cordoned]
    if want.instance:
        found = [m for m in found if m.id == want.instance]
    if want.elsewhere:
        found = [m for m in found if m.id != origin]
    if want.regions:
        found = [m for m in found if _rank(m, want.regions) is not None]

    def best_first(machine: Seen) -> tuple[bool, int, bool, bool, int, str]:
        return (
            machine.id != want.prefer_instance,
            _rank(machine, want.regions) or 0,
            machine.state != RUNNING,
            machine.region != edge,
            machine.load,
            machine.id,
        )

    return sorted(found, key=best_first)


def _rank(machine: Seen, regions: Sequence[str]) -> int | None:
    """The place of the first wanted region that the machine is in. None: it is in none of them."""
    for place, region in enumerate(regions):
        if region in (ANYWHERE, machine.region) or machine.region in ALIASES.get(region, "").split():
            return place
    return None
