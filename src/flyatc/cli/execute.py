"""The command exec."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from msgspec import Struct

from flyatc.cli import common, output
from flyatc.control.client import Client
from flyatc.control.execute import Ended
from flyatc.control.types import Tenants
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from flyatc.cli.execute_plan import Result
    from flyatc.cli.execute_run import Book

FAILED, BY_SIGNAL = 1, 128
MOST_PARALLEL = 64
LAST_LINES, LAST_BYTES = 5, 4096
EXAMPLE = "flyatc exec bellevue/2025/winter -- bin/rails console"


class Summary(Struct, frozen=True, kw_only=True):
    """``folder``: with the journal and the output of each tenant. ``left``: not done, in order. ``why``: it ended."""

    run: str
    folder: str
    done: int
    failed: list["Result"]
    elsewhere: list["Result"]
    left: list[str]
    why: str


class Options(NamedTuple):
    parallel: int
    keep_going: bool
    no_rollback: bool
    rehearse: bool
    resume: bool


class WithWords(click.Command):
    """A command whose arguments end with another command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(f"{error.format_message()} Write -- before the command: {EXAMPLE}", ctx) from error


@click.command("exec", cls=WithWords)
@click.argument("words", metavar="[TENANT] -- COMMAND …", nargs=-1, type=click.UNPROCESSED)
@click.option("--all", "everyone", is_flag=True, help="For all tenants that have data, one after the other.")
@click.option("--user", metavar="USER", help="For all tenants of a user.")
@click.option("--parallel", type=click.IntRange(1, MOST_PARALLEL), default=2, show_default=True, metavar="N",
              help="So many tenants at the same time.")  # fmt: skip
@click.option("--keep-going", is_flag=True, help="Go on with the others after a failure.")
@click.option("--no-rollback", is_flag=True, help="Keep what a failed command has changed.")
@click.option("--rehearse", is_flag=True, help="On copies of what the store has: touches nothing else.")
@click.option("--resume", is_flag=True, help="Go on with the last run, without the tenants that are done.")
@common.asks
@common.as_json
def execute(
    words: Sequence[str],
    everyone: bool,
    user: str | None,
    daemon: Client,
    as_json: bool,
    **options: Any,
) -> int:
    """Run a command for a tenant: in the app's directory, with its environment, its databases and its isolation.

    A running app runs on beside it. A stopped tenant is acquired and restored before, and saved after. At a terminal
    the command gets one, so that consoles work. The exit code is that of the command.

    With --all or --user: for each tenant the app is stopped while its requests wait, and everything is saved. If the
    command fails, the databases are as they were before, and no other tenant is begun.
    """
    how = Options(**options)
    if everyone and user is not None:
        raise click.UsageError("--all or --user, not both")
    if everyone or user is not None:
        return _for_many(daemon, words, user, how, as_json=as_json)
    if how.resume or how.no_rollback or how.keep_going:
        raise click.UsageError("--resume, --no-rollback and --keep-going are for --all and --user")
    if len(words) < 2:
        raise click.UsageError(f"write a tenant and a command: {EXAMPLE}")
    from flyatc.control import execute_client  # it imports what only this command needs

    return exit_code(execute_client.run(daemon.data, common.asked(daemon, words[0]), words[1:], rehearse=how.rehearse))


def exit_code(ended: Ended) -> int:
    """Return the exit code as a shell would, after the daemon's message. Raises FlyatcError if nothing ran."""
    if ended.code is None and ended.signal is None:
        raise FlyatcError(ended.error or "the command did not run")
    if ended.error is not None:
        click.echo(output.plain_lines(ended.error), err=True)
    if ended.signal is not None:
        return BY_SIGNAL + ended.signal
    return ended.code or (FAILED if ended.error is not None else 0)


def _for_many(daemon: Client, words: Sequence[str], user: str | None, how: Options, *, as_json: bool) -> int:
    if not words and not how.resume:
        raise click.UsageError("write a command: flyatc exec --all -- bin/rails db:migrate")
    if how.rehearse and how.resume:
        raise click.UsageError("a rehearsal changes nothing, so it is not resumed: give it again")
    with closing(_resumed(daemon, words, user) if how.resume else _new(daemon, words, user, how)) as book:
        return _run(daemon, book, how.parallel, keep_going=how.keep_going or how.rehearse, as_json=as_json)


