"""The kept versions of databases, as a table."""

import time
from typing import TYPE_CHECKING

import click

from flyatc.cli import show, words
from flyatc.cli.show import Cell
from flyatc.control.answers import History, Version
from flyatc.kit.units import human_octets

if TYPE_CHECKING:
    from flyatc.control.client import Client

HEADINGS = ("DATABASE", "VERSION", "SAVED", "SIZE", "STORED", "")


def ask(daemon: "Client", address: str, database: str | None) -> History:
    return daemon.get("/history", History, address=address, database=database)


def tell(history: History, *, as_json: bool) -> None:
    if as_json:
        return show.json(history)
    if history.versions:
        now = time.time() if show.on_terminal() else None
        show.table(HEADINGS, [row(one, now) for one in history.versions])
    else:
        click.echo("nothing of it is in the store: it was never saved", err=True)
    for folder in history.orphans:
        click.echo(f"set aside earlier, see flyatc orphans: {words.plain(folder)}", err=True)


def current(history: History) -> History:
    return History(versions=[one for one in history.versions if one.current])


def row(one: Version, now: float | None) -> list[Cell]:
    """``now`` None: for programs."""
    return [
        Cell(one.database, "bold"),
        Cell(one.id),
        Cell(one.saved if now is None else words.ago(one.saved, now)),
        Cell(size(one.size, now)),
        Cell(size(one.compressed, now), "dim"),
        Cell("current" if one.current else "", "green"),
    ]


def size(octets: int | None, now: float | None) -> str:
    """``now`` as above."""
    if octets is None:
        return ""
    return str(octets) if now is None else human_octets(octets)
