"""The command cost."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.control.client import Client
from flyatc.kit.errors import FlyatcError
from flyatc.kit.units import human_size

if TYPE_CHECKING:
    from flyatc.cost.bill import Bill, Row
    from flyatc.cost.prices import Prices

HEADINGS = ("USER", "HOURS", "MEMORY", "DISK", "STORE", "CALLS", "REQUESTS", "EGRESS", "$/MONTH")
SHARED = "idle or shared"


@click.command()
@click.option("--days", type=click.IntRange(1, 62), default=30, show_default=True, metavar="N",
              help="Compute it from the last N days, up to 62.")  # fmt: skip
@click.option(
    "--machine", "size", metavar="SIZE", help="Price a machine of this size: shared-cpu-1x:512. Default: this."
)
@click.option("--region", metavar="R", help="Price it in this region. Default: where it is.")
@click.option("--prices", "file", type=click.Path(path_type=Path), metavar="FILE",
              help="JSON with prices that replace those of the table, see docs/operations.md.")  # fmt: skip
@common.asks
@common.as_json
def cost(days: int, size: str | None, region: str | None, file: Path | None, daemon: Client, as_json: bool) -> None:
    """Show what each user of this machine costs a month on Fly, by what it has used: running time and memory of its
    apps, bytes on the volume and in the store, requests to the store, traffic. Of other machines it names the users
    only."""
    from flyatc.cost import bill, prices
    from flyatc.cost.usage import Usage

    table = prices.Prices() if file is None else _read(file)
    usage = daemon.get("/usage", Usage, days=str(days))
    machine = bill.size(size, region, usage.machine or bill.supposed(usage))
    found = bill.bill(usage, machine, table)
    if as_json:
        return output.json(found)
    rows = sorted(found.users.items(), key=lambda one: (-one[1].total, one[0]))
    shared = [row(SHARED, found.shared, "dim")]
    output.table(HEADINGS, [*(row(user, one, "bold") for user, one in rows), *shared, total(found)])
    click.echo()
    for sentence in [*found.assumptions, *elsewhere(found)]:
        click.echo(output.plain(sentence))
    return None


def _read(path: Path) -> "Prices":
    from flyatc.cost import prices

    try:
        return prices.read(path.read_bytes(), str(path))
    except OSError as error:
        raise FlyatcError(f"{path} cannot be read: {error.strerror}") from error


def row(name: str, one: "Row", style: str) -> list[Cell]:
    return [
        Cell(name, style),
        Cell(f"{one.hours:,.1f}" if one.hours else ""),
        Cell(human_size(one.memory) if one.memory else ""),
        Cell(human_size(one.disk) if one.disk else ""),
        Cell(human_size(one.stored) if one.stored else ""),
        Cell(f"{one.calls:,.0f}" if one.calls else ""),
        Cell(f"{one.requests:,.0f}" if one.requests else ""),
        Cell(human_size(one.egress) if one.egress else ""),
        Cell(f"{one.total:.2f}", "bold"),
    ]


def total(found: "Bill") -> list[Cell]:
    rows = [*found.users.values(), found.shared]
    return [
        Cell("in all", "bold"),
        Cell(f"{sum(one.hours for one in rows):,.1f}"),
        Cell(""),
        Cell(human_size(sum(one.disk for one in rows))),
        Cell(human_size(sum(one.stored or 0 for one in rows))),
        Cell(f"{sum(one.calls for one in rows):,.0f}"),
        Cell(f"{sum(one.requests for one in rows):,.0f}"),
        Cell(human_size(sum(one.egress for one in rows))),
        Cell(f"{found.total:.2f}", "bold"),
    ]


def elsewhere(found: "Bill") -> list[str]:
    """Sentences on the users of other machines, with the commands for these."""
    machines = dict[str, list[str]]()
    for user, machine in found.elsewhere.items():
        machines.setdefault(machine, []).append(user)
    sentences = []
    for machine, users in sorted(machines.items()):
        ask = f'fly ssh console --machine {machine} -C "flyatc cost"'
        sentences.append(f"On machine {machine}: {', '.join(sorted(users))}. Ask there: {ask}")
    return sentences
