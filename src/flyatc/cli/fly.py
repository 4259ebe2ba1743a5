"""The commands users and machines, for users and their machines on Fly. A dry run prints the plan only."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.config.schema import Config

if TYPE_CHECKING:
    from flyatc.admin.users_plan import Seen
    from flyatc.admin.users_steps import Plan
    from flyatc.admin.users_view import UserRow


USER_HEADINGS = ("USER", "MACHINE", "NAME", "REGION", "STATE", "OWNED", "BY", "LAST SIGN", "TENANTS", "NOTE")
_USER_STYLES = {
    "started": "green",
    "stopped": "dim",
    "suspended": "yellow",
    "held": "green",
    "dirty": "bold red",
    "removed": "dim",
}

app = click.option("--app", "app_name", metavar="NAME", help="Default: $FLY_APP_NAME, then app in ./fly.toml.")
_dry = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


@click.group()
def users() -> None:
    """Users and their machines on Fly: list, add, remove, move. FLY_API_TOKEN is needed, on a laptop or in a machine.

    An interrupted command is completed by running it again.
    """


@users.command(name="list")
@app
@common.config_file
@common.as_json
def list_(app_name: str | None, config_path: Path | None, as_json: bool) -> None:
    """List users, their machines, and who owns them by the store's record."""
    from flyatc.admin import users_view

    config = common.read(config_path)
    seen = asyncio.run(look(config, app_name))
    found = users_view.users(seen, config)
    if as_json:
        return output.json(found)
    output.table(USER_HEADINGS, [_row(one) for one in found])
    warn(seen)
    return None


@users.command()
@click.argument("user")
@click.option("--region", metavar="R", help="Default: that of the machine which is copied.")
@click.option("--like", metavar="MACHINE", help="The machine whose config is copied; default: another user's.")
@_dry
@app
@common.config_file
def add(
    user: str, region: str | None, like: str | None, dry_run: bool, app_name: str | None, config_path: Path | None
) -> None:
    """Give a user a machine of its own, unless it has one. A removed user is served again, with all of its data."""
    from flyatc.admin import users_plan

    config = common.read(config_path)
    user = common.user_of(config, user)
    asyncio.run(_do(config, app_name, lambda seen: users_plan.add(seen, user, region, like), dry=dry_run))


@users.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do it. Without it, only print what would be done.")
@app
@common.config_file
def remove(user: str, yes: bool, app_name: str | None, config_path: Path | None) -> None:
    """Save all, and destroy a user's machine. From then on every machine answers 404, until the user is added again.
    What is in the store stays."""
    from flyatc.admin import users_plan

    config = common.read(config_path)
    user = common.user_of(config, user)
    asyncio.run(_do(config, app_name, lambda seen: users_plan.remove(seen, user), dry=not yes, unless="--yes"))
    click.echo(
        f"what the store has of {user} stays there; every machine answers 404 until flyatc users add {user} brings it "
        "back"
    )


@users.command()
@click.argument("user")
@click.option("--to", metavar="MACHINE", help="Its id or its name.")
@click.option("--region", metavar="R", help="To a machine there, which is made if there is none.")
@click.option("--destroy", is_flag=True, help="Destroy the old machine afterwards; needs --yes.")
@click.option("--yes", is_flag=True, help="Confirm. Without it, --destroy only prints what would be done.")
@_dry
@app
@common.config_file
def move(
    user: str,
    to: str | None,
    region: str | None,
    destroy: bool,
    yes: bool,
    dry_run: bool,
    app_name: str | None,
    config_path: Path | None,
) -> None:
    """Hand a user over to one other machine. Its requests wait meanwhile, and go on there."""
    from flyatc.admin import users_plan

    if (to is None) == (region is None):
        raise click.UsageError("say either --to MACHINE or --region R")
    config = common.read(config_path)
    user = common.user_of(config, user)

    def plan(seen: "Seen") -> "Plan":
        return users_plan.move(seen, user, to=to, region=region, pin=config.pin_of(user), destroy=destroy)

    asyncio.run(_do(config, app_name, plan, dry=dry_run or (destroy and not yes), unless="--yes" if destroy else ""))


async def look(config: Config, app_name: str | None) -> "Seen":
    from flyatc.admin import users_view

    async with users_view.opened(config, os.environ, app_name) as one:
        return await one.look()


async def _do(
    config: Config, app_name: str | None, plan: Callable[["Seen"], "Plan"], *, dry: bool, unless: str = ""
) -> None:
    """``unless``: the option without which nothing is destroyed."""
    from flyatc.admin import users_view

    async with users_view.opened(config, os.environ, app_name) as one:
        seen = await one.look()
        made = plan(seen)
        warn(seen)
        if dry:
            for number, step in enumerate(made.steps, 1):
                _say(f"{number}/{len(made.steps)} {step}")
        else:
            await one.carry_out(made, _say)
        for note in made.notes:
            _say(note)
        _say(_conclusion(made, dry=dry, unless=unless))


def _conclusion(made: "Plan", *, dry: bool, unless: str) -> str:
    if not made.steps:
        return "nothing is to be done"
    if dry:
        return f"nothing was done: add {unless} to do it" if unless else "nothing was done"
    return "done"


def _say(text: str) -> None:
    click.echo(output.plain(text))


def warn(seen: "Seen") -> None:
    if seen.owners is None:
        click.echo(output.plain(f"the owners are not known: {seen.why}"), err=True)


def _row(one: "UserRow") -> list[Cell]:
    return [
        Cell(one.user, "bold"),
        Cell(one.machine),
        Cell(one.name),
        Cell(one.region),
        Cell(one.state, _USER_STYLES.get(one.state, "")),
        Cell(one.owned, _USER_STYLES.get(one.owned, "")),
        Cell(one.owner),
        sign(one.sign),
        Cell(" ".join(one.tenants)),
        Cell(one.note, "dim"),
    ]


def sign(seconds: float | None) -> Cell:
    return Cell("" if seconds is None else f"{seconds:.0f}s")


MACHINE_HEADINGS = ("MACHINE", "NAME", "REGION", "STATE", "USER", "VERSION", "HOLDS", "LAST SIGN", "NOTE")
_MACHINE_STYLES = {"started": "green", "stopped": "dim", "suspended": "yellow"}


@click.command()
@app
@common.config_file
@common.as_json
def machines(app_name: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the app's machines on Fly, their users, and the users they hold. FLY_API_TOKEN is needed."""
    from flyatc.admin import users_view

    seen = asyncio.run(look(common.read(config_path), app_name))
    found = users_view.machines(seen)
    if as_json:
        return output.json(found)
    rows = [
        [
            Cell(one.machine, "bold"),
            Cell(one.name),
            Cell(one.region),
            Cell(one.state, _MACHINE_STYLES.get(one.state, "")),
            Cell(one.user),
            Cell(one.version),
            Cell(" ".join(one.holds)),
            sign(one.sign),
            Cell(one.note, "dim"),
        ]
        for one in found
    ]
    output.table(MACHINE_HEADINGS, rows)
    warn(seen)
    return None
