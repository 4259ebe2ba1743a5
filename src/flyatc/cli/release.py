import asyncio
import os
from pathlib import Path

import click

from flyatc.cli import address, options, words
from flyatc.cli.life import Done
from flyatc.config.schema import Config


@click.command()
@click.argument("user")
@options.config_file
def release(user: str, config_path: Path | None) -> int:
    """Let another machine take a user. Here his tenants are saved and stopped; for a machine that is dead its place is
    given free, and if it is the next to come nothing is lost.

    A machine that lives must release by itself: run this there.
    """
    config = options.read(config_path)
    user = address.user_of(config, user)
    code, told = asyncio.run(_release(config, user))
    click.echo(words.plain(told), err=bool(code))
    return code


async def _release(config: Config, user: str) -> tuple[int, str]:
    """The exit code, and what to say."""
    from flyatc.control.client import NoDaemon
    from flyatc.daemon import drills, owners
    from flyatc.ownership import operations
    from flyatc.ownership.freeing import Denied
    from flyatc.ownership.terms import Terms

    async with drills.opened(config, os.environ, hurried=drills.PATIENCE) as store:
        found = await owners.look(config, os.environ, store, [user])
        if found and found[0].here and found[0].state == "held":
            try:
                await asyncio.to_thread(options.client(config).post, "/stop", Done, address=user)
            except NoDaemon:
                pass  # it has not come to its end in order
            else:
                [after] = await owners.look(config, os.environ, store, [user])
                if after.state == "released":
                    return 0, f"{user} is saved, stopped and released: whoever is visited first takes it"
                return 1, f"{user} is stopped, but not released: {after.note or f'it is {after.state} again'}"
        decision = await operations.release(store, user, Terms.of(config.storage.session_ttl))
    if isinstance(decision, Denied):
        return 1, decision.reason
    return 0, f"{user} is released ({decision.reason}): whoever is visited first takes it"
