"""The command copy: a database of a tenant as a file."""

from pathlib import Path

import click

from flyatc.cli import common, output
from flyatc.cli.databases import Time, chosen_version
from flyatc.control.client import Client
from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError
from flyatc.kit.units import human_size


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="DB")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--version", metavar="V", help="The version to copy: see flyatc history.")
@click.option(
    "--at", type=Time(), metavar="TIME", help="The newest of then: 2026-11-21T14:30:00Z, '2026-11-21 14:30', 2h."
)
@click.option("--orphan", metavar="NAME", help="What was set aside under this name: see flyatc orphans.")
@common.asks
def copy(tenant: str, database: str, file: Path, daemon: Client, **choice: str | float | None) -> None:
    """Write a copy of a tenant's database to FILE, which must not exist yet.

    Without an option it is the newest content, also while the app changes it. Nothing else is changed, and the app goes
    on. Folders of files are not copied.
    """
    chosen = {name: str(value) for name, value in chosen_version(choice).items()}
    wanted = common.asked(daemon, tenant)
    if str(file) in ("-", "."):  # an empty argument is the latter
        raise click.BadParameter("write the name of a file; ./- is one", param_hint="'FILE'")
    if file.exists():
        raise click.UsageError(f"{file} exists already")
    part = file.with_name(f"{file.name}.part")
    try:
        with open(part, "wb", opener=durable_files.open_private) as target:
            size = daemon.get_file("/copy", target, address=wanted, database=database, **chosen)
        part.rename(file)
    except OSError as error:
        raise FlyatcError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{output.plain(str(file))}: {human_size(size)}", err=True)
