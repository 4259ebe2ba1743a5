import contextlib
from pathlib import Path

import click

from flyatc.cli import options, show, words
from flyatc.config.schema import Config
from flyatc.control import explain
from flyatc.control.answers import Explanation
from flyatc.control.client import Client, NoDaemon
from flyatc.routing.route import Routes


@click.command()
@click.argument("path")
@options.config_file
@options.as_json
def route(path: str, config_path: Path | None, as_json: bool) -> int:
    """Tell whose request PATH is (a path or a whole URL), where it is served, and why.

    A running daemon is asked; without one, the file decides. Exit code 1 when the request would be refused.
    """
    config = options.read(config_path)
    found = _explained(options.client(config), config, path)
    if as_json:
        show.json(found)
    else:
        for name, value in told(found):
            click.echo(f"{name:<9} {words.plain(value)}")
    return 1 if found.outcome == "refuse" else 0


def _explained(daemon: Client, config: Config, path: str) -> Explanation:
    with contextlib.suppress(NoDaemon):
        return daemon.get("/route", Explanation, path=path)
    return explain.explain(config, Routes(config), path)


def told(found: Explanation) -> list[tuple[str, str]]:
    lines = [("path", found.path)]
    if found.status is not None:
        lines.append(("answer", str(found.status)))
    if found.location is not None:
        lines.append(("to", found.location))
    if found.tenant is not None:
        lines += [
            ("tenant", found.tenant),
            ("user", f"{found.user} (by pattern)" if found.by_pattern else found.user or ""),
            ("state", found.state or "unknown: no daemon is running"),
        ]
    if found.pin is not None:
        lines.append(("on Fly", f"{found.pin}, as the file says"))
    if found.app_path is not None:
        lines.append(("app sees", f"{found.app_path} ({'prefix stripped' if found.strip_prefix else 'as it came'})"))
    if found.health:
        lines.append(("visit", "no: it is the app's ready path, which wakes nobody"))
    return [*lines, ("why", found.why)]
