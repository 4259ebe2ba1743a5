from pathlib import Path

import click

from flyatc.cli import address, options, words
from flyatc.control.answers import Cleared


@click.group()
def cache() -> None:
    """The answers which are kept in memory, for all tenants."""


@cache.command()
@click.argument("tenant", metavar="[USER[/TENANT]]", required=False)
@options.config_file
def clear(tenant: str | None, config_path: Path | None) -> None:
    """Forget the cached answers of a tenant, of all tenants of a user, or of all. What is on its way is not kept."""
    config = options.read(config_path)
    wanted = None if tenant is None else address.of(config, tenant)
    cleared = options.client(config).post("/cache/clear", Cleared, address=wanted)
    click.echo(f"{words.count(cleared.answers, 'answer')} forgotten")
