import time
from pathlib import Path

import click

from flyatc.cli import address, options, show, words
from flyatc.cli.show import Cell
from flyatc.control.answers import Daemon, Overview, Verified
from flyatc.tenants.status import Status

HEADINGS = ("TENANT", "STATE", "SINCE", "VISITORS", "PID", "PORT", "SAVED", "NOTE")
_STYLES = {"ready": "green", "stopped": "dim", "failed": "bold red"}


@click.command()
@options.config_file
@options.as_json
def status(config_path: Path | None, as_json: bool) -> None:
    """List every configured tenant: its state, its process, its visitors, its last save."""
    overview = options.client(options.read(config_path)).get("/status", Overview)
    if as_json:
        return show.json(overview)
    now = time.time() if show.on_terminal() else None
    show.table(HEADINGS, [row(one, now, standing(one, overview)) for one in overview.tenants])
    if now is not None:
        told = "\n".join([about(overview.daemon, now), *verified(overview.verified, now)])
        click.echo("\n" + (click.style(told, dim=True) if show.in_colour() else told))
    for one in overview.tenants:
        for alarm in one.alarms:
            click.echo(words.plain(f"{one.tenant}: {alarm}"), err=True)
    if overview.daemon.store is not None:
        click.echo(words.plain(f"no tenant can start, the store cannot be used: {overview.daemon.store}"), err=True)
    for bad in overview.verified.bad if overview.verified is not None else ():
        click.echo(words.plain(f"{bad.state}: {bad.tenant} {bad.database} in the store: {bad.why}"), err=True)


_THEN = {"exit": "ends", "stop": "has its machine stopped", "suspend": "has its machine suspended"}


def row(one: Status, now: float | None, standing: str = "") -> list[Cell]:
    """``now``: for people, who read how long ago; None: for programs, which read when. ``standing``: see below."""
    return [
        Cell(one.tenant, "bold"),
        Cell(one.state if one.queued is None else f"{one.state} ({one.queued})", _STYLES.get(one.state, "yellow")),
        Cell(_when(one.since, now)),
        Cell(str(one.visitors)),
        Cell("" if one.pid is None else str(one.pid)),
        Cell("" if one.port is None else str(one.port)),
        Cell("unsaved", "yellow") if one.unsaved else Cell(_when(one.saved_at, now)),
        Cell(_note(one, now, standing), "dim"),
    ]


def about(daemon: Daemon, now: float) -> str:
    told = (
        f"flyatc {daemon.version}, pid {daemon.pid}, started {words.ago(daemon.started, now)}, "
        f"listens on {daemon.listen}; {daemon.running} of {words.count(daemon.limit, 'app')} at most"
    )
    if daemon.idle_at is None:
        return told
    return f"{told}; {_THEN.get(daemon.idle_then, daemon.idle_then)} {words.ago(daemon.idle_at, now)} if nobody comes"


def verified(found: Verified | None, now: float) -> list[str]:
    if found is None or found.last is None:
        return []
    bad = f", {len(found.bad)} NOT OK" if found.bad else ", all ok"
    return [f"{words.count(found.databases, 'database')} of the store verified, last {words.ago(found.last, now)}{bad}"]


def _when(stamp: str | None, now: float | None) -> str:
    if stamp is None:
        return ""
    return stamp if now is None else words.ago(stamp, now)


def standing(one: Status, overview: Overview) -> str:
    """Whether visitors reach it. Maintenance wins over a pause; the nearest pause counts."""
    if any(address.within(one.tenant, closed.scope) for closed in overview.closed):
        return "closed for maintenance"
    pauses = [paused for paused in overview.paused if address.within(one.tenant, paused.scope)]
    if not pauses:
        return ""
    nearest = max(pauses, key=lambda paused: len(paused.scope or ""))
    waiting = f", {nearest.waiting} waiting" if nearest.waiting else ""
    return f"paused{'' if nearest.scope == one.tenant else ' with ' + address.named(nearest.scope)}{waiting}"


def _note(one: Status, now: float | None, standing: str) -> str:
    parts = [standing, one.reason or ""]
    if one.crashes:
        parts.append(f"crashes: {one.crashes}")
    if one.last_exit is not None and (one.reason or one.crashes):
        parts.append(f"last: {one.last_exit}")
    parts += [f"{name} was sent again: {why}" for name, why in one.renewed.items()]
    if one.restart_pending:
        parts.append("restarts when idle, with the new configuration")
    if one.idle_at is not None and now is not None:
        parts.append(f"stops {words.ago(one.idle_at, now)} if nobody comes")
    return "; ".join(part for part in parts if part)
