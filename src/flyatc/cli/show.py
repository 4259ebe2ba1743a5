"""How commands print: tables and colour on a terminal, plain columns and JSON for programs."""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click
import msgspec

from flyatc.cli import words
from flyatc.observe.readable import inert_json


class Cell(NamedTuple):
    text: str
    style: str = ""  # of rich: "green", "dim", "bold red"


def on_terminal() -> bool:
    return sys.stdout.isatty()


def json(value: object) -> None:
    click.echo(inert_json(msgspec.json.format(msgspec.json.encode(value), indent=2)))


def in_colour() -> bool:
    """On a terminal; https://no-color.org is respected."""
    return not os.environ.get("NO_COLOR")


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Nothing is written as ``-`` where a program reads, so that columns can be cut."""
    if on_terminal():
        return _rich(headings, rows)
    lines = [list(headings), *([words.plain(cell.text) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _rich(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(words.plain(cell.text), cell.style) for cell in row))
    Console().print(drawn)
