"""The commands check and doctor."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, output
from flyatc.config import document, load, schema_docs
from flyatc.config.schema import ANYONE, App, Config
from flyatc.fly import provision

if TYPE_CHECKING:
    from flyatc.admin.doctor import Finding


@click.command()
@common.config_file
@click.option("--schema", is_flag=True, help="Print the JSON Schema of tenants.yaml, for editors.")
def check(config_path: Path | None, schema: bool) -> None:
    """Print every fault of tenants.yaml at once, each with its line and key."""
    if schema:
        return output.json(schema_docs.json_schema())
    click.echo(summary(load.load(document.find(config_path), os.environ, thorough=True)))


def summary(config: Config) -> str:
    from flyatc.fly import local_api

    users = len({tenant.user for tenant in config.tenants.values()})
    who = f"{output.count(users, 'user')}, {output.count(len(config.tenants), 'tenant')}"
    if config.pattern is not None:
        who += f", and others by the pattern {config.pattern.match}"
    store = config.storage.url if config.storage.mode != "none" else "none"
    lines = [
        f"{config.path}: no faults",
        f"  {who}",
        f"  requests  {config.server.listen}, below {config.server.root}",
        f"  data      {config.server.data}",
        f"  store     {store}",
    ]
    if (own := config.dashboard) is not None:
        lines.append(f"  dashboard {own.host or ''}{own.path}/{'' if own.password else ', without a password'}")
    if config.pattern is not None and config.pattern.provision:
        lacking = provision.why_unable(config, os.environ)
        made = f"made on Fly for users who have none, while there are less than {config.fly.machines_most}"
        lines.append(f"  machines  {made if lacking is None else f'none can be made: {lacking}'}")
    lines += [f"  warning   {sentence}" for sentence in (*placeless(config), *_without_litestream(config))]
    if (why := local_api.reason(config, os.environ)) is not None:
        lines.append(f"  warning   {why}")
    return "\n".join(map(output.plain, lines))


def placeless(config: Config) -> list[str]:
    """Return a warning if databases are named, and neither command nor environment says where they are to be."""
    tenants = [(one.address, one.app) for one in config.tenants.values() if one.app.databases or one.patterns]
    if config.pattern is not None:
        tenants += [
            (f"{ANYONE}/{name}" if name else ANYONE, app) for name, app in config.pattern.tenants if app.databases
        ]
    without = [address for address, app in tenants if not _names_data(app)]
    if not without:
        return []
    others = f" and {len(without) - SHOWN} more" if len(without) > SHOWN else ""
    return [
        f"databases are named, but {{data}} is nowhere in command and env: will the app put them there? "
        f"({', '.join(without[:SHOWN])}{others})"
    ]


def _without_litestream(config: Config) -> list[str]:
    if config.storage.mode != "litestream":
        return []
    from flyatc.databases.litestream import client

    try:
        client.find(config.storage.litestream, os.environ)
    except client.LitestreamMissing as error:
        return [f"{error}. No tenant can start until then"]
    return []


def _names_data(app: App) -> bool:
    commands = [one for one in app.before_start if isinstance(one, list)]
    words = [*app.command, *app.env.values(), *(word for command in commands for word in command)]
    return any("{data}" in word for word in words if word is not None)


SHOWN = 3  # tenants named in one warning
COLOURS = {"good": "green", "doubt": "yellow", "fault": "red"}


@click.command()
@common.config_file
@common.as_json
def doctor(config_path: Path | None, as_json: bool) -> int:
    """Check the store, the disk and the platform's limits, and say what to change.

    The exit code is 1 where something will not work."""
    found = asyncio.run(_examine(common.read(config_path), quiet=as_json))
    if as_json:
        output.json(found)
    return int(any(finding.state == "fault" for finding in found))


async def _examine(config: Config, *, quiet: bool) -> "list[Finding]":
    from flyatc.admin import doctor as examination

    found = []
    async for finding in examination.examine(config, os.environ):
        found.append(finding)
        if not quiet:
            _print(finding)
    return found


def _print(finding: "Finding") -> None:
    state = finding.state.ljust(5)
    if output.on_terminal() and output.in_colour():
        state = click.style(state, COLOURS[finding.state])
    click.echo(f"{state}  {finding.what.ljust(12)}  {output.plain(finding.text)}")
    if finding.advice:
        click.echo(f"{' ' * 21}→ {output.plain(finding.advice)}")
