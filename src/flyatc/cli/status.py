"""The commands status, logs and route."""

import contextlib
import time
from pathlib import Path

import click
from msgspec import structs

from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.control.client import Client, NoDaemon
from flyatc.control.types import Daemon, Explanation, Overview, Verified
from flyatc.observe.log_text import inert_json, readable
from flyatc.tenants.state import Status

HEADINGS = ("TENANT", "STATE", "SINCE", "REQUESTS", "PID", "PORT", "SAVED", "NOTE")
_STYLES = {"ready": "green", "stopped": "dim", "failed": "bold red"}


@click.command()
@common.scope
@common.asks
@common.as_json
def status(scope: str | None, daemon: Client, as_json: bool) -> None:
    """List every configured tenant, or those of a user: state, process, requests, last save."""
    wanted, overview = common.asked_scope(daemon, scope), daemon.get("/status", Overview)
    overview = structs.replace(overview, tenants=[one for one in overview.tenants if common.within(one.tenant, wanted)])
    if wanted is not None and not overview.tenants:
        raise click.BadParameter(f"{wanted!r} is neither a user nor a tenant of this daemon; flyatc status lists all")
    if as_json:
        return output.json(overview)
    now = time.time() if output.on_terminal() else None
    output.table(HEADINGS, [row(one, now, standing(one, overview)) for one in overview.tenants])
    if now is not None:
        text = "\n".join([about(overview.daemon, now), *verified(overview.verified, now)])
        click.echo("\n" + (click.style(text, dim=True) if output.in_colour() else text))
    for sentence in overview.daemon.not_separated:
        click.echo(output.plain(f"not separated: {sentence}"), err=True)
    for one in overview.tenants:
        for alarm in one.alarms:
            click.echo(output.plain(f"{one.tenant}: {alarm}"), err=True)
    if overview.daemon.store is not None:
        click.echo(output.plain(f"no tenant can start, the store cannot be used: {overview.daemon.store}"), err=True)
    for bad in overview.verified.bad if overview.verified is not None else ():
        click.echo(output.plain(f"{bad.state}: {bad.tenant} {bad.database} in the store: {bad.why}"), err=True)


_THEN = {"exit": "ends", "stop": "has its machine stopped", "suspend": "has its machine suspended"}


def row(one: Status, now: float | None, standing: str = "") -> list[Cell]:
    """``now``: Unix time, for relative times; None: absolute times, for programs. ``standing``: see below."""
    return [
        Cell(one.tenant, "bold"),
        Cell(one.state if one.queued is None else f"{one.state} ({one.queued})", _STYLES.get(one.state, "yellow")),
        Cell(_when(one.since, now)),
        Cell(str(one.requests)),
        Cell("" if one.pid is None else str(one.pid)),
        Cell("" if one.port is None else str(one.port)),
        Cell("unsaved", "yellow") if one.unsaved else Cell(_when(one.saved_at, now)),
        Cell(_note(one, now, standing), "dim"),
    ]


def about(daemon: Daemon, now: float) -> str:
    text = (
        f"flyatc {daemon.version}, pid {daemon.pid}, started {output.ago(daemon.started, now)}, "
        f"listens on {daemon.listen}; {daemon.running} of {output.count(daemon.limit, 'app')} at most"
    )
    if daemon.idle_at is None:
        return text
    return (
        f"{text}; {_THEN.get(daemon.idle_then, daemon.idle_then)} {output.ago(daemon.idle_at, now)} if no request comes"
    )


def verified(found: Verified | None, now: float) -> list[str]:
    if found is None or found.last is None:
        return []
    bad = f", {len(found.bad)} NOT OK" if found.bad else ", all ok"
    return [
        f"{output.count(found.databases, 'database')} of the store verified, last {output.ago(found.last, now)}{bad}"
    ]


def _when(stamp: str | None, now: float | None) -> str:
    if stamp is None:
        return ""
    return stamp if now is None else output.ago(stamp, now)


