"""The commands start, stop and restart."""

from pathlib import Path

import click
from msgspec import Struct

from flyatc.cli import common, output
from flyatc.control.types import Overview
from flyatc.tenants.state import Status

tenant = click.argument("tenant", metavar="USER[/TENANT]")


class Done(Struct, frozen=True):
    """An empty response."""


@click.command()
@tenant
@common.config_file
def start(tenant: str, config_path: Path | None) -> None:
    """Start a tenant, or all of a user; returns when the apps are ready."""
    ask("start", tenant, config_path)


@click.command()
@tenant
@common.config_file
def stop(tenant: str, config_path: Path | None) -> None:
    """Save and stop a tenant, or all of a user. The next request starts it again."""
    ask("stop", tenant, config_path)


@click.command()
@tenant
@common.config_file
def restart(tenant: str, config_path: Path | None) -> None:
    """Stop and start a tenant, or all of a user. Requests wait meanwhile."""
    ask("restart", tenant, config_path)


def ask(verb: str, pasted: str, config_path: Path | None) -> None:
    config = common.read(config_path)
    wanted = common.of(config, pasted)
    daemon = common.client(config)
    daemon.post(f"/{verb}", Done, address=wanted)
    lines = [line(one) for one in daemon.get("/status", Overview).tenants if common.belongs(one.tenant, wanted)]
    for text in lines or [f"{wanted} is stopped"]:  # stopped tenants of '*' are not listed
        click.echo(text)


def line(one: Status) -> str:
    where = "" if one.pid is None else f", pid {one.pid}, port {one.port}"
    return output.plain(f"{one.tenant} is {one.state}{where}")
