"""The machines of the app, by user. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flyatc.config.schema import USER
from flyatc.config.schema_sections import MACHINE
from flyatc.fly.api_types import GONE, Machine

LEAST, MOST = 3.0, 30.0  # seconds for which a list is used


@dataclass(frozen=True, slots=True)
class Listing:
    """All machines of the app. ``states``: by id; ``users``: ids of each user's machines, oldest first; ``at``: time of
    the list, in seconds of the loop."""

    states: dict[str, str]
    users: dict[str, tuple[str, ...]] = field(default_factory=dict)
    at: float = 0.0

    @property
    def good_for(self) -> float:
        """Seconds for which to use the list: the API allows one such request a second from all machines of the app
        together, and each running machine may need one for unknown users."""
        running = sum(state == "started" for state in self.states.values())
        return max(LEAST, min(MOST, float(running)))

    def strike(self, machine: str) -> None:
        """Remove a machine that is gone."""
        if self.states.pop(machine, None) is not None:
            for user in [user for user, machines in self.users.items() if machine in machines]:
                left = tuple(one for one in self.users.pop(user) if one != machine)
                self.users.update({user: left} if left else {})


def listing(machines: Iterable[Machine], key: str, at: float) -> Listing:
    """Build a list. ``key``: of the metadata that names a machine's user. Machines being destroyed are left out."""
    states: dict[str, str] = {}
    users: dict[str, tuple[str, ...]] = {}
    for one in oldest_first(machines):
        states[one.id] = one.state
        user = one.metadata.get(key)
        if user is not None and USER.fullmatch(user):
            users[user] = (*users.get(user, ()), one.id)
    return Listing(states, users, at)


def oldest_first(machines: Iterable[Machine]) -> list[Machine]:
    """Sort by creation, the same on every machine: of two made at once for one user, the first one stays."""
    alive = (one for one in machines if one.state not in GONE and MACHINE.fullmatch(one.id))
    return sorted(alive, key=lambda one: (one.created_at, one.id))
