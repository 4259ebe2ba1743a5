"""The commands start, stop, restart, maintenance, pause, resume and cache."""

import click
from msgspec import Struct

from flyatc.cli import common, output
from flyatc.control.client import Client
from flyatc.control.types import LONGEST_HOLD, Cleared, Drained, Overview, Resumed, Switched
from flyatc.kit import units
from flyatc.kit.errors import FlyatcError
from flyatc.tenants.state import Status

tenant = click.argument("tenant", metavar="USER[/TENANT]")


class Done(Struct, frozen=True):
    """An empty response."""


@click.command()
@tenant
@common.asks
def start(tenant: str, daemon: Client) -> None:
    """Start a tenant, or all of a user; returns when the apps are ready."""
    ask("start", tenant, daemon)


@click.command()
@tenant
@common.asks
def stop(tenant: str, daemon: Client) -> None:
    """Save and stop a tenant, or all of a user. The next request starts it again."""
    ask("stop", tenant, daemon)


@click.command()
@tenant
@common.asks
def restart(tenant: str, daemon: Client) -> None:
    """Stop and start a tenant, or all of a user. Requests wait meanwhile."""
    ask("restart", tenant, daemon)


def ask(verb: str, pasted: str, daemon: Client) -> None:
    wanted = common.asked(daemon, pasted)
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
@common.asks
def on(scope: str | None, message: str | None, daemon: Client) -> None:
    """Close a tenant, all of a user, or everything. It stays so over a restart."""
    wanted = common.asked_scope(daemon, scope)
    daemon.post("/maintenance", Switched, address=wanted, message=message, closed=True)
    click.echo(f"{common.named(wanted)} is closed for maintenance")


@maintenance.command()
@common.scope
@common.asks
def off(scope: str | None, daemon: Client) -> None:
    """Open again what was closed by that name; without a name, everything."""
    wanted = common.asked_scope(daemon, scope)
    was = daemon.post("/maintenance", Switched, address=wanted, message=None, closed=False).changed
    click.echo(f"{common.named(wanted)} is open" if was else f"{common.named(wanted)} was not closed")


@click.command()
@common.scope
@click.option("--limit", default="30s", show_default=True, metavar="TIME", help="How long a request waits; then 503.")
@common.asks
def pause(scope: str | None, limit: str, daemon: Client) -> None:
    """Hold the requests for a tenant, all of a user, or everything, until flyatc resume.

    Returns when the apps have finished their present requests. Open WebSockets go on. Static files, cached responses
    and health checks are served meanwhile. It stays so over a restart."""
    seconds = _seconds(limit)
    wanted = common.asked_scope(daemon, scope)
    drained = daemon.post("/pause", Drained, address=wanted, limit=seconds)
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
@common.asks
def resume(scope: str | None, daemon: Client) -> None:
    """End the pause of that name; without a name, all. Waiting requests are served in order of arrival."""
    wanted = common.asked_scope(daemon, scope)
    released = daemon.post("/resume", Resumed, address=wanted).released
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
@common.asks
def clear(scope: str | None, daemon: Client) -> None:
    """Forget the cached responses of a tenant, of a user, or of all. Responses under way are not stored."""
    cleared = daemon.post("/cache/clear", Cleared, address=common.asked_scope(daemon, scope))
    click.echo(f"{output.count(cleared.answers, 'answer')} forgotten")
