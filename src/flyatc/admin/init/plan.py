"""Plan of flyatc init for one app: what tenants.yaml gets, and what to change in the app, each with its reason."""

from dataclasses import dataclass
from dataclasses import replace as replace

from flyatc.admin.init.facts import Hit


@dataclass(frozen=True)
class Variable:
    """One of ``app.env``."""

    name: str
    value: str
    why: str = ""


@dataclass(frozen=True)
class Static:
    """One of ``app.delivery.static``. ``digests``: the names change with the content."""

    path: str
    folder: str
    digests: bool = False


@dataclass(frozen=True)
class Change:
    """A line to change (``old``), or to add (None) after ``line``, or anywhere in the file (``line`` None)."""

    file: str
    new: str
    why: str
    line: int | None = None
    old: str | None = None


def change(hit: Hit, new: str, why: str) -> Change:
    """Replace a line that was found."""
    return Change(hit.file, new, why, hit.line, hit.text)


@dataclass(frozen=True)
class Image:
    """A Dockerfile: base image, packages of Debian, and the lines that install and build the app."""

    base: str
    packages: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()  # files copied before the installation
    install: tuple[str, ...] = ()
    build: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    stack: str  # "Rails 7.1"
    seen: tuple[str, ...]  # where that was found
    command: tuple[str, ...]
    image: Image
    listens: str = "must listen on 127.0.0.1:$PORT"
    before_start: tuple[tuple[str, ...], ...] = ()
    env: tuple[Variable, ...] = ()
    databases: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    ready: str | None = None
    strip_prefix: bool = False
    writable: tuple[str, ...] = ()  # beside the default, tmp and log
    static: tuple[Static, ...] = ()
    outside: str | None = None  # begin of the names of data and store, which must not lie in the app's folder
    changes: tuple[Change, ...] = ()
    steps: tuple[str, ...] = ()  # commands to run once, after the changes
    warnings: tuple[str, ...] = ()
