"""Rate limits and volumes of the Machines API. Pure; times are seconds.

Limits: https://fly.io/docs/machines/api/working-with-machines-api/
Volumes are records only, since a machine's folder is its disk: https://fly.io/docs/machines/api/volumes-resource/
One volume is for one machine in one region: https://fly.io/docs/volumes/overview/
"""

import secrets

from msgspec import Struct

USUAL = (1.0, 3.0)  # per second, and in a burst; for each action and machine or app
GET_MACHINE = (5.0, 10.0)


class Rates:
    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}  # (tokens left, time)

    def allows(self, action: str, subject: str, now: float) -> bool:
        """Take a token from the bucket; return False if it is empty."""
        rate, burst = GET_MACHINE if action == "get" else USUAL
        left, when = self._buckets.get((action, subject), (burst, now))
        left = min(burst, left + (now - when) * rate)
        allowed = left >= 1
        self._buckets[action, subject] = (left - 1 if allowed else left, now)
        return allowed


class Volume(Struct):
    id: str
    name: str
    region: str
    size_gb: int
    state: str = "created"
    attached_machine_id: str | None = None


class Volumes:
    """The volumes of one simulator; they end with it."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[str, Volume]] = {}

    def create(self, app: str, name: str, region: str, size_gb: int) -> Volume:
        one = Volume(f"vol_{secrets.token_hex(8)}", name, region, size_gb)
        self._all[one.id] = app, one
        return one

    def find(self, app: str, volume: str) -> Volume | None:
        of, one = self._all.get(volume, ("", None))
        return one if of == app else None

    def of(self, app: str) -> list[Volume]:
        return [one for of, one in self._all.values() if of == app]

    def remove(self, volume: str) -> None:
        self._all.pop(volume, None)

    def detach(self, machine: str) -> None:
        """Detach the volumes of a destroyed machine; they remain."""
        for _, one in self._all.values():
            if one.attached_machine_id == machine:
                one.attached_machine_id = None
