"""The command init."""

import difflib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import click

from flyatc.admin import app_folder
from flyatc.admin.init import detect, image, report, tenants_file
from flyatc.admin.init.facts import Facts, app_name
from flyatc.admin.init.plan import Plan
from flyatc.cli import check, output
from flyatc.config import load
from flyatc.config.document import HERE
from flyatc.config.errors import ConfigError
from flyatc.kit.errors import FlyatcError

MOST_OF_A_DIFF = 40  # lines
PROGRAMS = (".venv/bin", "venv/bin")


class NotWritten(FlyatcError):
    """Nothing was written; the text says why."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path(), metavar="[FOLDER]")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print tenants.yaml, and write nothing.")
@click.option("--docker", is_flag=True, help="Also write a Dockerfile, or print what an existing one must get.")
@click.option("--fly", is_flag=True, help="Also write a fly.toml, or print what an existing one must get.")
def init(folder: Path, to_stdout: bool, docker: bool, fly: bool) -> int:
    """Write tenants.yaml for the app in FOLDER, and say what to change in the app.

    Recognised are Rails, Django, Flask, FastAPI, Node, Laravel, PHP, and any app with a Procfile. Nothing of the app is
    run, and no existing file is changed. The exit code is 1 if something is missing."""
    facts = _read(folder)
    plan = detect.plan(facts)
    if plan is None:
        raise NotWritten(
            f"no app is recognised in {folder.absolute()}. flyatc init knows {detect.KNOWN}, by {detect.LOOKED_FOR}. "
            "For another kind of app write a Procfile with the line `web: COMMAND`, and run flyatc init again"
        )
    text = tenants_file.render(plan)
    if to_stdout:
        click.echo(text, nl=False)
        return 0
    _print(report.header(plan, facts.unread))
    written = _write(folder / HERE, text)
    _print(report.changes("Change in the app (- old, + new):", plan.changes))
    _docker(folder, facts, plan, wanted=docker)
    _fly(folder, facts, wanted=fly)
    _print(report.notes(plan))
    if not docker and facts.has("Dockerfile") is None:
        _print(["", "There is no Dockerfile: flyatc init --docker --fly writes one, and a fly.toml"])
    if not written:
        _print(_difference(facts.text(str(HERE)), text))
        if not docker and not fly:
            return 1
    return _check(folder, "do the above, then: " if plan.changes or plan.steps else "")


def _read(folder: Path) -> Facts:
    try:
        return app_folder.read(folder)
    except OSError as error:
        raise NotWritten(f"{folder}: {error.strerror}") from error


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(output.plain(line))


def _write(path: Path, text: str) -> bool:
    """Create a file. Returns False if there is one already."""
    created = False
    try:
        with path.open("x", encoding="utf-8") as file:
            created = True
            file.write(text)
    except FileExistsError:
        click.echo(f"{output.plain(str(path))} is there already, and is kept")
        return False
    except OSError as error:
        if created:  # the disk is full: leave no half of it
            path.unlink(missing_ok=True)
        raise NotWritten(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"wrote {output.plain(str(path))}")
    return True


def _docker(folder: Path, facts: Facts, plan: Plan, *, wanted: bool) -> None:
    if facts.has("Dockerfile"):
        found = [*image.changes(facts), *image.ignored(facts)]
        _print(report.changes("Change in the Dockerfile:", found))
    elif wanted and _write(folder / "Dockerfile", image.dockerfile(plan)):
        click.echo(f"  first {image.ARCHIVE}")
        if facts.has(".dockerignore"):
            _print(report.changes("Change in .dockerignore:", list(image.ignored(facts))))
        else:
            _write(folder / ".dockerignore", "\n".join(image.DOCKERIGNORE) + "\n")


def _fly(folder: Path, facts: Facts, *, wanted: bool) -> None:
    if facts.has("fly.toml"):
        _print(report.changes("Change in fly.toml:", list(image.fly_changes(facts))))
    elif wanted:
        _write(folder / "fly.toml", image.fly_toml(app_name(facts.name)))


def _difference(old: str, new: str) -> list[str]:
    if old == new:
        return ["", f"{HERE} is as init writes it"]
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), str(HERE), "flyatc init", n=0, lineterm=""))
    more = [f"  … {len(lines) - MOST_OF_A_DIFF} more lines"] if len(lines) > MOST_OF_A_DIFF else []
    hint = "flyatc init --stdout prints it whole"
    return ["", f"What init would write ({hint}):", *(f"  {line}" for line in lines[:MOST_OF_A_DIFF]), *more]


def _check(folder: Path, first: str) -> int:
    """Check what was written, as flyatc check does, and say what to type next. ``first``: what to do before."""
    found = [name for name in PROGRAMS if (folder / name).is_dir()]
    path = os.pathsep.join([*(str((folder / name).absolute()) for name in found), os.environ.get("PATH", "")])
    click.echo("")
    try:
        config = load.load(folder / HERE, {**os.environ, "PATH": path}, starts_apps=False, thorough=True)
    except ConfigError as error:
        click.echo(output.plain_lines(str(error)))
        click.echo("Next: install what is missing, then flyatc check")
        return 1
    click.echo(check.summary(config))
    into = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    programs = f'PATH="{":".join(f"$PWD/{name}" for name in found)}:$PATH" ' if found else ""
    click.echo(f"Next: {first}{output.plain(into)}{programs}flyatc serve")
    click.echo(f"      and open http://localhost:{config.server.listen.port}/{tenants_file.FIRST}/")
    return 0
