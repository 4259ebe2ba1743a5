"""Syntax of the names in the file. Pure.

Each check returns the fault as a sentence, or None. Names become folders, store keys and parts of addresses: only
plainly harmless ones are accepted.
"""

import re

from flyatc.config.schema import USER
from flyatc.config.schema_sections import MACHINE, REGION

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ROOT_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@-]+")  # a ";" would end the Path of a cookie
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SEGMENTS = 8
_LONGEST = 200  # file names are limited to 255, and the databases append suffixes
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")  # sqlite.org/tempfiles.html


def user(name: str) -> str | None:
    if USER.fullmatch(name):
        return None
    return f"{name!r} cannot be a user: a-z, 0-9, - and _, at most 63, the first a letter or digit"


def tenant(name: str) -> str | None:
    """Check a tenant's name; ``""`` is the user itself."""
    segments = name.split("/") if name else []
    if len(segments) > _SEGMENTS or len(name) > _LONGEST:
        return f"{name[:80]!r} is too long: at most {_SEGMENTS} segments and {_LONGEST} characters"
    if all(_SEGMENT.fullmatch(segment) and ".." not in segment for segment in segments):
        return None
    return (
        f"{name!r} cannot be a tenant: segments of A-Z, a-z, 0-9, '.', '-' and '_', at most 63 each, "
        "the first a letter or digit, no '..', one '/' between them and none at the ends"
    )


def root(path: str) -> str | None:
    if not path.startswith("/"):
        return f"{path!r} must begin with '/'"
    if path == "/":
        return None
    segments = path.removesuffix("/")[1:].split("/")
    if all(_ROOT_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments):
        return None
    return (
        f"{path!r} must be a plain path such as /customers: no '.', '..', '?', '#', '%', ';', blanks or empty segments"
    )


def database(name: str) -> str | None:
    """Check a name or pattern of ``databases``."""
    name = name.removeprefix("!")
    if "**" in name:
        return f"{name!r}: a * matches no slash, and ** is not known: write a pattern for each level of folders"
    if (fault := _below_data(name, "databases live")) is not None:
        return fault
    if name.endswith(_BESIDE_DATABASES):
        return f"{name!r} is what SQLite calls a file beside a database: name the database itself"
    return None


def folder(name: str) -> str | None:
    """Check a folder of files, without a slash at its end."""
    return _below_data(name, "folders of files are")


def _below_data(name: str, which: str) -> str | None:
    """Check a path below {data}. ``which``: what lies there, with its verb."""
    if name.startswith("/"):
        return f"{name!r} must be relative: {which} below {{data}}"
    if "~" in name or "\\" in name or not name.isprintable():
        return f"{name!r} must not hold '~', '\\' or control characters"
    if any(not segment or segment.startswith(".") for segment in name.split("/")):
        return f"{name!r} must not be empty, and no part of it may be empty or begin with '.'"
    if len(name.encode()) > _LONGEST:
        return f"{name[:80]!r}… is longer than {_LONGEST} bytes"
    return None


def within(path: str, folder: str) -> bool:
    """Return whether ``path`` is the folder, or below it."""
    return f"{path}/".startswith(f"{folder}/")


def public_path(path: str) -> str | None:
    """Check a path below a tenant's prefix that needs no login."""
    if _ROOT_SEGMENT.sub("", path).strip("/") or not path.startswith("/") or "//" in path or ".." in path:
        return f"{path!r} must be a plain path such as /assets: no '..', '//', '?', '#', '%', ';' or blanks"
    if path == "/":
        return "/ would need no login at all: leave auth out, or write null"
    return None


def variable(name: str) -> str | None:
    if _VARIABLE.fullmatch(name):
        return None
    return f"{name!r} cannot be a variable of the environment"


def page(name: str) -> str | None:
    if name == "waiting" or re.fullmatch(r"[45][0-9][0-9]", name):
        return None
    return f"{name!r} is no page that flyatc generates: write waiting, or a status from 400 to 599"


def host(name: str) -> str | None:
    """Check the value of a Host header: a name or an address, perhaps with a port."""
    if re.fullmatch(r"[A-Za-z0-9._:\[\]-]{1,255}", name):
        return None
    return f"{name!r} is no host: write its name, such as example.com"


def region(name: str) -> str | None:
    return None if REGION.fullmatch(name) else f"{name!r} is no region: write its code, such as bos"


def machine(name: str) -> str | None:
    if MACHINE.fullmatch(name):
        return None
    return f"{name!r} is no machine's id: fly machine list shows them, such as 3d8dd15c1ed778"
