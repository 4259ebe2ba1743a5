"""A machine for one more user: what it is called, how it is made of this one's config, and how many there may be. Pure.

https://fly.io/docs/machines/api/machines-resource/ has the config."""

import copy
import hashlib
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from flyatc.config.schema import ONLY

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
    if ONLY in (made.get("env") or {}):
        made["env"][ONLY] = user
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
