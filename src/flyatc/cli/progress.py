"""How far backup and restore have come."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from flyatc.cli import words
from flyatc.control.client import Cut
from flyatc.kit.units import human_octets

Update = Callable[[str, int, int], None]


class Line(Struct, frozen=True):
    step: str = ""
    done: int = 0
    total: int = 0
    finished: bool = False


def watch(lines: Iterator[bytes], *, quiet: bool) -> None:
    """Returns when the daemon has said that it is done. Shows a bar on a terminal. Raises what the client raises."""
    with _bar() if sys.stderr.isatty() and not quiet else _nothing() as update:
        for raw in lines:
            line = msgspec.json.decode(raw, type=Line)
            if line.finished:
                return
            update(line.step, line.done, line.total)
    raise Cut


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
                known[step] = bar.add_task(words.plain(step), total=total, size="")
            bar.update(known[step], completed=done, total=total, size=f"{human_octets(done)} of {human_octets(total)}")

        yield update