def _new(daemon: Client, words: Sequence[str], user: str | None, how: Options) -> "Book":
    from flyatc.cli import execute_plan, execute_run

    tenants = daemon.get("/tenants", Tenants, user=user).tenants
    if not tenants:
        raise FlyatcError("no tenant has data yet" if user is None else f"no tenant of {user} has data yet")
    head = execute_plan.Head(
        run=execute_run.new_name(),
        command=list(words),
        scope=user,
        undo=not how.no_rollback,
        rehearse=how.rehearse,
        tenants=tenants,
    )
    with _journal(daemon):
        return execute_run.Book.new(daemon.data, head)


def _resumed(daemon: Client, words: Sequence[str], user: str | None) -> "Book":
    from flyatc.cli import execute_run

    with _journal(daemon):
        return execute_run.Book.unfinished(daemon.data, user, words)


@contextmanager
def _journal(daemon: Client) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FlyatcError(f"the journal below {daemon.data} cannot be used, so nothing goes on: {error}") from error


def _run(daemon: Client, book: "Book", parallel: int, *, keep_going: bool, as_json: bool) -> int:
    from flyatc.cli import execute_plan, execute_run

    head, known = book.journal.head, dict(book.journal.results)
    if known:
        click.echo(f"goes on with the run {head.run} of {' '.join(head.command)}: {book.journal.summary}", err=True)
    with _shown(len(book.journal.left), quiet=as_json) as show, _journal(daemon):
        runner = execute_run.Runner(daemon.data, book, show)
        now, why = runner.run(parallel, keep_going=keep_going, interrupted=_interrupted)
    known |= {one.tenant: one for one in now.results}
    summary = Summary(
        run=head.run,
        folder=str(book.folder),
        done=sum(one.state == execute_plan.DONE for one in known.values()),
        failed=execute_plan.failures(list(known.values())),
        elsewhere=[one for one in known.values() if one.state == execute_plan.ELSEWHERE],
        left=execute_plan.Journal(head, known).left,
        why=why,
    )
    if as_json:
        output.json(summary)
    else:
        _print(summary, head.scope, rehearsed=head.rehearse)
    untried = [one for one in summary.left if one not in known]
    return FAILED if summary.failed or untried else 0


def _interrupted() -> None:
    click.echo("what runs is brought to its end; Ctrl-C again ends it, and undoes it", err=True)


def _print(summary: Summary, user: str | None, *, rehearsed: bool) -> None:
    click.echo(f"{output.count(summary.done, 'tenant')} done: {summary.why}", err=True)
    for one in summary.failed:
        _print_failure(one)
    by_machine: dict[str, list[str]] = {}
    for one in summary.elsewhere:
        by_machine.setdefault(one.machine or "", []).append(one.tenant)
    for machine, tenants in sorted(by_machine.items()):
        click.echo(output.plain(f"of {machine}, give this command there: {', '.join(tenants)}"), err=True)
    rest = len(summary.left) - len(summary.elsewhere)
    if rest:
        scope = "--all" if user is None else f"--user {user}"
        how = "" if rehearsed else f": flyatc exec {scope} --resume goes on"
        click.echo(f"{output.count(rest, 'tenant')} left{how}. See {summary.folder}", err=True)


def _print_failure(one: "Result") -> None:
    how = f"exit code {one.code}" if one.code is not None else one.state
    click.echo(output.plain(f"{one.tenant}: {how}{f': {one.error}' if one.error else ''}"), err=True)
    lines = [] if one.output is None else _last_lines(one.output)
    if lines:
        click.echo(f"  its output: {one.output}", err=True)
    for line in lines:
        click.echo(f"  | {output.plain(line)}", err=True)


def _last_lines(path: str) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        return []


@contextmanager
def _shown(total: int, *, quiet: bool) -> Iterator[Callable[["Result"], None]]:
    """Show results as they come: a bar on a terminal, else a line each."""
    if quiet:
        yield lambda one: None
    elif sys.stderr.isatty():
        with output.counted(total) as update:
            yield lambda one: update(f"{one.tenant} {one.state}")
    else:
        yield lambda one: click.echo(output.plain(f"{one.state:<11}  {one.tenant}  {one.seconds:.1f} s"))
