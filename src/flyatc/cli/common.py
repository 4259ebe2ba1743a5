"""Options and arguments shared by commands; tenant addresses as people paste them."""

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
    """Load the configuration. Raises ConfigError with every fault."""
    return load.load(load.find(path), os.environ)


def client(config: Config) -> "Client":
    from flyatc.control.client import Client  # imported late: http.client would add 30 ms to each start of the daemon

    return Client(config.server.data)


scope = click.argument("scope", metavar="[USER[/TENANT]]", required=False)


def of(config: Config, pasted: str) -> str:
    """Address in ``bellevue/2025/winter``, ``/bellevue/2025/winter/``, a user alone, or a page's whole URL. The daemon
    checks that it exists."""
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
    """True if the user has no named tenants: the user's address then means that single tenant."""
    listed = [one.name for one in config.tenants.values() if one.user == user]
    if not listed and config.pattern is not None:
        listed = [name for name, _ in config.pattern.tenants]
    return not any(listed)


def user_of(config: Config, pasted: str) -> str:
    """The user of an address, without the tenant."""
    user = of(config, pasted).partition("/")[0]
    if USER.fullmatch(user) is None:
        raise click.BadParameter(f"{pasted!r} names no user")
    return user


def within(tenant: str, scope: str | None) -> bool:
    """True if the scope (a tenant, a user or None: everything) includes this tenant."""
    return scope in (None, tenant, tenant.partition("/")[0])


def belongs(tenant: str, address: str) -> bool:
    """True if a command for ``address`` applies to this tenant."""
    return tenant == address or tenant.startswith(f"{address}/")
