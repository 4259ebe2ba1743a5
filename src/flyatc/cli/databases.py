"""The commands backup, history, restore, orphans and verify; parsing of times for ``--at``."""

import io
import os
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyatc.cli import common, output
from flyatc.cli.output import Cell
from flyatc.control.client import Client
from flyatc.control.types import History, Version
from flyatc.kit import units
from flyatc.kit.units import human_size

if TYPE_CHECKING:
    from flyatc.admin.store_access import Orphan
    from flyatc.config.schema import Config
    from flyatc.databases.verify import Verdict


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@common.asks
@common.as_json
def backup(tenant: str, database: str | None, daemon: Client, as_json: bool) -> None:
    """Save a tenant's databases to the store now, or the one called DB. A running app goes on meanwhile.

    Prints the versions which the store then has as the current ones.
    """
    wanted = common.asked(daemon, tenant)
    output.watch(daemon.post_lines("/backup", address=wanted, database=database), quiet=as_json)
    print_history(current(ask(daemon, wanted, database)), as_json=as_json)


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@common.asks
@common.as_json
def history(tenant: str, database: str | None, daemon: Client, as_json: bool) -> None:
    """List the kept versions of a tenant's databases, newest first. flyatc restore brings any of them back."""
    found = ask(daemon, common.asked(daemon, tenant), database)
    print_history(found, as_json=as_json)


