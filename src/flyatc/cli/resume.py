from pathlib import Path

import click

from flyatc.cli import address, options, words
from flyatc.control.answers import Resumed


@click.command()
@address.scope
@options.config_file
def resume(scope: str | None, config_path: Path | None) -> None:
    """Let go what was paused by that name; without a name, everything. Who waited is served, first come first."""
    config = options.read(config_path)
    wanted = address.of_scope(config, scope)
    released = options.client(config).post("/resume", Resumed, address=wanted).released
    name = address.named(wanted)
    told = (
        f"{name} was not paused" if released is None else f"{name} goes on; {words.count(released, 'request')} waited"
    )
    click.echo(told)
