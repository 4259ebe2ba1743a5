import asyncio
from pathlib import Path

import click

from flyatc.cli import options, show, users
from flyatc.cli.show import Cell

HEADINGS = ("MACHINE", "NAME", "REGION", "STATE", "USER", "VERSION", "HOLDS", "LAST SIGN", "NOTE")
_STYLES = {"started": "green", "stopped": "dim", "suspended": "yellow"}


@click.command()
@users.app
@options.config_file
@options.as_json
def machines(app_name: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the app's machines on Fly: whose they are, and which users they hold. FLY_API_TOKEN is needed."""
    from flyatc.daemon.users import listing

    seen = asyncio.run(users.look(options.read(config_path), app_name))
    found = listing.machines(seen)
    if as_json:
        return show.json(found)
    rows = [
        [
            Cell(one.machine, "bold"),
            Cell(one.name),
            Cell(one.region),
            Cell(one.state, _STYLES.get(one.state, "")),
            Cell(one.user),
            Cell(one.version),
            Cell(" ".join(one.holds)),
            users.sign(one.sign),
            Cell(one.note, "dim"),
        ]
        for one in found
    ]
    show.table(HEADINGS, rows)
    users.warn(seen)
    return None
