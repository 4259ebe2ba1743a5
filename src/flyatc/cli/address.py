"""A tenant as people paste it: ``bellevue/2025/winter``, ``/bellevue/2025/winter/``, a page's whole URL."""

import click

from flyatc.config.schema import Config
from flyatc.control import explain
from flyatc.routing.route import Routes


def of(config: Config, pasted: str) -> str:
    """The address: ``bellevue/2025/winter``, or a user alone. Whether there is such a tenant is the daemon's to say."""
    text = pasted.strip()
    if "://" in text:
        found = explain.explain(config, Routes(config), text)
        if found.tenant is not None and found.name:  # deeper pages of a tenant; a user alone would be all his tenants
            return found.tenant
    if "://" in text or text.startswith("/"):
        text = explain.split(text)[0].removeprefix(config.server.root.rstrip("/") + "/")
    address = text.strip("/")
    if not address:
        raise click.BadParameter(f"{pasted!r} names no tenant: write one as bellevue/2025/winter")
    return address


def belongs(tenant: str, address: str) -> bool:
    """Whether a command for ``address`` was for this tenant too."""
    return tenant == address or tenant.startswith(f"{address}/")
