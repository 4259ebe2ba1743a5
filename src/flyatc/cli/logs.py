from pathlib import Path

import click

from flyatc.cli import address, options, show
from flyatc.observe.readable import inert_json, readable


@click.command()
@click.argument("tenant", metavar="[USER[/TENANT]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", "number", type=click.IntRange(0, 10**8), default=100, show_default=True, metavar="N")
@options.config_file
@options.as_json
def logs(tenant: str | None, follow: bool, number: int, config_path: Path | None, as_json: bool) -> None:
    """Print the last lines of the log: the daemon's own, the requests, what the apps write.

    Readable on a terminal, JSON lines otherwise.
    """
    config = options.read(config_path)
    wanted = None if tenant is None else address.of(config, tenant)
    told = options.client(config).read_lines("/logs", address=wanted, lines=str(number), follow="1" if follow else None)
    for_people, none = show.on_terminal() and not as_json, True
    for line in told:
        none = False
        click.echo(readable(line, colour=show.in_colour()) if for_people else inert_json(line))
    if none and wanted is not None and number:
        click.echo(f"the daemon keeps no lines of {wanted}; flyatc status lists the tenants", err=True)
