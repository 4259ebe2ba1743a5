"""The command line. The module of a command is imported when the command runs; help imports none of them."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from flyatc import __version__
from flyatc.kit.errors import FlyatcError

FAILED, INTERRUPTED = 1, 130
NEAR, NEARER = 0.6, 0.8  # similarity of a misspelt command: without and with a program of that name (difflib)

# name → its module, and the line of the overview
COMMANDS = {
    "init": ("init", "Write tenants.yaml for the app in this folder, and say what to change in it."),
    "serve": ("serve", "Run the daemon."),
    "run": ("serve", "Run one app, without tenants: in place of thruster."),
    "check": ("check", "Print every fault of tenants.yaml at once."),
    "doctor": ("check", "Try the store, the disk and the platform's limits; say what to change."),
    "status": ("status", "List the tenants: which run, since when, how well saved."),
    "start": ("tenants", "Start a tenant, or all of a user."),
    "stop": ("tenants", "Save and stop a tenant, or all of a user."),
    "restart": ("tenants", "Stop and start a tenant, or all of a user."),
    "exec": ("execute", "Run a command for a tenant, such as a console or a migration."),
    "logs": ("status", "Print the last lines of the log, the apps' own among them."),
    "route": ("status", "Show which user and tenant a path belongs to, where it is served, and why."),
    "backup": ("databases", "Save a tenant's databases now."),
    "history": ("databases", "List the kept versions of a tenant's databases."),
    "restore": ("databases", "Bring back a version of a tenant's databases, or what was set aside."),
    "copy": ("copy", "Write a copy of a tenant's database to a file: as it is now, or a version."),
    "orphans": ("databases", "List what was set aside, and how to get it back."),
    "verify": ("databases", "Restore all that the store has into a scratch folder, and check it."),
    "ownership": ("ownership", "List which machine may write each user's databases."),
    "release": ("ownership", "Let another machine take a user."),
    "takeover": ("ownership", "Take a user away from a machine that never comes back."),
    "users": ("fly", "Users and their machines on Fly: list, add, remove, move."),
    "machines": ("fly", "List the machines on Fly, their users, and the users they hold."),
    "cost": ("cost", "Show what each user of this machine costs a month on Fly."),
    "reload": ("serve", "Have the daemon read tenants.yaml again."),
    "maintenance": ("tenants", "Close a tenant, a user or everything for a while, and open it again."),
    "pause": ("tenants", "Hold the requests for a tenant, a user or everything."),
    "resume": ("tenants", "End a pause."),
    "cache": ("tenants", "Forget the cached responses."),
    "sim": ("sim", "A small Fly on this machine, to try many machines."),
    "api": ("serve", "List the routes of the control API, or print them as OpenAPI."),
    "version": ("serve", "Print the version."),
}

FUNCTIONS = {"exec": "execute"}  # whose name is not the command's


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"flyatc.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, FUNCTIONS.get(cmd_name, cmd_name))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Run an unknown command as a program, unless it looks like a misspelt command: more so if there is such a
        program, as stat for start."""
        if args[0] not in COMMANDS:
            import difflib  # imported late: other commands need neither
            import shutil

            near = difflib.get_close_matches(args[0], COMMANDS, 1, NEAR if shutil.which(args[0]) is None else NEARER)
            if near and "/" not in args[0]:
                way_out = f"A program is run by: flyatc run -- {args[0]}"
                raise click.UsageError(f"there is no command {args[0]!r}; did you mean {near[0]}? {way_out}", ctx)
            args = ["run", "--", *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="flyatc %(version)s")
@click.pass_context
def flyatc(ctx: click.Context) -> None:
    """Turns an app written for one customer into a service for many."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    _fill_standard_descriptors()
    sys.exit(run(sys.argv[1:]))


def _fill_standard_descriptors() -> None:
    """Open descriptors which the parent has closed (``>&-``): a database must never get the number of a log."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # gets the lowest number that is free


def run(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        _check(arguments)
        code = flyatc.main(arguments, prog_name="flyatc", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except FlyatcError as error:
        from flyatc.cli import output  # the message may hold text of a store or an app

        click.echo(output.plain_lines(str(error)), err=True)
        return FAILED
    return int(code or 0)


def _check(arguments: Sequence[str]) -> None:
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError as error:
        raise click.UsageError("the arguments must be UTF-8") from error
