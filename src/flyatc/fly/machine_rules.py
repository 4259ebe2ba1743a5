"""Machine lists by user; names, configs and limits of new machines. Pure.

The config is described in https://fly.io/docs/machines/api/machines-resource/.
"""

import copy
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyatc.config.schema import USER, USER_VARIABLE
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


LEFT = "flyatc_left"  # key of the metadata that names the user moved away from a machine
_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_NOT_ITS_OWN = ("standbys", "schedule", "auto_destroy")  # settings not to be copied: a user's machine is permanent


def name_of(user: str) -> str:
    """Return the name of a user's machine, the same on every machine: Fly refuses a second machine of the same name
    (409), so two machines cannot both make one. ``user``: matches config.schema.USER."""
    if _PLAIN.fullmatch(user):
        return f"user-{user}"
    return f"user--{hashlib.sha256(user.encode()).hexdigest()[:24]}"


def clone(config: Mapping[str, Any], key: str, user: str, volumes: Sequence[str]) -> dict[str, Any]:
    """Return the config of a user's machine. ``config``: of this machine, from the API; ``volumes``: one for each
    mount. The metadata of ``fly deploy`` are kept, so that it updates the copy too. If this machine is bound to a user
    (flyatc serve --user), the copy is bound to ``user``."""
    made = {name: copy.deepcopy(value) for name, value in config.items() if name not in _NOT_ITS_OWN}
    made["metadata"] = {**(made.get("metadata") or {}), key: user}
    made["metadata"].pop(LEFT, None)
    if USER_VARIABLE in (made.get("env") or {}):
        made["env"][USER_VARIABLE] = user
    if volumes:
        pairs = zip(made["mounts"], volumes, strict=True)
        made["mounts"] = [{**mount, "volume": volume} for mount, volume in pairs]
    return made


def mounted(config: Mapping[str, Any]) -> list[str]:
    """Return the ids of a machine's volumes; each can be mounted by one machine only."""
    return [str(mount.get("volume", "")) for mount in config.get("mounts") or ()]


class Budget:
    """At most ``a_minute`` takes in any 60 seconds. ``now``: seconds."""

    def __init__(self, a_minute: int) -> None:
        self._most = a_minute
        self._taken: deque[float] = deque()

    def take(self, now: float) -> bool:
        while self._taken and now - self._taken[0] >= 60:
            self._taken.popleft()
        if len(self._taken) >= self._most:
            return False
        self._taken.append(now)
        return True
