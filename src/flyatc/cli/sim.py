"""The commands of ``flyatc sim``: a small Fly on this machine, and changes to its machines while it runs."""

import re
import shlex
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.config import document
from flyatc.config.schema import Config
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log_text import readable

if TYPE_CHECKING:
    from flyatc.sim.simulator import Simulator
    from flyatc.sim.types import Overview

VERBS = {
    "start": "Start a machine that is stopped or suspended, or whose host was lost.",
    "stop": "Stop a machine: SIGINT, and SIGKILL after 30 seconds. The proxy learns of it somewhat later.",
    "suspend": "Freeze a machine. A request wakes it.",
    "kill": "Lose a machine's host: nothing is saved, and to the platform it looks as before.",
}
HEADINGS = ("MACHINE", "ID", "REGION", "STATE", "METADATA", "PORT", "ADDRESS")
SHOWN = 3  # addresses in the greeting
_STYLES = {"started": "green", "stopped": "dim", "suspended": "yellow"}

HOME = Path(".flyatc-sim")


def _or_of_sim(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    """Return the folder: --data may also stand before the subcommand."""
    return value or (ctx.parent.params.get("folder") if ctx.parent is not None else None) or HOME


_folder = click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    callback=_or_of_sim,
    metavar="FOLDER",
    help=f"The folder of the machines' disks. Default: {HOME}",
)


@click.group(invoke_without_command=True)
@click.option("--machines", "count", type=click.IntRange(1, 50), default=3, show_default=True, metavar="N")
@click.option(
    "--users",
    metavar="A,B,C",
    help="Users of the machines; default: 100,200,300 and so on, or the users of the file.",
)
@click.option("--key", help="The metadata which names the user; default: fly.metadata, else customer_id.")
@click.option("--app", default="sim", show_default=True)
@click.option("--regions", default="iad,ams,syd,waw", show_default=True, help="Requests come in at the first.")
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="For clients.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=4280, show_default=True)
@click.option("--dns-port", type=click.IntRange(0, 65535), default=5300, show_default=True)
@click.option("--no-ptr", is_flag=True, help="The DNS has no PTR records: Fly's documentation has none either.")
@click.option("--watch", is_flag=True, help="Print each request's hops, and each question to the DNS.")
@_folder
@common.config_file
@click.pass_context
def sim(
    ctx: click.Context,
    /,
    config_path: Path | None,
    folder: Path,
    count: int,
    users: str | None,
    key: str | None,
    **more: str | int | bool,
) -> None:
    """Run a small Fly: a proxy that follows fly-replay, DNS for .internal, a Machines API, and N machines with flyatc.

    Everything listens on 127.0.0.1, the private network included. Ctrl-C stops it; the machines keep their disks.
    """
    if ctx.invoked_subcommand is not None:
        return
    config = common.read(config_path, starts_apps=True)
    if config.server.control is not None and config.server.control.port:
        raise FlyatcError("server.control is one port, and the machines share this host: take it out, or write 0")
    import asyncio

    from flyatc.sim import simulator
    from flyatc.sim.simulator import Settings

    regions = tuple(str(more["regions"]).split(","))
    if not all(re.fullmatch("[a-z]{3}", region) for region in regions):
        raise FlyatcError(f"--regions {more['regions']}: a region is three letters, such as iad,ams")
    if re.fullmatch("[a-z0-9-]+", str(more["app"])) is None:
        raise FlyatcError(f"--app {more['app']}: an app's name is of a-z, 0-9 and -")
    named = users.split(",") if users else _users(config, count)
    key = key or config.fly.metadata or "customer_id"
    machines = {f"m{number}": {key: user} for number, user in enumerate(named, 1)}
    settings = Settings(
        folder=folder.absolute(),
        app=str(more["app"]),
        regions=regions,
        port=int(more["port"]),
        api_port=int(more["api_port"]),
        dns_port=int(more["dns_port"]),
        ptr=not more["no_ptr"],
        config=document.find(config_path).absolute(),
    )
    report = click.echo if more["watch"] else lambda line: None
    greet = partial(_greet, config, folder, key)
    asyncio.run(simulator.run(settings, document.find(config_path).absolute(), machines, report, greet))


@sim.command()
@_folder
@common.as_json
def ps(folder: Path, as_json: bool) -> None:
    """List the machines."""
    from flyatc.sim import client

    overview = client.get_overview(folder)
    if as_json:
        return output.json(overview)
    return _table(overview)


