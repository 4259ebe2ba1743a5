import asyncio
import os
from pathlib import Path

import click

from flyatc.cli import address, options, words
from flyatc.cli.life import Done
from flyatc.config.schema import Config
from flyatc.kit.errors import FlyatcError

ANYBODY = "whoever is visited first takes it"


@click.command()
@click.argument("user")
@click.option("--to", metavar="MACHINE", help="Only that machine of the same app is to take him.")
@options.config_file
def release(user: str, to: str | None, config_path: Path | None) -> int:
    """Let another machine take a user. Here his tenants are saved and stopped; for a machine that is dead its place is
    given free, and if it is the next to come nothing is lost.

    A machine that lives must release by itself: run this there.
    """
    config = options.read(config_path)
    user = address.user_of(config, user)
    _check(config, user, to)
    code, told = asyncio.run(_release(config, user, to))
    click.echo(words.plain(told), err=bool(code))
    return code


def _check(config: Config, user: str, to: str | None) -> None:
    """Raises FlyatcError."""
    if to is None:
        return
    from flyatc.ownership.record import MACHINE

    if MACHINE.fullmatch(to) is None:
        raise click.BadParameter(f"{to!r} is no id of a machine: flyatc machines lists them", param_hint="--to")
    pin = config.pin_of(user)
    if pin is not None and pin.machine not in (None, to):
        raise FlyatcError(f"tenants.yaml pins {user} to {pin}: change that first, and reload it on every machine")


async def _release(config: Config, user: str, to: str | None) -> tuple[int, str]:
    """The exit code, and what to say."""
    from flyatc.control.client import NoDaemon
    from flyatc.daemon import drills, owners
    from flyatc.ownership import operations
    from flyatc.ownership.freeing import Denied, Settled
    from flyatc.ownership.terms import Terms

    next_one = f"machine {to} takes it at the next visit" if to is not None else ANYBODY
    async with drills.opened(config, os.environ, hurried=drills.PATIENCE) as store:
        found = await owners.look(config, os.environ, store, [user])
        if found and found[0].here and found[0].state in ("held", "dirty") and found[0].machine != to:
            try:
                await asyncio.to_thread(options.client(config).post, "/release", Done, user=user, to=to)
            except NoDaemon as error:  # it has not come to its end in order
                if to is not None:
                    return 1, f"only a daemon here can save what is on this disk for another machine: {error}"
            else:
                [after] = await owners.look(config, os.environ, store, [user])
                if after.state == "released" and after.to == (to or ""):
                    return 0, f"{user} is saved, stopped and released: {next_one}"
                if to is not None and after.machine == to:
                    return 0, f"{user} is saved, stopped and released: machine {to} has taken it"
                return 1, f"{user} is stopped, but not released: {after.note or f'it is {after.state} again'}"
        decision = await operations.release(store, user, Terms.of(config.storage.session_ttl), to)
    match decision:
        case Denied():
            return 1, decision.reason
        case Settled():
            return 0, f"{user}: {decision.reason}; there is nothing to do"
    return 0, f"{user} is released ({decision.reason}): {next_one}"
