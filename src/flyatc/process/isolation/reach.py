"""Check that a program and a folder can be used by a user id that owns nothing and is in no group. Blocking."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

SCRIPT_HEAD = 256  # octets; the kernel reads no more of a first line (execve(2))


def hindrance(directory: str, argv: Iterable[str], search: str | None, writable: Iterable[str], data: Path) -> str:
    """Return why the app cannot run by another user id, or "". ``search``: $PATH. POSIX ACLs are not considered."""
    for above in data.parents:
        if not _mode(above) & 0o001:
            return f"{above}, above server.data, is closed to other user ids: chmod o+x {above}"
    if why := _closed(Path(directory), 0o005):
        return f"app.directory: {why}"
    for program in _programs(Path(directory), next(iter(argv)), search):
        if why := _closed(program, 0o001):
            return f"the program {program}: {why}"
    for name in writable:
        folder = Path(directory, name)
        if folder.is_dir() and not _mode(folder) & 0o002:
            return (
                f"{folder}, see app.writable, may not be written by other user ids: chmod 1777 {folder}, or set "
                "app.writable: [] if the app does not need it"
            )
    return ""


def _programs(directory: Path, name: str, search: str | None) -> Iterator[Path]:
    """Yield the program and, if it is a script, its interpreters."""
    found = directory / name if "/" in name else _on_path(name, search)
    if found is None:  # the start reports it
        return
    yield found
    try:
        with found.open("rb") as file:
            head = file.read(SCRIPT_HEAD)
    except OSError:
        return
    if head.startswith(b"#!"):
        words = os.fsdecode(head[2:].split(b"\n")[0]).split()
        if words and words[0].startswith("/"):
            yield Path(words[0])
        if len(words) > 1 and words[0].endswith("/env") and (by_env := _on_path(words[1], search)) is not None:
            yield by_env


def _on_path(name: str, search: str | None) -> Path | None:
    found = shutil.which(name, path=search)
    return None if found is None else Path(found)


def _closed(path: Path, bits: int) -> str:
    """Check the path as written and what its links lead to. ``bits``: of the mode for others, of the last part."""
    for one in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for above in reversed(one.parents):
            if not _mode(above) & 0o001:
                return f"{above} is closed to other user ids: chmod o+x {above}, or move what is needed elsewhere"
    mode = _mode(path)
    return "" if mode & bits == bits else f"other user ids may not use it: chmod o+rx {path}"


def _mode(path: Path) -> int:
    """Return the mode; all bits if there is no such file: the start reports it."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0o777
