import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import address, options, show, versions, words
from flyatc.cli.show import Cell

if TYPE_CHECKING:
    from flyatc.daemon.asides import Orphan

HEADINGS = ("TENANT", "DATABASE", "SET ASIDE", "SIZE", "STORED", "HERE", "TO GET IT BACK")


@click.command()
@address.scope
@options.config_file
@options.as_json
def orphans(scope: str | None, config_path: Path | None, as_json: bool) -> None:
    """List what was set aside: local copies which another version has taken the place of.

    They are on this machine, and in the store as well. flyatc never removes them: what you need no more, delete.
    No daemon is needed; it takes one to get something back.
    """
    from flyatc.daemon import asides

    config = options.read(config_path)
    found = asyncio.run(asides.find(config, os.environ, address.of_scope(config, scope)))
    if as_json:
        return show.json(found)
    if found:
        now = time.time() if show.on_terminal() else None
        show.table(HEADINGS, [row(one, now) for one in found])
    else:
        click.echo("nothing was set aside", err=True)


def row(one: "Orphan", now: float | None) -> list[Cell]:
    """``now`` None: for programs."""
    at = one.at or ""
    return [
        Cell(one.tenant, "bold"),
        Cell(one.database),
        Cell(at if now is None or not at else words.ago(at, now)),
        Cell(versions.size(one.size, now)),
        Cell(versions.size(one.stored, now), "dim"),
        Cell(one.path or ""),
        Cell(f"flyatc restore {one.tenant} {one.database} --orphan {one.name}"),
    ]
