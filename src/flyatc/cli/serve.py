from pathlib import Path

import click

from flyatc.cli import options
from flyatc.config import load


@click.command()
@options.config_file
def serve(config_path: Path | None) -> int:
    """Run the daemon in the foreground.

    SIGTERM and Ctrl-C end it: visitors are served to the end, every tenant is saved and stopped. A second one hurries.
    SIGHUP reads the configuration again.
    """
    from flyatc import daemon

    return daemon.run(load.find(config_path))
