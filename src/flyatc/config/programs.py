"""Faults that only ``flyatc check`` reports: programs that are not installed, and a PORT of the app's own. Pure.

The daemon starts with them: a program may be installed later, and it is the app's start that fails.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from flyatc.config import placeholders
from flyatc.config.errors import Key
from flyatc.config.schema import App

SYSTEM_PATH = "/bin:/usr/bin"  # what execvpe searches without PATH
_SHELL = re.compile(r"[&|;<>]|^cd\s")
Runs = Callable[[Path], bool]  # whether a file can be executed


def faults(app: App, path: str, runs: Runs) -> Iterator[tuple[Key, str]]:
    """Yield key, relative to the app, and sentence of each fault. ``app``: complete. ``path``: the daemon's PATH."""
    path = app.env.get("PATH", path) or SYSTEM_PATH
    commands: list[tuple[Key, list[str]]] = [(("command",), app.command)]
    commands += [(("before_start", index), one) for index, one in enumerate(app.before_start) if isinstance(one, list)]
    for key, words in commands:
        if words and (fault := _of_program(words[0], app.directory, path, runs)):
            yield (*key, 0), fault
    port = app.env.get("PORT")
    if port is not None and "{port}" not in port:
        yield ("env", "PORT"), "is chosen by flyatc at each start, where alone it looks for the app: leave it out"


def _of_program(word: str, directory: str, path: str, runs: Runs) -> str | None:
    name = placeholders.literal(word)
    if not name or placeholders.literal(path) is None:
        return None
    if "/" in name:
        where, found = directory, runs(Path(directory) / name)
    else:
        where = "PATH"
        found = any(runs(Path(directory) / folder / name) for folder in path.split(":"))
    if found:
        return None
    if _SHELL.search(name):
        return f"is for a shell, {name!r}: write [sh, -c, '…'], or name a script; the key directory replaces cd"
    if len(parts := name.split()) > 1:
        return f"is one program with blanks in its name, {name!r}: write the words apart, [{', '.join(parts)}]"
    return f"there is no program {name!r} in {where}{_in_venv(name, directory, runs) if where == 'PATH' else ''}"


def _in_venv(name: str, directory: str, runs: Runs) -> str:
    folder = next((one for one in (".venv/bin", "venv/bin") if runs(Path(directory) / one / name)), None)
    return f": it is in {folder}, so write {folder}/{name}, or begin PATH with that folder" if folder else ""
