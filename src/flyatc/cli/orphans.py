"""The commands orphans and verify."""

import asyncio
import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, databases, output
from flyatc.cli.output import Cell
from flyatc.config.schema import Config
from flyatc.kit.units import human_octets

if TYPE_CHECKING:
    from flyatc.admin.store_access import Orphan
    from flyatc.databases.verify import Verdict

HEADINGS = ("TENANT", "DATABASE", "SET ASIDE", "SIZE", "STORED", "HERE", "TO GET IT BACK")


@click.command()
@common.scope
@common.config_file
@common.as_json
def orphans(scope: str | None, config_path: Path | None, as_json: bool) -> None:
    """List orphans: local copies which were replaced by another version.

    They are on this machine, and in the store as well. flyatc never removes them: delete what you no longer need.
    No daemon is needed to list them, but to restore one.
    """
    from flyatc.admin import store_access

    config = common.read(config_path)
    found = asyncio.run(store_access.find_orphans(config, os.environ, common.of_scope(config, scope)))
    if as_json:
        return output.json(found)
    if found:
        now = time.time() if output.on_terminal() else None
        output.table(HEADINGS, [row(one, now) for one in found])
    else:
        click.echo("nothing was set aside", err=True)


def row(one: "Orphan", now: float | None) -> list[Cell]:
    """``now`` None: for programs."""
    at = one.at or ""
    return [
        Cell(one.tenant, "bold"),
        Cell(one.database),
        Cell(at if now is None or not at else output.ago(at, now)),
        Cell(databases.size(one.size, now)),
        Cell(databases.size(one.stored, now), "dim"),
        Cell(one.path or ""),
        Cell(f"flyatc restore {one.tenant} {one.database} --orphan {one.name}"),
    ]


COLOURS = {"ok": "green", "damaged": "bold red", "unknown": "yellow"}
STDERR = 2


@click.command()
@common.scope
@common.config_file
@common.as_json
def verify(scope: str | None, config_path: Path | None, as_json: bool) -> int:
    """Restore what the store has of every database into a scratch folder, one at a time, and check it.

    Nothing is changed, and no daemon is needed; a running one is not disturbed. The exit code is 1 where anything is
    damaged or could not be tried.
    """
    config = common.read(config_path)
    wanted = common.of_scope(config, scope)
    found = asyncio.run(_verify(config, wanted, quiet=as_json))
    bad = sum(one.state != "ok" for one in found)
    if as_json:
        output.json(found)
    elif found:
        all_of = output.count(len(found), "database")
        click.echo(f"{all_of}: {'all can be restored' if not bad else f'{bad} not ok'}", err=True)
    else:
        what = "databases yet" if wanted is None else f"database of {wanted}"
        click.echo(f"the store has no {what}", err=True)
    return int(bool(bad) or (wanted is not None and not found))


async def _verify(config: Config, wanted: str | None, *, quiet: bool) -> list["Verdict"]:
    from flyatc.admin import store_access
    from flyatc.observe.log import Log
    from flyatc.process.pidfiles import Records

    log = Log(io.FileIO(STDERR, "wb", closefd=False), text=True, level="error")
    records = Records(Path(config.server.data))
    found: list[Verdict] = []
    try:
        async with store_access.opened(config, os.environ) as store:
            stock = await store_access.take_inventory(store, wanted)
            async with store_access.open_verifier(config, os.environ, store, records, log) as verifier:
                for one in stock.databases:
                    verdicts = await verifier.verify(config.tenant_kept_as(one.user, one.key), one)
                    found += verdicts
                    for verdict in () if quiet else verdicts:
                        _print(verdict)
    finally:
        log.close()
    return found


def _print(one: "Verdict") -> None:
    state = one.state.ljust(8)
    if output.on_terminal() and output.in_colour():
        state = click.style(state, COLOURS[one.state])
    size = human_octets(one.octets) if output.on_terminal() else str(one.octets)
    fields = [one.tenant, one.database, one.version or "-", size, f"{one.ms} ms", one.why]
    click.echo(f"{state}  {output.plain('  '.join(part for part in fields if part))}")
