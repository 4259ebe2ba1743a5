"""What most commands take."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.config import load
from flyatc.config.schema import Config

if TYPE_CHECKING:
    from flyatc.control.client import Client

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
    """Raises ConfigError with every fault."""
    return load.load(load.find(path), os.environ)


def client(config: Config) -> "Client":
    from flyatc.control.client import Client  # http.client would cost each start of the daemon 30 ms

    return Client(config.server.data)
