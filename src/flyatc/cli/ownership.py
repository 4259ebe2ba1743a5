"""The commands ownership, release and takeover."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.cli.tenants import Done
from flyatc.config.schema import Config
from flyatc.kit.errors import FlyatcError
from flyatc.kit.units import human_seconds

if TYPE_CHECKING:
    from flyatc.admin.store_access import Owner
    from flyatc.ownership.record_swap import RecordStore
    from flyatc.ownership.release_rules import Denied, Free, Settled

HEADINGS = ("USER", "STATE", "EPOCH", "MACHINE", "REGION", "LAST SIGN", "HERE", "NOTE")
_STYLES = {"held": "green", "released": "dim", "dirty": "bold red", "removed": "dim", "unknown": "yellow"}


@click.command()
@click.argument("user", metavar="[USER]", required=False)
@common.config_file
@common.as_json
def ownership(user: str | None, config_path: Path | None, as_json: bool) -> None:
    """List which machine may write each user's databases, and its last heartbeat. No daemon is needed."""
    config = common.read(config_path)
    found = asyncio.run(_look(config, None if user is None else common.user_of(config, user)))
    if as_json:
        return output.json(found)
    if found:
        output.table(HEADINGS, [row(one) for one in found])
    else:
        click.echo("no user has an owner yet" if user is None else f"{user} has never had an owner", err=True)


async def _look(config: Config, user: str | None) -> list["Owner"]:
    from flyatc.admin import store_access

    async with store_access.opened(config, os.environ, hurried=store_access.PATIENCE) as store:
        users = [user] if user is not None else (await store_access.take_inventory(store, None)).users
        return await store_access.read_owners(config, os.environ, store, users)


def row(one: "Owner") -> list[Cell]:
    sign = "" if one.sign is None else f"{one.sign:.0f}s"
    return [
        Cell(one.user, "bold"),
        Cell(one.state, _STYLES.get(one.state, "")),
        Cell(str(one.epoch)),
        Cell(one.machine),
        Cell(one.region),
        Cell(f"{human_seconds(one.sign)} ago" if output.on_terminal() and one.sign is not None else sign),
        Cell("this machine" if output.on_terminal() and one.here else "yes" if one.here else ""),
        Cell(one.note, "dim"),
    ]


PATIENCE = 6.0  # s; for a busy daemon to restore a deleted data folder
LOOK = 0.1  # s between two checks
NEXT_REQUEST = "the machine with the next request takes it"
REMOVED = (
    "every machine answers 404, until flyatc users add or flyatc release --undo-remove. Its data stay in the store"
)


@click.command()
@click.argument("user")
@click.option("--to", metavar="MACHINE", help="Only that machine of the same app may take the user.")
@click.option(
    "--remove", is_flag=True, help="No machine may take the user: all answer 404. Its data stay in the store."
)
@click.option("--undo-remove", is_flag=True, help="Serve a removed user again.")
@common.config_file
def release(user: str, to: str | None, remove: bool, undo_remove: bool, config_path: Path | None) -> int:
    """Let another machine take a user. If this machine holds it, its tenants are saved and stopped. If a dead machine
    holds it, its lease is freed; nothing is lost if that machine is the next to take it.

    A live machine must release by itself: run this there.
    """
    if (to is not None) + remove + undo_remove > 1:
        raise click.UsageError("--to, --remove and --undo-remove exclude each other")
    config = common.read(config_path)
    user = common.user_of(config, user)
    _check(config, user, to)
    code, text = asyncio.run(_add(config, user) if undo_remove else _release(config, user, to, remove))
    click.echo(output.plain(text), err=bool(code))
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
    """Returns the exit code and the message."""
    from flyatc.admin import store_access
    from flyatc.ownership import operator_commands
    from flyatc.ownership.rules import Terms

    async with store_access.opened(config, os.environ, hurried=store_access.PATIENCE) as store:
        if await operator_commands.add(store, user, Terms.of(config.storage.session_ttl)):
            return 0, f"{user} is served again: {NEXT_REQUEST}"
    return 0, f"{user} is not removed; there is nothing to do"


