"""All machines of the app, as the Machines API lists them, by the user in their metadata. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flyatc.config.platform import MACHINE
from flyatc.config.schema import USER
from flyatc.fly.api_shapes import GONE, Machine

LEAST, MOST = 3.0, 30.0  # seconds for which it is good


@dataclass(frozen=True, slots=True)
class Listing:
    """``states``: by id; ``users``: the ids of each one's machines, in the order in which they were made; ``at``: when,
    in seconds of the loop."""

    states: dict[str, str]
    users: dict[str, tuple[str, ...]] = field(default_factory=dict)
    at: float = 0.0

    @property
    def good_for(self) -> float:
        """The API takes one such question a second, of all machines of the app together; and each of those which run
        may be asked for users whom it does not know."""
        running = sum(state == "started" for state in self.states.values())
        return max(LEAST, min(MOST, float(running)))

    def strike(self, machine: str) -> None:
        """It is gone since."""
        if self.states.pop(machine, None) is not None:
            for user in [user for user, machines in self.users.items() if machine in machines]:
                left = tuple(one for one in self.users.pop(user) if one != machine)
                self.users.update({user: left} if left else {})


def listing(machines: Iterable[Machine], key: str, at: float) -> Listing:
    """``key``: of the metadata which names a machine's user. What is on its way out does not count."""
    states: dict[str, str] = {}
    users: dict[str, tuple[str, ...]] = {}
    for one in oldest_first(machines):
        states[one.id] = one.state
        user = one.metadata.get(key)
        if user is not None and USER.fullmatch(user):
            users[user] = (*users.get(user, ()), one.id)
    return Listing(states, users, at)


def oldest_first(machines: Iterable[Machine]) -> list[Machine]:
    """The same order for all who look: of two which were made at once for one user, the first is to stay."""
    alive = (one for one in machines if one.state not in GONE and MACHINE.fullmatch(one.id))
    return sorted(alive, key=lambda one: (one.created_at, one.id))
