"""Volumes: records only, since a machine's folder is its disk. Pure.

https://fly.io/docs/machines/api/volumes-resource/; one volume for one machine, in one region:
https://fly.io/docs/volumes/overview/"""

import secrets

from msgspec import Struct


class Volume(Struct):
    id: str
    name: str
    region: str
    size_gb: int
    state: str = "created"
    attached_machine_id: str | None = None


class Volumes:
    """Of one simulator: they end with it, as the config of machines which were made by the API does."""

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
        """The machine is gone; its volumes stay."""
        for _, one in self._all.values():
            if one.attached_machine_id == machine:
                one.attached_machine_id = None