async def _release(config: Config, user: str, to: str | None, remove: bool) -> tuple[int, str]:
    """Returns the exit code and the message."""
    from flyatc.admin import store_access
    from flyatc.control.client import NoDaemon, Refused
    from flyatc.control.types import Cleared
    from flyatc.ownership import operator_commands
    from flyatc.ownership.release_rules import Denied, Settled
    from flyatc.ownership.rules import Terms

    async with store_access.opened(config, os.environ, hurried=store_access.PATIENCE) as store:
        found = await store_access.read_owners(config, os.environ, store, [user])
        if found and found[0].state in ("held", "dirty") and await _restored_folder(Path(config.server.data)):
            found = await store_access.read_owners(config, os.environ, store, [user])
        if found and found[0].here and found[0].state in ("held", "dirty") and found[0].machine != to:
            done = await _by_daemon(config, store, user, to, remove)
            if done is not None:
                return done
        decision = await operator_commands.release(store, user, Terms.of(config.storage.session_ttl), to, remove=remove)
    with contextlib.suppress(NoDaemon, Refused):  # the daemon here may have served the user before, or not know it
        await asyncio.to_thread(common.client(config).post, "/cache/clear", Cleared, address=user)
    match decision:
        case Denied():
            return 1, decision.reason
        case Settled():
            return 0, f"{user}: {decision.reason}; there is nothing to do"
    return 0, f"{user} is {'removed' if remove else 'released'} ({decision.reason}): {_next(to, remove)}"


async def _restored_folder(data: Path) -> bool:
    """Wait until a running daemon has restored a deleted data folder, which takes a second or two; without the folder
    this machine's id is unknown. False: the folder was there, or no daemon runs."""
    from flyatc.control.types import socket_of

    if socket_of(data).exists():
        return False
    until = monotonic() + PATIENCE
    while monotonic() < until:
        await asyncio.sleep(LOOK)
        if socket_of(data).exists() and (data / ".flyatc" / "machine.json").exists():
            return True
    return False


async def _by_daemon(
    config: Config, store: "RecordStore", user: str, to: str | None, remove: bool
) -> tuple[int, str] | None:
    """Release by the daemon here. Returns exit code and message; None: no daemon runs, and none is needed."""
    from flyatc.admin import store_access
    from flyatc.control.client import NoDaemon

    try:
        await asyncio.to_thread(common.client(config).post, "/release", Done, user=user, to=to, remove=remove)
    except NoDaemon as error:  # the daemon did not stop cleanly
        if to is None and not remove:
            return None
        return 1, f"only a daemon here can save what is on this disk, which may be the newest: {error}"
    looked = await store_access.read_owners(config, os.environ, store, [user])
    if not looked:
        text = f"{user} is stopped, and has no record any more: nothing was ever written for it"
        return int(to is not None), f"{text}. {_next(None, remove=False)}"
    after = looked[0]
    if remove and after.state == "removed":
        return 0, f"{user} is saved, stopped and removed: {REMOVED}"
    if not remove and after.state == "released" and after.to == (to or ""):
        return 0, f"{user} is saved, stopped and released: {_next(to, remove)}"
    if to is not None and after.machine == to:
        return 0, f"{user} is saved, stopped and released: machine {to} has taken it"
    wanted = "removed" if remove else "released"
    return 1, f"{user} is stopped, but not {wanted}: {after.note or f'it is {after.state} again'}"


def _next(to: str | None, remove: bool) -> str:
    if remove:
        return REMOVED
    return f"machine {to} takes it at the next request" if to is not None else NEXT_REQUEST


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common.config_file
def takeover(user: str, yes: bool, config_path: Path | None) -> int:
    """Take a user from a machine that never comes back. What that machine has not saved is given up.

    Prints what may be lost, and asks. A live machine keeps its users: stop it, or run flyatc release there.
    """
    from flyatc.ownership.release_rules import Free

    config = common.read(config_path)
    user = common.user_of(config, user)
    planned = asyncio.run(_decide(config, user, do=False))
    if not isinstance(planned, Free):
        click.echo(output.plain(planned.reason), err=True)
        return 1
    click.echo(output.plain(f"{planned.reason}.\nWhat may be lost: {planned.loses or 'nothing'}."), err=True)
    if not (yes or _agreed(user)):
        click.echo("nothing was changed", err=True)
        return 1
    done = asyncio.run(_decide(config, user, do=True))
    if not isinstance(done, Free):
        click.echo(output.plain(done.reason), err=True)
        return 1
    click.echo(f"{user} is free: {NEXT_REQUEST}")
    return 0


async def _decide(config: Config, user: str, *, do: bool) -> "Free | Denied | Settled":
    from flyatc.admin import store_access
    from flyatc.ownership import operator_commands
    from flyatc.ownership.rules import Terms

    terms = Terms.of(config.storage.session_ttl)
    async with store_access.opened(config, os.environ, hurried=store_access.PATIENCE) as store:
        if do:
            return await operator_commands.takeover(store, user, terms)
        return await operator_commands.plan(store, user, terms, accept_loss=True)


def _agreed(user: str) -> bool:
    if not sys.stdin.isatty():
        click.echo("not on a terminal, and without --yes: not confirmed", err=True)
        return False
    return click.confirm(f"Take over {user}?", err=True)
