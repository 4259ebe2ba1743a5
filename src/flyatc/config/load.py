"""Load tenants.yaml: read, parse and resolve it."""

import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from flyatc.config.document import compose, read
from flyatc.config.errors import Faults
from flyatc.config.parse import parse
from flyatc.config.resolve import resolve
from flyatc.config.schema import Config
from flyatc.kit import units


class _Everything(Container[str]):
    def __contains__(self, name: object) -> bool:
        return True


def load(
    path: Path,
    environ: Mapping[str, str],
    alone: Sequence[str] = (),
    *,
    starts_apps: bool = True,
    thorough: bool = False,
    text: str | None = None,
) -> Config:
    """Load the file. ``alone``: the command of the only app (resolve.resolve). ``starts_apps`` False: the variables of
    the apps may be missing, as in a second terminal. ``thorough``: also check what config.programs
    describes. ``text``: in place of what is in the file. Raises ConfigError with all faults."""
    root = compose(read(path) if text is None else text, str(path))
    faults = Faults(str(path), root)
    variables = environ if starts_apps else _Everything()
    config = resolve(
        parse(root, faults), path.absolute(), environ, RealDisk(), faults, alone, variables, thorough=thorough
    )
    faults.raise_if_any()
    return config


def text_of(path: Path, most: int) -> str:
    """Return the text of a file. Raises OSError; ValueError if it is no file, or larger than ``most`` bytes."""
    if not path.is_file() and path.exists():  # open() would block on a pipe
        raise ValueError("is not a file")
    with path.open("rb") as file:
        body = file.read(most + 1)
    if len(body) > most:
        raise ValueError(f"is larger than {units.human_size(most)}")
    return body.decode("utf-8", "replace")


class RealDisk:
    """The real file system, as config.merge.Disk: paths in the file are checked against it."""

    def is_directory(self, path: Path) -> bool:
        try:
            return path.is_dir()
        except OSError:
            return False

    def readable_size(self, path: Path) -> int | None:
        try:
            if not path.is_file():  # open() would block on a pipe
                return None
            with path.open("rb"):
                return path.stat().st_size
        except OSError:
            return None

    def text(self, path: Path, most: int) -> str | None:
        try:
            return text_of(path, most)
        except (OSError, ValueError):
            return None

    def runs(self, path: Path) -> bool:
        try:
            return path.is_file() and os.access(path, os.X_OK)
        except OSError:
            return False
