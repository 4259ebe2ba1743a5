"""A trial: changes of a stopped tenant's databases and folders by a command, which count only if it succeeds.

Before it everything is saved. During it nothing is: the store keeps that version, so another machine that takes over
never gets a half-changed copy. A note in the tenant's folder says that a trial has begun. As long as it does, the next
hold of the databases sets the local copies aside and restores the store's version: after a failure at once, after a
crash before anything else touches them. To commit is to replace the note, in one step; then the hold keeps and saves
the local copies as it does after a crash."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.config.schema import Tenant
from flyatc.databases import links
from flyatc.kit import durable_files
from flyatc.kit.errors import RestoreRefused

MOST = 4096  # bytes


class Note(Struct, frozen=True, kw_only=True):
    """``run``: names the operator's command, which may be given again. ``done``: it has succeeded here. ``keep``: what
    it changes is kept in any case."""

    run: str
    done: bool = False
    keep: bool = False
    v: int = 1


def read(tenant: Tenant) -> Note | None:
    """Return the note; None: there is none. Blocking. Raises RestoreRefused if it cannot be read: it may say that the
    local copies must not be used."""
    path = _path(tenant)
    try:
        with open(path, "rb", opener=_open) as file:
            return msgspec.json.decode(file.read(MOST), type=Note)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RestoreRefused(
            f"{path} cannot be read: {error}. It says whether a command of flyatc exec was interrupted. Remove it to "
            "keep the local databases as they are"
        ) from error


def write(tenant: Tenant, note: Note) -> None:
    """Blocking, durable. Raises OSError."""
    links.write(_path(tenant), msgspec.json.encode(note))


def remove(tenant: Tenant) -> None:
    """Blocking, durable. Raises OSError."""
    _path(tenant).unlink(missing_ok=True)
    durable_files.sync_folder(_path(tenant).parent)


def _open(path: str, flags: int) -> int:
    """Open what an app may have put there, too: neither follow a link nor wait at a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _path(tenant: Tenant) -> Path:
    return tenant.data / ".flyatc" / "trial.json"
