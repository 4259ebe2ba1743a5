"""A small Fly on this machine, and what can be done to its machines while it runs."""

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import options, show
from flyatc.cli.show import Cell
from flyatc.config import load
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from flyatc.sim.shapes import Overview
    from flyatc.sim.simulator import Simulator

HEADINGS = ("MACHINE", "ID", "REGION", "STATE", "METADATA", "PORT", "ADDRESS")
_STYLES = {"started": "green", "stopped": "dim", "suspended": "yellow"}

_folder = click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(".flyatc-sim"),
    show_default=True,
    metavar="FOLDER",
    help="Where the machines have their disks.",
)


@click.group(invoke_without_command=True)
@click.option("--machines", "count", type=click.IntRange(1, 50), default=3, show_default=True, metavar="N")
@click.option("--users", metavar="A,B,C", help="Whose machines they are; 100,200,300 and so on by default.")
@click.option("--key", default="customer_id", show_default=True, help="The metadata which names the user.")
@click.option("--app", default="sim", show_default=True)
@click.option("--regions", default="iad,ams,syd", show_default=True, help="The first is where visitors come in.")
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="For visitors.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=4280, show_default=True)
@click.option("--dns-port", type=click.IntRange(0, 65535), default=5300, show_default=True)
@click.option("--no-ptr", is_flag=True, help="The DNS has no PTR records: Fly's documentation has none either.")
@click.option("--watch", is_flag=True, help="Print each request's hops, and each question to the DNS.")
@_folder
@options.config_file
@click.pass_context
def sim(
    ctx: click.Context,
    /,
    config_path: Path | None,
    folder: Path,
    count: int,
    users: str | None,
    **more: str | int | bool,
) -> None:
    """Run a small Fly: a proxy that follows fly-replay, DNS for .internal, a Machines API, and N machines with flyatc.

    Everything listens on 127.0.0.1, the private network included. Ctrl-C stops it; the machines keep their disks.
    """
    if ctx.invoked_subcommand is not None:
        return
    config = options.read(config_path)
    if config.server.control is not None and config.server.control.port:
        raise FlyatcError("server.control is one port, and the machines share this host: take it out, or write 0")
    from flyatc.sim import running
    from flyatc.sim.simulator import Settings

    regions = tuple(str(more["regions"]).split(","))
    if not all(re.fullmatch("[a-z]{3}", region) for region in regions):
        raise FlyatcError(f"--regions {more['regions']}: a region is three letters, such as iad,ams")
    if re.fullmatch("[a-z0-9-]+", str(more["app"])) is None:
        raise FlyatcError(f"--app {more['app']}: an app's name is of a-z, 0-9 and -")
    named = users.split(",") if users else [str(100 * number) for number in range(1, count + 1)]
    machines = {f"m{number}": {str(more["key"]): user} for number, user in enumerate(named, 1)}
    settings = Settings(
        folder=folder.absolute(),
        app=str(more["app"]),
        regions=regions,
        port=int(more["port"]),
        api_port=int(more["api_port"]),
        dns_port=int(more["dns_port"]),
        ptr=not more["no_ptr"],
        config=load.find(config_path).absolute(),
    )
    told = click.echo if more["watch"] else lambda line: None
    running.run(settings, load.find(config_path), machines, told, _greet)


@sim.command()
@_folder
@options.as_json
def ps(folder: Path, as_json: bool) -> None:
    """List the machines."""
    from flyatc.sim import place

    overview = place.get_overview(folder)
    if as_json:
        return show.json(overview)
    return _table(overview)


@sim.command()
@click.argument("machine")
@_folder
def start(machine: str, folder: Path) -> None:
    """Start a machine that is stopped or suspended, or whose host was lost."""
    _command(folder, machine, "start")


@sim.command()
@click.argument("machine")
@_folder
def stop(machine: str, folder: Path) -> None:
    """Stop a machine: SIGINT, and SIGKILL after 30 seconds. The proxy learns of it somewhat later."""
    _command(folder, machine, "stop")


@sim.command()
@click.argument("machine")
@_folder
def suspend(machine: str, folder: Path) -> None:
    """Freeze a machine. A request wakes it."""
    _command(folder, machine, "suspend")


@sim.command()
@click.argument("machine")
@_folder
def kill(machine: str, folder: Path) -> None:
    """Lose a machine's host: nothing is saved, and to the platform it looks as before."""
    _command(folder, machine, "kill")


@sim.command()
@click.argument("machine")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", "number", type=click.IntRange(0, 10**8), default=100, show_default=True, metavar="N")
@_folder
def logs(machine: str, follow: bool, number: int, folder: Path) -> None:
    """Print the last lines that a machine wrote."""
    from flyatc.sim import place

    one = next((one for one in place.get_overview(folder).machines if machine in (one.name, one.id)), None)
    if one is None:
        raise FlyatcError(f"there is no machine {machine}; flyatc sim ps lists them")
    arguments = ["-n", str(number), *(["-F"] if follow else []), one.log]
    subprocess.run(["tail", *arguments], check=False)  # noqa: S607  # POSIX has it


@sim.command()
@click.option(
    "--api",
    default="",
    metavar="away|lost|STATUS",
    help="The Machines API is away, does what it is told without an answer, or answers with a status.",
)
@click.option("--dns", default="", type=click.Choice(["", "silent", "servfail", "nxdomain"]))
@_folder
def fail(api: str, dns: str, folder: Path) -> None:
    """Have the platform fail; without options, all is well again."""
    from flyatc.sim import place
    from flyatc.sim.shapes import Faults

    place.break_things(folder, Faults(api, dns))


def _command(folder: Path, machine: str, verb: str) -> None:
    from flyatc.sim import place

    _table(place.command(folder, machine, verb))


def _table(overview: "Overview") -> None:
    rows = [
        [
            Cell(one.name, "bold"),
            Cell(one.id),
            Cell(one.region),
            Cell(one.state, _STYLES.get(one.state, "bold red")),
            Cell(" ".join(f"{key}={value}" for key, value in one.metadata.items())),
            Cell(str(one.port)),
            Cell(one.address, "dim"),
        ]
        for one in overview.machines
    ]
    show.table(HEADINGS, rows)


def _greet(simulator: "Simulator", late: list[str]) -> None:
    overview = simulator.overview()
    _table(overview)
    click.echo(f"\nopen     {overview.proxy}")
    click.echo(f"DNS      dig -p {simulator.dns_port} @127.0.0.1 _instances.internal TXT")
    click.echo(f"API      {overview.api}/v1/apps/{overview.app}/machines   (FLY_API_TOKEN=simulated)")
    environ = f"FLY_APP_NAME={overview.app} FLY_API_TOKEN=simulated FLY_FLAPS_BASE_URL={overview.api}"
    click.echo(f"users    {environ} flyatc users list")
    for name in late:
        click.echo(f"{name} does not listen: flyatc sim logs {name} may say why", err=True)
    click.echo("then     flyatc sim ps, stop, start, suspend, kill, logs; Ctrl-C ends all")
