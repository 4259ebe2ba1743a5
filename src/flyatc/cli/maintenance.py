from pathlib import Path

import click

from flyatc.cli import address, options
from flyatc.control.answers import Switched


@click.group()
def maintenance() -> None:
    """Closed for maintenance: visitors get 503 and a page; static files and health checks are still answered."""


@maintenance.command()
@click.argument("tenant", metavar="[USER[/TENANT]]", required=False)
@click.option("--message", metavar="TEXT", help="What visitors are told.")
@options.config_file
def on(tenant: str | None, message: str | None, config_path: Path | None) -> None:
    """Close a tenant, all of a user, or everything. It stays so over a restart."""
    config = options.read(config_path)
    wanted = None if tenant is None else address.of(config, tenant)
    options.client(config).post("/maintenance", Switched, address=wanted, message=message, closed=True)
    click.echo(f"{wanted or 'everything'} is closed for maintenance")


@maintenance.command()
@click.argument("tenant", metavar="[USER[/TENANT]]", required=False)
@options.config_file
def off(tenant: str | None, config_path: Path | None) -> None:
    """Open again what was closed by that name; without a name, everything."""
    config = options.read(config_path)
    wanted = None if tenant is None else address.of(config, tenant)
    was = options.client(config).post("/maintenance", Switched, address=wanted, message=None, closed=False).changed
    name = wanted or "everything"
    click.echo(f"{name} is open" if was else f"{name} was not closed")
