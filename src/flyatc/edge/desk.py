"""What delivers the answers of one app: made once, used by all of its requests."""

import secrets

from flyatc.config.delivery import Compression
from flyatc.config.schema import App, Tenant
from flyatc.delivery.encoders import Encoders

MOST = 4096  # desks kept; users by pattern are without number


class Desk:
    """``compression``: None where it is switched off."""

    __slots__ = ("app", "compression", "encoders")

    def __init__(self, app: App, encoders: Encoders) -> None:
        self.app, self.encoders = app, encoders
        settings = app.delivery.compression
        self.compression: Compression | None = settings if settings.enabled and settings.codings else None


class Desks:
    """One for the daemon: it makes the desks when they are needed."""

    def __init__(self) -> None:
        self._encoders = Encoders(secrets.token_bytes(32))
        self._made: dict[str, tuple[Tenant, Desk]] = {}

    def of(self, tenant: Tenant) -> Desk:
        """By the tenant's present settings."""
        found = self._made.get(tenant.address)
        if found is not None and found[0] is tenant:
            return found[1]
        if len(self._made) >= MOST:
            self._made.clear()
        desk = Desk(tenant.app, self._encoders)
        self._made[tenant.address] = tenant, desk
        return desk

    def alone(self, app: App) -> Desk:
        """For an app without tenants."""
        return Desk(app, self._encoders)
