"""start, stop, restart: by hand what visits and silence do by themselves."""

from pathlib import Path

import click
from msgspec import Struct

from flyatc.cli import address, options, words
from flyatc.control.answers import Overview
from flyatc.tenants.status import Status

tenant = click.argument("tenant", metavar="USER[/TENANT]")


class Done(Struct, frozen=True):
    pass


@click.command()
@tenant
@options.config_file
def start(tenant: str, config_path: Path | None) -> None:
    """Start a tenant, or all of a user; returns when the apps answer."""
    ask("start", tenant, config_path)


@click.command()
@tenant
@options.config_file
def stop(tenant: str, config_path: Path | None) -> None:
    """Save and stop a tenant, or all of a user. The next visitor starts it again."""
    ask("stop", tenant, config_path)


@click.command()
@tenant
@options.config_file
def restart(tenant: str, config_path: Path | None) -> None:
    """Stop and start a tenant, or all of a user. Visitors wait meanwhile."""
    ask("restart", tenant, config_path)


def ask(verb: str, pasted: str, config_path: Path | None) -> None:
    config = options.read(config_path)
    wanted = address.of(config, pasted)
    daemon = options.client(config)
    daemon.post(f"/{verb}", Done, address=wanted)
    told = [line(one) for one in daemon.get("/status", Overview).tenants if address.belongs(one.tenant, wanted)]
    for text in told or [f"{wanted} is stopped"]:  # those of '*' are forgotten when they are stopped
        click.echo(text)


def line(one: Status) -> str:
    where = "" if one.pid is None else f", pid {one.pid}, port {one.port}"
    return words.plain(f"{one.tenant} is {one.state}{where}")
