"""Where requests go: a tenant, with all about it that depends on the configuration only. Worked out once."""

from flyatc.config.schema import Config
from flyatc.delivery.files import x_sendfile
from flyatc.edge.app_delivery import AppDelivery
from flyatc.routing import route
from flyatc.tenants.tenant import Tenant


class ServedApp:
    """The app that a request belongs to.

    ``delivery``: what is done to its responses; ``offer``: header lines that offer X-Sendfile to the app; ``forward``:
    whether X-Forwarded-* of the client are passed on, ``on_fly``: but not those of machines on the private network;
    ``stripped``: the prefix removed from the path, None if it stays; ``beside``: whether there is a dashboard, whose
    cookies are removed."""

    __slots__ = ("beside", "delivery", "forward", "offer", "on_fly", "stripped")

    def __init__(
        self,
        delivery: AppDelivery,
        *,
        forward: bool,
        on_fly: bool,
        stripped: bytes | None = None,
        beside: bool = False,
    ) -> None:
        self.beside = beside
        self.delivery = delivery
        self.offer = x_sendfile.OFFER if delivery.app.delivery.sendfile.enabled else b""
        self.forward, self.on_fly, self.stripped = forward, on_fly, stripped


class ServedTenant(ServedApp):
    """The tenant that a request belongs to. ``spec``: the tenant's, when this was made; ``found``: its route."""

    __slots__ = ("address", "found", "spec", "tenant", "user")

    def __init__(
        self, found: route.Here, tenant: Tenant, delivery: AppDelivery, config: Config, *, on_fly: bool
    ) -> None:
        spec = tenant.spec
        super().__init__(
            delivery,
            forward=config.server.forward_headers,
            on_fly=on_fly,
            stripped=found.prefix if spec.app.strip_prefix else None,
            beside=config.dashboard is not None,
        )
        self.found, self.tenant, self.spec = found, tenant, spec
        self.user, self.address = found.user, spec.address
