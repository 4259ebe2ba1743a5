"""Options and arguments shared by commands; tenant addresses as people paste them."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from flyatc.config import document

if TYPE_CHECKING:
    from flyatc.config.schema import Config  # which commands that ask the daemon need not load
    from flyatc.control.client import Client  # which the daemon need not load: http.client and email take 0.7 MB

T = TypeVar("T")

config_file = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="FLYATC_CONFIG",
    metavar="FILE",
    help=f"Default: $FLYATC_CONFIG, ./{document.HERE}, then {document.SYSTEM}.",
)
_data_folder = click.option(
    "--data",
    "data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The running daemon's server.data. Default: $FLYATC_DATA, then what the file says.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def asks(command: Callable[..., T]) -> Callable[..., T]:
    """Decorate a command that asks the running daemon: it gets a Client as ``daemon``. Of tenants.yaml only server.data
    is read, so that neither a fault in it nor an unset variable stops the command."""

    @_data_folder
    @config_file
    @functools.wraps(command)
    def asking(*arguments: object, config_path: Path | None, data: Path | None, **more: object) -> T:
        from flyatc.control.client import Client

        folder = str(data.absolute()) if data is not None else document.data_folder(config_path, os.environ)
        return command(*arguments, daemon=Client(folder), **more)

    return asking


def read(path: Path | None, *, starts_apps: bool = False) -> "Config":
    """Load the configuration; variables of the apps may be missing, unless it ``starts_apps``. Raises ConfigError with
    every fault."""
    from flyatc.config import load

    return load.load(document.find(path), os.environ, starts_apps=starts_apps)


def client(config: "Config") -> "Client":
    from flyatc.control.client import Client

    return Client(config.server.data)


scope = click.argument("scope", metavar="[USER[/TENANT]]", required=False)


def of(config: "Config", pasted: str) -> str:
    """Return the address that is meant (control.route_explanation.address), by the file."""
    from flyatc.control import route_explanation
    from flyatc.routing.route import Routes

    return _named_by(pasted, route_explanation.address(config, Routes(config), pasted))


def of_scope(config: "Config", pasted: str | None) -> str | None:
    """As ``of``; None: everything."""
    return None if pasted is None else of(config, pasted)


def asked(daemon: "Client", pasted: str) -> str:
    """Return the address that is meant, by the daemon's configuration. Plain addresses need no daemon."""
    text = pasted.strip()
    if "://" not in text and not text.startswith("/"):
        return _named_by(pasted, text.strip("/") or None)
    from flyatc.control.types import Address

    return _named_by(pasted, daemon.get("/address", Address, pasted=text).address)


def asked_scope(daemon: "Client", pasted: str | None) -> str | None:
    """As ``asked``; None: everything."""
    return None if pasted is None else asked(daemon, pasted)


def _named_by(pasted: str, address: str | None) -> str:
    if address is None:
        raise click.BadParameter(f"{pasted!r} names no tenant: write one as bellevue/2025/winter")
    return address


def named(scope: str | None) -> str:
    return scope or "everything"


def user_of(config: "Config", pasted: str) -> str:
    """The user of an address, without the tenant."""
    from flyatc.config.schema import USER

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
