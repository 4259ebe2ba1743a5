"""Output of commands: tables, colour and progress on a terminal, plain columns and JSON for programs."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import click
import msgspec
from msgspec import Struct

from flyatc.kit.units import human_seconds, human_size
from flyatc.observe.log_text import inert_json
from flyatc.observe.log_text import plain as plain
from flyatc.observe.log_text import plain_lines as plain_lines


class Cell(NamedTuple):
    text: str
    style: str = ""  # of rich: "green", "dim", "bold red"


def on_terminal() -> bool:
    return sys.stdout.isatty()


def json(value: object) -> None:
    click.echo(inert_json(msgspec.json.format(msgspec.json.encode(value), indent=2)))


def in_colour() -> bool:
    """True unless NO_COLOR is set (https://no-color.org); for terminals."""
    return not os.environ.get("NO_COLOR")


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table. For programs an empty cell is ``-``, so that columns can be cut."""
    if on_terminal():
        return _rich(headings, rows)
    lines = [list(headings), *([plain(cell.text) or "-" for cell in row] for row in rows)]
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
        drawn.add_row(*(Text(plain(cell.text), cell.style) for cell in row))
    Console().print(drawn)


def ago(stamp: str, now: float) -> str:
    """RFC 3339 → ``"3 min ago"``, ``"in 12 s"``, ``"now"``. ``now``: Unix time."""
    past = now - datetime.fromisoformat(stamp).timestamp()
    if abs(past) < 1:
        return "now"
    length = human_seconds(round(abs(past)))
    return f"{length} ago" if past > 0 else f"in {length}"


def count(number: int, noun: str) -> str:
    """``"1 user"``, ``"2 users"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


Update = Callable[[str, int, int], None]


class Line(Struct, frozen=True):
    step: str = ""
    done: int = 0
    total: int = 0
    finished: bool = False
    notes: list[str] = []


def watch(lines: Iterator[bytes], *, quiet: bool) -> None:
    """Show progress, on a terminal as a bar, until the daemon reports the end; then its notes. Raises as the client."""
    with _bar() if sys.stderr.isatty() and not quiet else _nothing() as update:
        for raw in lines:
            line = msgspec.json.decode(raw, type=Line)
            if line.finished:
                break
            update(line.step, line.done, line.total)
        else:
            from flyatc.control.client import Cut  # the caller has loaded it, if this is reached

            raise Cut
    for note in line.notes:
        click.echo(plain(note), err=True)


@contextmanager
def _nothing() -> Iterator[Update]:
    yield lambda step, done, total: None


@contextmanager
def _bar() -> Iterator[Update]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description:<9}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[size]}"),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        known: dict[str, progress.TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in known:
                known[step] = bar.add_task(plain(step), total=total, size="")
            bar.update(known[step], completed=done, total=total, size=f"{human_size(done)} of {human_size(total)}")

        yield update


@contextmanager
def counted(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal; what it yields is called at the end of each of ``total`` steps, with its name."""
    from rich import progress
    from rich.console import Console

    columns = progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[last]}")
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, last="")
        yield lambda name: bar.update(task, advance=1, last=plain(name))
