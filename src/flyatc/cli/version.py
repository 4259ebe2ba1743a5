import platform
from pathlib import Path

import click

from flyatc import __version__
from flyatc.cli import options
from flyatc.control.answers import Overview
from flyatc.kit.errors import FlyatcError


@click.command()
@options.config_file
def version(config_path: Path | None) -> None:
    """Print the version; and that of the running daemon, where it is another."""
    click.echo(f"flyatc {__version__} (Python {platform.python_version()})")
    try:
        daemon = options.client(options.read(config_path)).get("/status", Overview).daemon
    except FlyatcError:  # no configuration here, or no daemon: nothing more to tell
        return
    if daemon.version != __version__:
        click.echo(f"the running daemon is {daemon.version}: restart it")
