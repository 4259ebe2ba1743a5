import asyncio
import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from flyatc.cli import address, options, words
from flyatc.cli.life import Done
from flyatc.config.schema import Config
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from flyatc.ownership.swap import RecordStore

PATIENCE = 3.0  # s; for a daemon whose data folder was deleted
LOOK = 0.1  # s
ANYBODY = "whoever is visited first takes it"
NOBODY = "every machine answers 404, until flyatc users add or flyatc release --undo-remove. Its data stay in the store"


@click.command()
@click.argument("user")
@click.option("--to", metavar="MACHINE", help="Only that machine of the same app is to take him.")
@click.option("--remove", is_flag=True, help="Nobody is to take it: every machine answers 404. Its data stay.")
@click.option("--undo-remove", is_flag=True, help="Serve a removed user again.")
@options.config_file
def release(user: str, to: str | None, remove: bool, undo_remove: bool, config_path: Path | None) -> int:
    """Let another machine take a user. Here its tenants are saved and stopped; for a machine that is dead its place is
    given free, and if it is the next to come nothing is lost.

    A machine that lives must release by itself: run this there.
    """
    if (to is not None) + remove + undo_remove > 1:
        raise click.UsageError("--to, --remove and --undo-remove exclude each other")
    config = options.read(config_path)
    user = address.user_of(config, user)
    _check(config, user, to)
    code, told = asyncio.run(_add(config, user) if undo_remove else _release(config, user, to, remove))
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


async def _add(config: Config, user: str) -> tuple[int, str]:
    """The exit code, and what to say."""
    from flyatc.daemon import drills
    from flyatc.ownership import operations
    from flyatc.ownership.terms import Terms

    async with drills.opened(config, os.environ, hurried=drills.PATIENCE) as store:
        if await operations.add(store, user, Terms.of(config.storage.session_ttl)):
            return 0, f"{user} is served again: {ANYBODY}"
    return 0, f"{user} is not removed; there is nothing to do"


async def _release(config: Config, user: str, to: str | None, remove: bool) -> tuple[int, str]:
    """The exit code, and what to say."""
    from flyatc.daemon import drills, owners
    from flyatc.ownership import operations
    from flyatc.ownership.freeing import Denied, Settled
    from flyatc.ownership.terms import Terms

    async with drills.opened(config, os.environ, hurried=drills.PATIENCE) as store:
        found = await owners.look(config, os.environ, store, [user])
        if found and found[0].state in ("held", "dirty") and await _made_again(Path(config.server.data)):
            found = await owners.look(config, os.environ, store, [user])
        if found and found[0].here and found[0].state in ("held", "dirty") and found[0].machine != to:
            done = await _by_daemon(config, store, user, to, remove)
            if done is not None:
                return done
        decision = await operations.release(store, user, Terms.of(config.storage.session_ttl), to, remove=remove)
    match decision:
        case Denied():
            return 1, decision.reason
        case Settled():
            return 0, f"{user}: {decision.reason}; there is nothing to do"
    return 0, f"{user} is {'removed' if remove else 'released'} ({decision.reason}): {_next(to, remove)}"


async def _made_again(data: Path) -> bool:
    """Where somebody has deleted the data folder below a running daemon, that makes it again within a second or two;
    before, nobody can say which machine this is. False: it was there, or no daemon runs."""
    from flyatc.control import place

    if place.socket_of(data).exists():
        return False
    until = monotonic() + PATIENCE
    while monotonic() < until:
        await asyncio.sleep(LOOK)
        if place.socket_of(data).exists() and (data / ".flyatc" / "machine.json").exists():
            return True
    return False


async def _by_daemon(
    config: Config, store: "RecordStore", user: str, to: str | None, remove: bool
) -> tuple[int, str] | None:
    """None: no daemon runs here, and none is needed."""
    from flyatc.control.client import NoDaemon
    from flyatc.daemon import owners

    try:
        await asyncio.to_thread(options.client(config).post, "/release", Done, user=user, to=to, remove=remove)
    except NoDaemon as error:  # it has not come to its end in order
        if to is None and not remove:
            return None
        return 1, f"only a daemon here can save what is on this disk, which may be the newest: {error}"
    looked = await owners.look(config, os.environ, store, [user])
    if not looked:
        told = f"{user} is stopped, and has no record any more: nothing was ever written for it"
        return int(to is not None), f"{told}. {_next(None, remove=False)}"
    after = looked[0]
    if remove and after.state == "removed":
        return 0, f"{user} is saved, stopped and removed: {NOBODY}"
    if not remove and after.state == "released" and after.to == (to or ""):
        return 0, f"{user} is saved, stopped and released: {_next(to, remove)}"
    if to is not None and after.machine == to:
        return 0, f"{user} is saved, stopped and released: machine {to} has taken it"
    wanted = "removed" if remove else "released"
    return 1, f"{user} is stopped, but not {wanted}: {after.note or f'it is {after.state} again'}"


def _next(to: str | None, remove: bool) -> str:
    if remove:
        return NOBODY
    return f"machine {to} takes it at the next visit" if to is not None else ANYBODY
