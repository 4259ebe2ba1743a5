"""The kept versions of databases, as a table."""

import time

import click

from flyatc.cli import show, words
from flyatc.cli.show import Cell
from flyatc.control.answers import History, Version
from flyatc.kit.units import human_octets

HEADINGS = ("DATABASE", "VERSION", "SAVED", "SIZE", "STORED", "")


def tell(history: History, *, as_json: bool) -> None:
    if as_json:
        return show.json(history)
    if history.versions:
        now = time.time() if show.on_terminal() else None
        show.table(HEADINGS, [row(one, now) for one in history.versions])
    else:
        click.echo("nothing of it is in the store: it was never saved", err=True)
    for folder in history.orphans:
        click.echo(f"set aside earlier, never removed by flyatc: {words.plain(folder)}", err=True)


def current(history: History) -> History:
    return History(versions=[one for one in history.versions if one.current])


def row(one: Version, now: float | None) -> list[Cell]:
    """``now`` None: for programs."""
    return [
        Cell(one.database, "bold"),
        Cell(one.id),
        Cell(one.saved if now is None else words.ago(one.saved, now)),
        Cell(_size(one.size, now)),
        Cell(_size(one.compressed, now), "dim"),
        Cell("current" if one.current else "", "green"),
    ]


def _size(octets: int | None, now: float | None) -> str:
    if octets is None:
        return ""
    return str(octets) if now is None else human_octets(octets)
