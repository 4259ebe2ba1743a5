"""Leases on machines: who has one may change the machine, others get 409. Pure; times are Unix seconds.

https://fly.io/docs/machines/api/machines-resource/
"""

import secrets

from msgspec import Struct


class Lease(Struct, frozen=True):
    nonce: str
    expires_at: int
    owner: str
    description: str


class Leases:
    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}

    def find(self, machine: str, now: float) -> Lease | None:
        found = self._held.get(machine)
        return found if found is not None and found.expires_at > now else None

    def allows(self, machine: str, nonce: str | None, now: float) -> bool:
        found = self.find(machine, now)
        return found is None or found.nonce == nonce

    def take(self, machine: str, nonce: str | None, description: str, ttl: int, now: float) -> Lease | None:
        """A new one, or with its nonce the same one for longer. None: it is another's."""
        if not self.allows(machine, nonce, now):
            return None
        found = self.find(machine, now)
        kept = found.nonce if found is not None else secrets.token_hex(6)
        self._held[machine] = lease = Lease(kept, int(now) + ttl, "sim@flyatc", description)
        return lease

    def release(self, machine: str) -> None:
        self._held.pop(machine, None)