def _verb(name: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("machine")
    @_folder
    def command(machine: str, folder: Path) -> None:
        from flyatc.sim import client

        _table(client.command(folder, machine, name))

    return command


for _name, _text in VERBS.items():
    sim.add_command(_verb(_name, _text))


@sim.command()
@click.argument("machine")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", "number", type=click.IntRange(0, 10**8), default=100, show_default=True, metavar="N")
@_folder
def logs(machine: str, follow: bool, number: int, folder: Path) -> None:
    """Print the last lines that a machine wrote.

    Readable on a terminal, JSON lines otherwise.
    """
    from flyatc.sim import client

    one = next((one for one in client.get_overview(folder).machines if machine in (one.name, one.id)), None)
    if one is None:
        raise FlyatcError(f"there is no machine {machine}; flyatc sim ps lists them")
    arguments = ["-n", str(number), *(["-F"] if follow else []), one.log]
    for_people = output.on_terminal()
    with subprocess.Popen(["tail", *arguments], stdout=subprocess.PIPE) as tail:  # noqa: S607  # POSIX has it
        for line in tail.stdout or ():
            click.echo(readable(line.rstrip(b"\n"), colour=output.in_colour()) if for_people else line, nl=for_people)


@sim.command()
@click.option(
    "--api",
    default="",
    metavar="away|lost|STATUS",
    help="The Machines API is away, executes requests without a response, or responds with a status.",
)
@click.option("--dns", default="", type=click.Choice(["", "silent", "servfail", "nxdomain"]))
@_folder
def fail(api: str, dns: str, folder: Path) -> None:
    """Have the platform fail; without options, all is well again."""
    from flyatc.sim import client
    from flyatc.sim.types import Faults

    faults = client.break_things(folder, Faults(api, dns)).faults
    broken = [f"the {name} fails: {how}" for name, how in (("API", faults.api), ("DNS", faults.dns)) if how]
    click.echo("; ".join([*broken, "flyatc sim fail ends it"]) if broken else "all is well")


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
    output.table(HEADINGS, rows)


def _users(config: Config, count: int) -> list[str]:
    """Users for ``count`` machines."""
    numbers = [str(100 * number) for number in range(1, count + 1)]
    listed = list(dict.fromkeys(tenant.user for tenant in config.tenants.values()))
    return numbers if _address(config, numbers[0]) else [*listed, *numbers][:count]


def _address(config: Config, user: str) -> str | None:
    """Path of a user's first tenant; None: the file has no such user."""
    names = [] if config.pattern is None else [name for name, _ in config.pattern.tenants]
    by_pattern = [config.tenant_of_pattern(user, name) for name in names]
    listed = [tenant for tenant in config.tenants.values() if tenant.user == user]
    tenant = next(filter(None, (*listed, *by_pattern)), None)
    return None if tenant is None else tenant.prefix + "/" * tenant.app.slash


def _greet(config: Config, folder: Path, key: str, simulator: "Simulator", late: list[str]) -> None:
    from flyatc.sim.simulator import TOKEN

    overview = simulator.overview()
    _table(overview)
    token = f"FLY_API_TOKEN={TOKEN}"
    environment = f"FLY_APP_NAME={overview.app} FLYATC_METADATA={key} {token} FLY_FLAPS_BASE_URL={overview.api}"
    named = "" if config.path == document.HERE.absolute() else f" --config {shlex.quote(str(config.path))}"
    click.echo()
    _greet_clients(config, overview)
    click.echo(f"DNS      dig -p {simulator.dns_port} @127.0.0.1 _instances.internal TXT")
    click.echo(f"API      {overview.api}/v1/apps/{overview.app}/machines   ({token})")
    click.echo(f"users    {environment} flyatc users list{named}")
    click.echo(f"disks    {folder}: kept for the next flyatc sim; remove it to begin anew")
    for name in late:
        click.echo(f"{name} does not listen: flyatc sim logs {name} may say why", err=True)
    click.echo(
        "then     flyatc sim ps, stop, start, suspend, kill, fail; logs M says why a request failed; Ctrl-C ends all"
    )


def _greet_clients(config: Config, overview: "Overview") -> None:
    users = [(user, one.name) for one in overview.machines for user in one.metadata.values()]
    shown = [(address, name) for user, name in users if (address := _address(config, user))][:SHOWN]
    for label, (address, name) in zip(("open", *[""] * SHOWN), shown, strict=False):
        click.echo(f"{label:8} {overview.proxy}{address}   {name}")
    if not shown:
        names = ", ".join(user for user, _ in users)
        click.echo(f"open     {overview.proxy}, but the file has none of the users {names}: name its own by --users")
