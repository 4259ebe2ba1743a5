import sys
from pathlib import Path

import click

from flyatc.cli import address, options, progress, versions
from flyatc.control.answers import History


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@click.option("--list", "only_list", is_flag=True, help="Print the kept versions, newest first, and change nothing.")
@click.option("--version", metavar="V", help="The version to bring back; without it, the current one of the store.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@options.config_file
@options.as_json
def restore(
    tenant: str,
    database: str | None,
    only_list: bool,
    version: str | None,
    yes: bool,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Put a version from the store in place of a tenant's databases, or of the one called DB.

    A running app is stopped first and started after. What is replaced stays in the store's history.
    """
    config = options.read(config_path)
    wanted = address.of(config, tenant)
    daemon = options.client(config)
    if not only_list:
        if not (yes or _agreed(wanted, database, version)):
            click.echo("nothing was changed", err=True)
            return 1
        lines = daemon.post_lines("/restore", address=wanted, database=database, version=version)
        progress.watch(lines, quiet=as_json)
    history = daemon.get("/history", History, address=wanted, database=database)
    versions.tell(history if only_list else versions.current(history), as_json=as_json)
    return 0


def _agreed(address: str, database: str | None, version: str | None) -> bool:
    if not sys.stdin.isatty():
        return True
    what = database or "all databases"
    which = f"version {version}" if version is not None else "the store's current version"
    return click.confirm(f"Replace {what} of {address} by {which}? Its visitors wait meanwhile.", err=True)
