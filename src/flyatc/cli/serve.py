import os
from pathlib import Path

import click

from flyatc.cli import options
from flyatc.config import load
from flyatc.config.schema import ONLY


@click.command()
@options.config_file
@click.option("--user", metavar="USER", help="Serve him only; $CUSTOMER_ID does the same. Others are sent elsewhere.")
def serve(config_path: Path | None, user: str | None) -> int:
    """Run the daemon in the foreground.

    SIGTERM and Ctrl-C end it: visitors are served to the end, every tenant is saved and stopped. A second one hurries.
    SIGHUP reads the configuration again.
    """
    from flyatc import daemon

    if user is not None:
        os.environ[ONLY] = user  # what is started for him may look there too
    return daemon.run(load.find(config_path))
