import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import address, options, show
from flyatc.cli.show import Cell
from flyatc.config.schema import Config
from flyatc.kit.units import human_seconds

if TYPE_CHECKING:
    from flyatc.daemon.owners import Owner

HEADINGS = ("USER", "STATE", "EPOCH", "MACHINE", "REGION", "LAST SIGN", "HERE", "NOTE")
_STYLES = {"held": "green", "released": "dim", "dirty": "bold red", "removed": "dim", "unknown": "yellow"}


@click.command()
@click.argument("user", metavar="[USER]", required=False)
@options.config_file
@options.as_json
def ownership(user: str | None, config_path: Path | None, as_json: bool) -> None:
    """List which machine may write each user's databases, and whether it lives. No daemon is needed."""
    config = options.read(config_path)
    found = asyncio.run(_look(config, None if user is None else address.user_of(config, user)))
    if as_json:
        return show.json(found)
    if found:
        show.table(HEADINGS, [row(one) for one in found])
    else:
        click.echo("no user has an owner yet" if user is None else f"nobody has ever owned {user}", err=True)


async def _look(config: Config, user: str | None) -> list["Owner"]:
    from flyatc.daemon import drills, owners

    async with drills.opened(config, os.environ, hurried=drills.PATIENCE) as store:
        users = [user] if user is not None else (await drills.stock(store, None)).users
        return await owners.look(config, os.environ, store, users)


def row(one: "Owner") -> list[Cell]:
    sign = "" if one.sign is None else f"{one.sign:.0f}s"
    return [
        Cell(one.user, "bold"),
        Cell(one.state, _STYLES.get(one.state, "")),
        Cell(str(one.epoch)),
        Cell(one.machine),
        Cell(one.region),
        Cell(f"{human_seconds(one.sign)} ago" if show.on_terminal() and one.sign is not None else sign),
        Cell("this machine" if show.on_terminal() and one.here else "yes" if one.here else ""),
        Cell(one.note, "dim"),
    ]
