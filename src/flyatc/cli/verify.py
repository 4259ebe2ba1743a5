import asyncio
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import address, options, show, words
from flyatc.config.schema import Config
from flyatc.kit.units import human_octets

if TYPE_CHECKING:
    from flyatc.databases.drill import Verdict

COLOURS = {"ok": "green", "damaged": "bold red", "unknown": "yellow"}
STDERR = 2


@click.command()
@address.scope
@options.config_file
@options.as_json
def verify(scope: str | None, config_path: Path | None, as_json: bool) -> int:
    """Restore what the store has of every database into a scratch folder, one at a time, and check it.

    Nothing is changed, and no daemon is needed; a running one is not disturbed. The exit code is 1 where anything is
    damaged or could not be tried.
    """
    config = options.read(config_path)
    wanted = address.of_scope(config, scope)
    found = asyncio.run(_verify(config, wanted, quiet=as_json))
    bad = sum(one.state != "ok" for one in found)
    if as_json:
        show.json(found)
    elif found:
        all_of = words.count(len(found), "database")
        click.echo(f"{all_of}: {'all can be restored' if not bad else f'{bad} not ok'}", err=True)
    else:
        what = "databases yet" if wanted is None else f"database of {wanted}"
        click.echo(f"the store has no {what}", err=True)
    return int(bool(bad) or (wanted is not None and not found))


async def _verify(config: Config, wanted: str | None, *, quiet: bool) -> list["Verdict"]:
    from flyatc.daemon import drills
    from flyatc.observe.log import Log
    from flyatc.process.records import Records

    log = Log(io.FileIO(STDERR, "wb", closefd=False), text=True, level="error")
    records = Records(Path(config.server.data))
    found: list[Verdict] = []
    try:
        async with drills.opened(config, os.environ) as store:
            stock = await drills.stock(store, wanted)
            async with drills.ready(config, os.environ, store, records, log) as drill:
                for one in stock.databases:
                    verdicts = await drill.verify(config.tenant_kept_as(one.user, one.key), one)
                    found += verdicts
                    for verdict in () if quiet else verdicts:
                        _print(verdict)
    finally:
        log.close()
    return found


def _print(one: "Verdict") -> None:
    state = one.state.ljust(8)
    if show.on_terminal() and show.in_colour():
        state = click.style(state, COLOURS[one.state])
    size = human_octets(one.octets) if show.on_terminal() else str(one.octets)
    told = [one.tenant, one.database, one.version or "-", size, f"{one.ms} ms", one.why]
    click.echo(f"{state}  {words.plain('  '.join(part for part in told if part))}")
