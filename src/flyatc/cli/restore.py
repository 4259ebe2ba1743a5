import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from flyatc.cli import address, moments, options, progress, versions


class Time(click.ParamType[float]):
    """→ Unix time."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return moments.unix(value, time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@click.option("--list", "only_list", is_flag=True, help="As flyatc history: print the versions, change nothing.")
@click.option("--version", metavar="V", help="The version to bring back; without any, the current one of the store.")
@click.option(
    "--at", type=Time(), metavar="TIME", help="The newest of then: 2026-11-21T14:30:00Z, '2026-11-21 14:30', 2h."
)
@click.option("--orphan", metavar="NAME", help="What was set aside under this name: see flyatc orphans.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@options.config_file
@options.as_json
def restore(
    tenant: str,
    database: str | None,
    only_list: bool,
    yes: bool,
    config_path: Path | None,
    as_json: bool,
    **choice: str | float | None,
) -> int:
    """Put a version from the store in place of a tenant's databases, or of the one called DB.

    A running app is stopped first and started after. What is replaced stays in the store's history.
    """
    chosen = {name: value for name, value in choice.items() if value is not None}
    if len(chosen) > 1:
        raise click.UsageError("--version, --at and --orphan: one of them at most")
    config = options.read(config_path)
    wanted = address.of(config, tenant)
    daemon = options.client(config)
    if not only_list:
        if not (yes or _agreed(wanted, database, chosen)):
            click.echo("nothing was changed", err=True)
            return 1
        lines = daemon.post_lines("/restore", address=wanted, database=database, **chosen)
        progress.watch(lines, quiet=as_json)
    history = versions.ask(daemon, wanted, database)
    versions.tell(history if only_list else versions.current(history), as_json=as_json)
    return 0


def _agreed(address: str, database: str | None, chosen: Mapping[str, str | float]) -> bool:
    if not sys.stdin.isatty():
        return True
    what = database or "all databases"
    return click.confirm(f"Replace {what} of {address} by {_named(chosen)}? Its visitors wait meanwhile.", err=True)


def _named(chosen: Mapping[str, str | float]) -> str:
    match chosen:
        case {"version": version}:
            return f"version {version}"
        case {"at": float(at)}:
            return f"the newest version of {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(at))}"
        case {"orphan": name}:
            return f"what was set aside as {name}"
    return "the store's current version"
