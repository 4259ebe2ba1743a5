from pathlib import Path

import click

from flyatc.cli import address, options, progress, versions


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@options.config_file
@options.as_json
def backup(tenant: str, database: str | None, config_path: Path | None, as_json: bool) -> None:
    """Save a tenant's databases to the store now, or the one called DB. A running app goes on meanwhile.

    Prints the versions which the store then has as the current ones.
    """
    config = options.read(config_path)
    wanted = address.of(config, tenant)
    daemon = options.client(config)
    progress.watch(daemon.post_lines("/backup", address=wanted, database=database), quiet=as_json)
    versions.tell(versions.current(versions.ask(daemon, wanted, database)), as_json=as_json)
