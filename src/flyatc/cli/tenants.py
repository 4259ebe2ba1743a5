"""The commands start, stop, restart, maintenance, pause, resume and cache."""

from pathlib import Path

import click
from msgspec import Struct

from flyatc.cli import common, output
from flyatc.control.types import LONGEST_HOLD, Cleared, Drained, Overview, Resumed, Switched
from flyatc.kit import units
from flyatc.kit.errors import FlyatcError
from flyatc.tenants.state import Status

tenant = click.argument("tenant", metavar="USER[/TENANT]")


class Done(Struct, frozen=True):
    """An empty response."""


@click.command()
@tenant
@common.config_file
def start(tenant: str, config_path: Path | None) -> None:
    """Start a tenant, or all of a user; returns when the apps are ready."""
    ask("start", tenant, config_path)


@click.command()
@tenant
@common.config_file
def stop(tenant: str, config_path: Path | None) -> None:
    """Save and stop a tenant, or all of a user. The next request starts it again."""
    ask("stop", tenant, config_path)


@click.command()
@tenant
@common.config_file
def restart(tenant: str, config_path: Path | None) -> None:
    """Stop and start a tenant, or all of a user. Requests wait meanwhile."""
    ask("restart", tenant, config_path)


def ask(verb: str, pasted: str, config_path: Path | None) -> None:
    config = common.read(config_path)
    wanted = common.of(config, pasted)
    daemon = common.client(config)
    daemon.post(f"/{verb}", Done, address=wanted)
    lines = [line(one) for one in daemon.get("/status", Overview).tenants if common.belongs(one.tenant, wanted)]
    for text in lines or [f"{wanted} is stopped"]:  # stopped tenants of '*' are not listed
        click.echo(text)


def line(one: Status) -> str:
    where = "" if one.pid is None else f", pid {one.pid}, port {one.port}"
    return output.plain(f"{one.tenant} is {one.state}{where}")


@click.group()
def maintenance() -> None:
    """Closed for maintenance: clients get 503 and a page; static files and health checks are still served."""


@maintenance.command()
@common.scope
@click.option("--message", metavar="TEXT", help="Text for clients.")
@common.config_file
def on(scope: str | None, message: str | None, config_path: Path | None) -> None:
    """Close a tenant, all of a user, or everything. It stays so over a restart."""
    config = common.read(config_path)
    wanted = common.of_scope(config, scope)
    common.client(config).post("/maintenance", Switched, address=wanted, message=message, closed=True)
    click.echo(f"{common.named(wanted)} is closed for maintenance")


@maintenance.command()
@common.scope
@common.config_file
def off(scope: str | None, config_path: Path | None) -> None:
    """Open again what was closed by that name; without a name, everything."""
    config = common.read(config_path)
    wanted = common.of_scope(config, scope)
    was = common.client(config).post("/maintenance", Switched, address=wanted, message=None, closed=False).changed
    click.echo(f"{common.named(wanted)} is open" if was else f"{common.named(wanted)} was not closed")


@click.command()
@common.scope
@click.option("--limit", default="30s", show_default=True, metavar="TIME", help="How long a request waits; then 503.")
@common.config_file
def pause(scope: str | None, limit: str, config_path: Path | None) -> None:
    """Hold the requests for a tenant, all of a user, or everything, until flyatc resume.

    Returns when the apps have finished their present requests. Open WebSockets go on. Static files, cached responses
    and health checks are served meanwhile. It stays so over a restart."""
    seconds, config = _seconds(limit), common.read(config_path)
    wanted = common.of_scope(config, scope)
    drained = common.client(config).post("/pause", Drained, address=wanted, limit=seconds)
    name = common.named(wanted)
    if drained.requests:
        left = output.count(drained.requests, "request")
        raise FlyatcError(f"{name} is paused, but after {limit} {left} still in flight; flyatc resume lets requests in")
    tunnels = f"; {output.count(drained.tunnels, 'open tunnel')} left alone" if drained.tunnels else ""
    click.echo(f"{name} is paused, nothing is in flight{tunnels}")


def _seconds(limit: str) -> float:
    try:
        seconds = units.seconds(limit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--limit") from error
    if not 0 < seconds <= LONGEST_HOLD:
        raise click.BadParameter(
            f"must be more than 0 and at most {units.written_seconds(LONGEST_HOLD)}", param_hint="--limit"
        )
    return seconds


@click.command()
@common.scope
@common.config_file
def resume(scope: str | None, config_path: Path | None) -> None:
    """End the pause of that name; without a name, all. Waiting requests are served in order of arrival."""
    config = common.read(config_path)
    wanted = common.of_scope(config, scope)
    released = common.client(config).post("/resume", Resumed, address=wanted).released
    name = common.named(wanted)
    text = (
        f"{name} was not paused" if released is None else f"{name} goes on; {output.count(released, 'request')} waited"
    )
    click.echo(text)


@click.group()
def cache() -> None:
    """The cache of responses in memory, for all tenants."""


@cache.command()
@common.scope
@common.config_file
def clear(scope: str | None, config_path: Path | None) -> None:
    """Forget the cached responses of a tenant, of a user, or of all. Responses under way are not stored."""
    config = common.read(config_path)
    cleared = common.client(config).post("/cache/clear", Cleared, address=common.of_scope(config, scope))
    click.echo(f"{output.count(cleared.answers, 'answer')} forgotten")
