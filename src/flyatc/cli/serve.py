"""The commands serve, run, reload, api and version."""

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import structs

from flyatc import __version__
from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.config import document
from flyatc.control.types import Overview, Reloaded
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from flyatc.control.client import Client


@click.command()
@common.config_file
@click.option(
    "--user", metavar="USER", help="Serve this user only; $CUSTOMER_ID does the same. Others are sent elsewhere."
)
@click.option("--insecure", is_flag=True, help="Serve the dashboard without a password, on loopback only.")
def serve(config_path: Path | None, user: str | None, insecure: bool) -> int:
    """Run the daemon in the foreground.

    SIGTERM and Ctrl-C end it: requests finish, every tenant is saved and stopped. A second signal hurries. SIGHUP
    reads the configuration again.
    """
    from flyatc import daemon
    from flyatc.config.check_sections import INSECURE
    from flyatc.config.schema import USER_VARIABLE

    if user is not None:
        os.environ[USER_VARIABLE] = user  # apps may read it too
    if insecure:
        os.environ[INSECURE] = "1"
    return daemon.run(document.find(config_path))


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A tenants.yaml for the app's databases. Without it, nothing is restored or saved.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] CMD [ARGS]...")
@click.pass_context
def run(ctx: click.Context, config_path: Path | None, command: tuple[str, ...]) -> int:
    """Run one app, without tenants: in place of thruster, and with its variables.

    Clients connect to HTTP_PORT (80), the app listens on TARGET_PORT (3000), which is its PORT. Signals are passed on,
    and its exit code is ours.

    Used of FILE: storage, server.data (the folder of the databases), and of app: databases, files, seed, env,
    stop_grace and delivery.sendfile.roots. $FLYATC_HOST is the address to listen at.

    "flyatc CMD" is the same as "flyatc run -- CMD" where CMD is none of flyatc's own commands.
    """
    if not command:
        click.echo(ctx.get_usage(), err=True)
        click.echo("there is no command to run: flyatc run -- ./bin/rails server", err=True)
        return 1
    from flyatc.wrapper import wrapper

    return wrapper.run(command, config_path)


_TEXTS = {
    "added": "added",
    "removed": "removed, stopping",
    "changed": "changed, restarting when idle",
    "restart": "waits for a restart of the daemon",
}


@click.command()
@common.asks
def reload(daemon: "Client") -> None:
    """Have the daemon read tenants.yaml again, as SIGHUP does. A faulty file changes nothing."""
    reloaded = daemon.post("/reload", Reloaded)
    found = {name: entries for name, entries in structs.asdict(reloaded).items() if entries}
    for name, entries in found.items():
        for entry in entries:
            click.echo(f"{output.plain(entry)}: {_TEXTS[name]}")
    if not found:
        click.echo("reloaded: no tenant is added, removed or changed")


@click.command()
@click.option("--openapi", is_flag=True, help="Print the OpenAPI 3.1 document.")
def api(openapi: bool) -> None:
    """List the routes of the control API: HTTP over the unix socket .flyatc/control.sock in server.data."""
    from flyatc.control.api import ROUTES
    from flyatc.control.openapi import document

    if openapi:
        return output.json(document(ROUTES))
    headings = ("METHOD", "PATH", "SUMMARY")
    return output.table(headings, [[Cell(one.method), Cell(one.path, "bold"), Cell(one.summary)] for one in ROUTES])


@click.command()
@common.config_file
def version(config_path: Path | None) -> None:
    """Print the version; and that of the running daemon, where it is another."""
    from flyatc.control.client import Client

    click.echo(f"flyatc {__version__} (Python {platform.python_version()})")
    try:
        daemon = Client(document.data_folder(config_path, os.environ)).get("/status", Overview).daemon
    except FlyatcError:  # no configuration here, or no daemon
        return
    if daemon.version != __version__:
        click.echo(f"the running daemon is {daemon.version}: restart it")
