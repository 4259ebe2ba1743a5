"""Name and config of a user's new machine, and the limit on making them. Pure.

The config is described in https://fly.io/docs/machines/api/machines-resource/.
"""

import copy
import hashlib
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from flyatc.config.schema import USER_VARIABLE

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