def standing(one: Status, overview: Overview) -> str:
    """Describe maintenance or a pause of the tenant, or "". Maintenance beats pause; the narrowest pause counts."""
    if any(common.within(one.tenant, closed.scope) for closed in overview.closed):
        return "closed for maintenance"
    pauses = [paused for paused in overview.paused if common.within(one.tenant, paused.scope)]
    if not pauses:
        return ""
    nearest = max(pauses, key=lambda paused: len(paused.scope or ""))
    waiting = f", {nearest.waiting} waiting" if nearest.waiting else ""
    return f"paused{'' if nearest.scope == one.tenant else ' with ' + common.named(nearest.scope)}{waiting}"


def _note(one: Status, now: float | None, standing: str) -> str:
    parts = [standing, one.reason or ""]
    if one.crashes:
        parts.append(f"crashes: {one.crashes}")
    if one.last_exit is not None and (one.reason or one.crashes):
        parts.append(f"last: {one.last_exit}")
    parts += one.overlooked
    parts += [f"{name} was sent again: {why}" for name, why in one.renewed.items()]
    if one.restart_pending:
        parts.append("restarts when idle, with the new configuration")
    if one.busy is not None:
        parts.append(f"kept running: {one.busy}")
    if one.idle_at is not None and now is not None:
        parts.append(f"stops {output.ago(one.idle_at, now)} if no request comes")
    return "; ".join(part for part in parts if part)


@click.command()
@click.argument("tenant", metavar="[USER[/TENANT]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", "number", type=click.IntRange(0, 10**8), default=100, show_default=True, metavar="N")
@common.asks
@common.as_json
def logs(tenant: str | None, follow: bool, number: int, daemon: Client, as_json: bool) -> None:
    """Print the last lines of the log: the daemon's own, the requests, what the apps write.

    Readable on a terminal, JSON lines otherwise.
    """
    wanted = common.asked_scope(daemon, tenant)
    found = daemon.read_events("/logs", address=wanted, lines=str(number), follow="1" if follow else None)
    for_people, none = output.on_terminal() and not as_json, True
    for line in found:
        none = False
        click.echo(readable(line, colour=output.in_colour()) if for_people else inert_json(line))
    if none and wanted is not None and number:
        click.echo(f"the daemon keeps no lines of {wanted}; flyatc status lists the tenants", err=True)


@click.command()
@click.argument("path")
@common.asks
@common.as_json
@click.pass_context
def route(ctx: click.Context, path: str, daemon: Client, as_json: bool) -> int:
    """Show which user and tenant PATH (a path or a whole URL) belongs to, where it is served, and why.

    The running daemon is asked; without one, the file decides. Exit code 1 when the request would be refused.
    """
    found = _explained(daemon, ctx.params["config_path"], path)
    if as_json:
        output.json(found)
    else:
        for name, value in described(found):
            click.echo(f"{name:<9} {output.plain(value)}")
    return 1 if found.outcome == "refuse" else 0


def _explained(daemon: Client, config_path: Path | None, path: str) -> Explanation:
    with contextlib.suppress(NoDaemon):
        return daemon.get("/route", Explanation, path=path)
    from flyatc.control import route_explanation
    from flyatc.routing.route import Routes

    config = common.read(config_path)
    return route_explanation.explain(config, Routes(config), path)


def described(found: Explanation) -> list[tuple[str, str]]:
    lines = [("path", found.path)]
    if found.status is not None:
        lines.append(("answer", str(found.status)))
    if found.location is not None:
        lines.append(("to", found.location))
    if found.tenant is not None:
        lines += [
            ("tenant", found.tenant),
            ("user", f"{found.user} (by pattern)" if found.by_pattern else found.user or ""),
            ("state", found.state or "unknown: no daemon is running"),
        ]
    if found.pin is not None:
        lines.append(("on Fly", f"{found.pin}, as the file says"))
    if found.app_path is not None:
        lines.append(("app sees", f"{found.app_path} ({'prefix stripped' if found.strip_prefix else 'as it came'})"))
    if found.health:
        lines.append(("visit", "no: it is the app's ready path, which starts no app"))
    return [*lines, ("why", found.why)]
