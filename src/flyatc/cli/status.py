import time
from pathlib import Path

import click

from flyatc.cli import options, show, words
from flyatc.cli.show import Cell
from flyatc.control.answers import Daemon, Overview
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
    show.table(HEADINGS, [row(one, now) for one in overview.tenants])
    if now is not None:
        told = about(overview.daemon, now)
        click.echo("\n" + (click.style(told, dim=True) if show.in_colour() else told))


def row(one: Status, now: float | None) -> list[Cell]:
    """``now``: for people, who read how long ago; None: for programs, which read when."""
    return [
        Cell(one.tenant, "bold"),
        Cell(one.state, _STYLES.get(one.state, "yellow")),
        Cell(_when(one.since, now)),
        Cell(str(one.visitors)),
        Cell("" if one.pid is None else str(one.pid)),
        Cell("" if one.port is None else str(one.port)),
        Cell("unsaved", "yellow") if one.unsaved else Cell(_when(one.saved_at, now)),
        Cell(_note(one, now), "dim"),
    ]


def about(daemon: Daemon, now: float) -> str:
    told = (
        f"flyatc {daemon.version}, pid {daemon.pid}, started {words.ago(daemon.started, now)}, "
        f"listens on {daemon.listen}; {daemon.running} of {words.count(daemon.limit, 'app')} at most"
    )
    return (
        told if daemon.idle_exit_at is None else f"{told}; ends {words.ago(daemon.idle_exit_at, now)} if nobody comes"
    )


def _when(stamp: str | None, now: float | None) -> str:
    if stamp is None:
        return ""
    return stamp if now is None else words.ago(stamp, now)


def _note(one: Status, now: float | None) -> str:
    parts = [one.reason or ""]
    if one.crashes:
        parts.append(f"crashes: {one.crashes}")
    if one.last_exit is not None and (one.reason or one.crashes):
        parts.append(f"last: {one.last_exit}")
    if one.restart_pending:
        parts.append("restarts when idle, with the new configuration")
    if one.idle_at is not None and now is not None:
        parts.append(f"stops {words.ago(one.idle_at, now)} if nobody comes")
    return "; ".join(part for part in parts if part)
