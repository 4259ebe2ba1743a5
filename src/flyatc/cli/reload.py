from pathlib import Path

import click
from msgspec import structs

from flyatc.cli import options, words
from flyatc.control.answers import Reloaded

_TOLD = {
    "added": "added",
    "removed": "removed, stopping",
    "changed": "changed, restarting when idle",
    "restart": "waits for a restart of the daemon",
}


@click.command()
@options.config_file
def reload(config_path: Path | None) -> None:
    """Have the daemon read tenants.yaml again, as SIGHUP does. A faulty file changes nothing."""
    reloaded = options.client(options.read(config_path)).post("/reload", Reloaded)
    found = {name: entries for name, entries in structs.asdict(reloaded).items() if entries}
    for name, entries in found.items():
        for entry in entries:
            click.echo(f"{words.plain(entry)}: {_TOLD[name]}")
    if not found:
        click.echo("reloaded: no tenant is added, removed or changed")
