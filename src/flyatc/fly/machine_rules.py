"""All machines of the app, as the Machines API lists them, by the user in their metadata. Pure.

A machine for one more user: what it is called, how it is made of this one's config, and how many there may be. Pure.

https://fly.io/docs/machines/api/machines-resource/ has the config.
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


LEFT = "flyatc_left"  # the key of metadata which names the user who was moved away from a machine
_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_NOT_ITS_OWN = ("standbys", "schedule", "auto_destroy")  # of what it is a copy of; a user's machine stays


def name_of(user: str) -> str:
    """The same on every machine: Fly lets an app have one machine of a name (409), so that two which make one for the
    same user at once do not make two. ``user``: as config.schema.USER has it."""
    if _PLAIN.fullmatch(user):
        return f"user-{user}"
    return f"user--{hashlib.sha256(user.encode()).hexdigest()[:24]}"


def clone(config: Mapping[str, Any], key: str, user: str, volumes: Sequence[str]) -> dict[str, Any]:
    """``config``: of this machine, as the API tells it; ``volumes``: one for each of its mounts. What ``fly deploy``
    knows its machines by stays in the metadata, so that it updates this one with the others. Where this machine is
    told whose it is (flyatc serve --user), so is the other."""
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
    """The volumes of a machine, by id: each can be mounted by one machine only."""
    return [str(mount.get("volume", "")) for mount in config.get("mounts") or ()]


class Budget:
    """So many in a minute. ``now``: seconds."""

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
