"""An app that is just being spawned is not on record yet: for these moments it is known by the environment it is given.

A daemon that is killed then leaves a note with a hash of that environment. No stranger has the same one: our port and
the folder of one tenant are in it. An app that has changed its environment block meanwhile is not found, and no harm is
done to anybody else.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from flyatc.kit import durable
from flyatc.process import group, table


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    boot: str
    tenant: str  # its address, for people
    environ: str  # a hash


@contextlib.contextmanager
def noted(folder: Path, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
    """While the app is spawned and put on record. Raises OSError."""
    durable.make_folder(folder)
    variables = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    note = Note(boot=table.boot(), tenant=tenant, environ=_hash(variables))
    path = folder / f"{port}.launch"
    path.write_bytes(msgspec.json.encode(note))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a note of what is on record does no harm
            path.unlink()


def find(note: Note) -> list[group.Group]:
    """The groups of those who lead a session and have this environment."""
    if note.boot != table.boot():
        return []
    leaders = (process for process in table.scan() if process.session == process.pid and not process.ended)
    return [group.Group(one.pid, one.started) for one in leaders if _environ(one.pid) == note.environ]


def _environ(pid: int) -> str | None:
    try:
        return _hash((table.PROC / str(pid) / "environ").read_bytes().rstrip(b"\0").split(b"\0"))  # proc_pid_environ(5)
    except OSError:
        return None


def _hash(variables: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(sorted(variables))).hexdigest()
