from pathlib import Path

import click

from flyatc.cli import address, options
from flyatc.control.answers import Switched


@click.group()
def maintenance() -> None:
    """Closed for maintenance: visitors get 503 and a page; static files and health checks are still answered."""


@maintenance.command()
@address.scope
@click.option("--message", metavar="TEXT", help="What visitors are told.")
@options.config_file
def on(scope: str | None, message: str | None, config_path: Path | None) -> None:
    """Close a tenant, all of a user, or everything. It stays so over a restart."""
    config = options.read(config_path)
    wanted = address.of_scope(config, scope)
    options.client(config).post("/maintenance", Switched, address=wanted, message=message, closed=True)
    click.echo(f"{address.named(wanted)} is closed for maintenance")


@maintenance.command()
@address.scope
@options.config_file
def off(scope: str | None, config_path: Path | None) -> None:
    """Open again what was closed by that name; without a name, everything."""
    config = options.read(config_path)
    wanted = address.of_scope(config, scope)
    was = options.client(config).post("/maintenance", Switched, address=wanted, message=None, closed=False).changed
    click.echo(f"{address.named(wanted)} is open" if was else f"{address.named(wanted)} was not closed")
