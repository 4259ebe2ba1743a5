from pathlib import Path

import click

from flyatc.cli import address, options, words
from flyatc.control.answers import Cleared


@click.group()
def cache() -> None:
    """The answers which are kept in memory, for all tenants."""


@cache.command()
@address.scope
@options.config_file
def clear(scope: str | None, config_path: Path | None) -> None:
    """Forget the cached answers of a tenant, of all tenants of a user, or of all. What is on its way is not kept."""
    config = options.read(config_path)
    cleared = options.client(config).post("/cache/clear", Cleared, address=address.of_scope(config, scope))
    click.echo(f"{words.count(cleared.answers, 'answer')} forgotten")