class Time(click.ParamType[float]):
    """Click parameter: a time, as Unix time."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return unix(value, time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("tenant", metavar="USER/TENANT")
@click.argument("database", metavar="[DB]", required=False)
@click.option("--list", "only_list", is_flag=True, help="As flyatc history: print the versions, change nothing.")
@click.option("--version", metavar="V", help="The version to bring back; without any, the current one of the store.")
@click.option(
    "--at", type=Time(), metavar="TIME", help="The newest of then: 2026-11-21T14:30:00Z, '2026-11-21 14:30', 2h."
)
@click.option("--orphan", metavar="NAME", help="What was set aside under this name: see flyatc orphans.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@common.asks
@common.as_json
def restore(
    tenant: str,
    database: str | None,
    only_list: bool,
    yes: bool,
    daemon: Client,
    as_json: bool,
    **choice: str | float | None,
) -> int:
    """Put a version from the store in place of a tenant's databases, or of the one called DB.

    A running app is stopped first and started after. What is replaced stays in the store's history.
    """
    chosen = chosen_version(choice)
    wanted = common.asked(daemon, tenant)
    if not only_list:
        if not (yes or _agreed(wanted, database, chosen)):
            click.echo("nothing was changed", err=True)
            return 1
        lines = daemon.post_lines("/restore", address=wanted, database=database, **chosen)
        output.watch(lines, quiet=as_json)
    history = ask(daemon, wanted, database)
    print_history(history if only_list else current(history), as_json=as_json)
    return 0


def chosen_version(options: Mapping[str, str | float | None]) -> dict[str, str | float]:
    """Return the one of --version, --at and --orphan that was given, or none. Raises UsageError."""
    chosen = {name: value for name, value in options.items() if value is not None}
    if len(chosen) > 1:
        raise click.UsageError("--version, --at and --orphan: one of them at most")
    return chosen


def _agreed(address: str, database: str | None, chosen: Mapping[str, str | float]) -> bool:
    if not sys.stdin.isatty():
        return True
    what = database or "all databases"
    return click.confirm(f"Replace {what} of {address} by {_named(chosen)}? Its requests wait meanwhile.", err=True)


def _named(chosen: Mapping[str, str | float]) -> str:
    match chosen:
        case {"version": version}:
            return f"version {version}"
        case {"at": float(at)}:
            return f"the newest version of {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(at))}"
        case {"orphan": name}:
            return f"what was set aside as {name}"
    return "the store's current version"


HEADINGS = ("DATABASE", "VERSION", "SAVED", "SIZE", "STORED", "")


def ask(daemon: Client, address: str, database: str | None) -> History:
    return daemon.get("/history", History, address=address, database=database)


def print_history(history: History, *, as_json: bool) -> None:
    if as_json:
        return output.json(history)
    if history.versions:
        now = time.time() if output.on_terminal() else None
        beside = any(one.beside for one in history.versions)
        rows = [row(one, now) + ([Cell(_beside(one), "dim")] if beside else []) for one in history.versions]
        output.table((*HEADINGS, *(["SAVED WITH"] if beside else [])), rows)
    else:
        click.echo("nothing of it is in the store: it was never saved", err=True)
    for note in history.notes:
        click.echo(output.plain(note), err=True)
    for folder in history.orphans:
        click.echo(f"set aside earlier, see flyatc orphans: {output.plain(folder)}", err=True)


def current(history: History) -> History:
    return History(versions=[one for one in history.versions if one.current], notes=history.notes)


def _beside(version: Version) -> str:
    return ", ".join(f"{name} {of or 'not saved'}" for name, of in sorted(version.beside.items()))


def row(one: Version, now: float | None) -> list[Cell]:
    """``now``: Unix time; None: for programs."""
    return [
        Cell(one.database, "bold"),
        Cell(one.id),
        Cell(one.saved if now is None else output.ago(one.saved, now)),
        Cell(size(one.size, now)),
        Cell(size(one.compressed, now), "dim"),
        Cell("current" if one.current else "", "green"),
    ]


def size(count: int | None, now: float | None) -> str:
    """``now``: see ``row``."""
    if count is None:
        return ""
    return str(count) if now is None else human_size(count)


SLACK = 60.0  # s; the clock of another machine may be ahead of ours

_CLOCK = re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?")
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d[ T]" + _CLOCK.pattern)
_ZONED = re.compile(_LOCAL.pattern + r"(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


def unix(text: str, now: float) -> float:
    """Parse ``2026-11-21T14:30:00Z`` (RFC 3339), ``2026-11-21 14:30`` (local time), ``14:30`` (today), ``2h`` (so long
    ago).

    ``now`` and the result are Unix time. Raises ValueError with a message for the user."""
    text = text.strip()
    if _CLOCK.fullmatch(text):
        text = f"{datetime.fromtimestamp(now, UTC).astimezone():%Y-%m-%d} {text}"
    if _ZONED.fullmatch(text) or _LOCAL.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text.upper()).timestamp()  # without a zone: the local one
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is no time: {error}") from error
    elif text[-1:].isalpha():
        try:
            moment = now - units.seconds(text)
        except ValueError:
            raise ValueError(_how(text)) from None
    else:
        raise ValueError(_how(text))
    if moment > now + SLACK:
        raise ValueError(f"{text!r} is in the future")
    return moment


def _how(text: str) -> str:
    return (
        f"{text!r} is not a time: write 2026-11-21T14:30:00Z, '2026-11-21 14:30' (local time), 14:30 (of today), "
        "or 2h (so long ago)"
    )


ORPHAN_HEADINGS = ("TENANT", "DATABASE", "SET ASIDE", "SIZE", "STORED", "HERE", "TO GET IT BACK")


@click.command()
@common.scope
@common.config_file
@common.as_json
def orphans(scope: str | None, config_path: Path | None, as_json: bool) -> None:
    """List orphans: local copies which were replaced by another version.

    They are on this machine, and in the store as well. flyatc never removes them: delete what you no longer need.
    No daemon is needed to list them, but to restore one.
    """
    import asyncio

    from flyatc.admin import store_access

    config = common.read(config_path)
    found = asyncio.run(store_access.find_orphans(config, os.environ, common.of_scope(config, scope)))
    if as_json:
        return output.json(found)
    if found:
        now = time.time() if output.on_terminal() else None
        output.table(ORPHAN_HEADINGS, [orphan_row(one, now) for one in found])
    else:
        click.echo("nothing was set aside", err=True)


def orphan_row(one: "Orphan", now: float | None) -> list[Cell]:
    """``now`` None: for programs."""
    at = one.at or ""
    return [
        Cell(one.tenant, "bold"),
        Cell(one.database),
        Cell(at if now is None or not at else output.ago(at, now)),
        Cell(size(one.size, now)),
        Cell(size(one.stored, now), "dim"),
        Cell(one.path or ""),
        Cell(f"flyatc restore {one.tenant} {one.database} --orphan {one.name}"),
    ]


COLOURS = {"ok": "green", "damaged": "bold red", "unknown": "yellow"}
STDERR = 2


@click.command()
@common.scope
@common.config_file
@common.as_json
def verify(scope: str | None, config_path: Path | None, as_json: bool) -> int:
    """Restore what the store has of every database into a scratch folder, one at a time, and check it.

    Nothing is changed, and no daemon is needed; a running one is not disturbed. The exit code is 1 where anything is
    damaged or could not be tried.
    """
    import asyncio

    config = common.read(config_path)
    wanted = common.of_scope(config, scope)
    found = asyncio.run(_verify(config, wanted, quiet=as_json))
    bad = sum(one.state != "ok" for one in found)
    if as_json:
        output.json(found)
    elif found:
        all_of = output.count(len(found), "database")
        click.echo(f"{all_of}: {'all can be restored' if not bad else f'{bad} not ok'}", err=True)
    else:
        what = "databases yet" if wanted is None else f"database of {wanted}"
        click.echo(f"the store has no {what}", err=True)
    return int(bool(bad) or (wanted is not None and not found))


async def _verify(config: "Config", wanted: str | None, *, quiet: bool) -> list["Verdict"]:
    from flyatc.admin import store_access
    from flyatc.observe.log import Log
    from flyatc.process.child_records import Records

    log = Log(io.FileIO(STDERR, "wb", closefd=False), text=True, level="error")
    records = Records(Path(config.server.data))
    found: list[Verdict] = []
    try:
        async with store_access.opened(config, os.environ) as store:
            stock = await store_access.take_inventory(store, wanted)
            async with store_access.open_verifier(config, os.environ, store, records, log) as verifier:
                for one in stock.databases:
                    verdicts = await verifier.verify(config.tenant_kept_as(one.user, one.key), one)
                    found += verdicts
                    for verdict in () if quiet else verdicts:
                        _print(verdict)
    finally:
        log.close()
    return found


def _print(one: "Verdict") -> None:
    state = one.state.ljust(8)
    if output.on_terminal() and output.in_colour():
        state = click.style(state, COLOURS[one.state])
    size = human_size(one.size) if output.on_terminal() else str(one.size)
    fields = [one.tenant, one.database, one.version or "-", size, f"{one.ms} ms", one.why]
    click.echo(f"{state}  {output.plain('  '.join(part for part in fields if part))}")
