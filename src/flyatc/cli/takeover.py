import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import address, options, words
from flyatc.config.schema import Config

if TYPE_CHECKING:
    from flyatc.ownership.freeing import Denied, Free, Settled


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.config_file
def takeover(user: str, yes: bool, config_path: Path | None) -> int:
    """Take a user away from a machine that never comes back: what it has not saved does not count any more.

    Says first what may be lost, and asks. A machine that lives cannot be robbed: stop it, or run flyatc release there.
    """
    from flyatc.ownership.freeing import Free

    config = options.read(config_path)
    user = address.user_of(config, user)
    planned = asyncio.run(_decide(config, user, do=False))
    if not isinstance(planned, Free):
        click.echo(words.plain(planned.reason), err=True)
        return 1
    click.echo(words.plain(f"{planned.reason}.\nWhat may be lost: {planned.loses or 'nothing'}."), err=True)
    if not (yes or _agreed(user)):
        click.echo("nothing was changed", err=True)
        return 1
    done = asyncio.run(_decide(config, user, do=True))
    if not isinstance(done, Free):
        click.echo(words.plain(done.reason), err=True)
        return 1
    click.echo(f"{user} is free: whoever is visited first takes it")
    return 0


async def _decide(config: Config, user: str, *, do: bool) -> "Free | Denied | Settled":
    from flyatc.daemon import drills
    from flyatc.ownership import operations
    from flyatc.ownership.terms import Terms

    terms = Terms.of(config.storage.session_ttl)
    async with drills.opened(config, os.environ, hurried=drills.PATIENCE) as store:
        if do:
            return await operations.takeover(store, user, terms)
        return await operations.plan(store, user, terms, accept_loss=True)


def _agreed(user: str) -> bool:
    if not sys.stdin.isatty():
        click.echo("not on a terminal, and without --yes: nobody has agreed", err=True)
        return False
    return click.confirm(f"Take over {user}?", err=True)
