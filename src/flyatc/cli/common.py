"""What most commands take.

A tenant as people paste it: ``bellevue/2025/winter``, ``/bellevue/2025/winter/``, a page's whole URL.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.config import load
from flyatc.config.schema import Config

if TYPE_CHECKING:
    from flyatc.control.client import Client
from flyatc.config.schema import USER
from flyatc.control import explain
from flyatc.routing.route import Routes

config_file = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="FLYATC_CONFIG",
    metavar="FILE",
    help=f"Default: $FLYATC_CONFIG, ./{load.HERE}, then {load.SYSTEM}.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def read(path: Path | None) -> Config:
    """Raises ConfigError with every fault."""
    return load.load(load.find(path), os.environ)


def client(config: Config) -> "Client":
    from flyatc.control.client import Client  # http.client would cost each start of the daemon 30 ms

    return Client(config.server.data)


scope = click.argument("scope", metavar="[USER[/TENANT]]", required=False)


def of(config: Config, pasted: str) -> str:
    """The address: ``bellevue/2025/winter``, or a user alone. Whether there is such a tenant is the daemon's to say."""
    text = pasted.strip()
    if "://" in text:
        found = explain.explain(config, Routes(config), text)
        if found.tenant is not None and found.user is not None and (found.name or _alone(config, found.user)):
            return found.tenant  # also for a deeper page
    if "://" in text or text.startswith("/"):
        text = explain.split(text)[0].removeprefix(config.server.root.rstrip("/") + "/")
    address = text.strip("/")
    if not address:
        raise click.BadParameter(f"{pasted!r} names no tenant: write one as bellevue/2025/winter")
    return address


def of_scope(config: Config, pasted: str | None) -> str | None:
    """As ``of``; None: everything."""
    return None if pasted is None else of(config, pasted)


def named(scope: str | None) -> str:
    return scope or "everything"


def _alone(config: Config, user: str) -> bool:
    """Whether the user has no named tenants: his address then means himself, and not all of them."""
    listed = [one.name for one in config.tenants.values() if one.user == user]
    if not listed and config.pattern is not None:
        listed = [name for name, _ in config.pattern.tenants]
    return not any(listed)


def user_of(config: Config, pasted: str) -> str:
    """A user alone, also where a tenant of his was named."""
    user = of(config, pasted).partition("/")[0]
    if USER.fullmatch(user) is None:
        raise click.BadParameter(f"{pasted!r} names no user")
    return user


def within(tenant: str, scope: str | None) -> bool:
    """Whether what is said of a tenant, a user or (None) everything is said of this tenant."""
    return scope in (None, tenant, tenant.partition("/")[0])


def belongs(tenant: str, address: str) -> bool:
    """Whether a command for ``address`` was for this tenant too."""
    return tenant == address or tenant.startswith(f"{address}/")
