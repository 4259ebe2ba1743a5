import asyncio
import os
from pathlib import Path

import click

from flyatc.cli import options, show, words
from flyatc.config.schema import Config
from flyatc.daemon.findings import Finding

COLOURS = {"good": "green", "doubt": "yellow", "fault": "red"}


@click.command()
@options.config_file
@options.as_json
def doctor(config_path: Path | None, as_json: bool) -> int:
    """Try what flyatc stands on: the store, the disk, the platform's limits; and say what to change.

    The exit code is 1 where something will not work."""
    found = asyncio.run(_examine(options.read(config_path), quiet=as_json))
    if as_json:
        show.json(found)
    return int(any(finding.state == "fault" for finding in found))


async def _examine(config: Config, *, quiet: bool) -> list[Finding]:
    from flyatc.daemon import doctor as examination

    found = []
    async for finding in examination.examine(config, os.environ):
        found.append(finding)
        if not quiet:
            _print(finding)
    return found


def _print(finding: Finding) -> None:
    state = finding.state.ljust(5)
    if show.on_terminal() and show.in_colour():
        state = click.style(state, COLOURS[finding.state])
    click.echo(f"{state}  {finding.what.ljust(12)}  {words.plain(finding.told)}")
    if finding.advice:
        click.echo(f"{' ' * 21}→ {words.plain(finding.advice)}")
