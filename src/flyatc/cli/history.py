from pathlib import Path

import click

from flyatc.cli import address, options, versions


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@options.config_file
@options.as_json
def history(tenant: str, database: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the kept versions of a tenant's databases, newest first. flyatc restore brings any of them back."""
    config = options.read(config_path)
    found = versions.ask(options.client(config), address.of(config, tenant), database)
    versions.tell(found, as_json=as_json)
