"""Messages of ``flyatc exec`` between the command line and the daemon, on a Unix socket of its own.

The daemon starts the command: only then is it what an app is, with the tenant's user id and rules, counted by the
supervisor, killed with the lease, and on record for the next daemon. The command line hands over its stdin, stdout and
stderr by SCM_RIGHTS (unix(7)), which HTTP cannot, so the daemon copies no byte of them. For a person at a terminal it
hands over a terminal of its own making (see ``execute_client``).

Type SOCK_SEQPACKET; each message is one JSON object. The first of the client is a Command, with three descriptors; then
Signal. The daemon sends Begun, when the command runs, then one Ended. A client that closes the connection has the
command ended. Pure but for the path."""

from pathlib import Path

from msgspec import Struct

LARGEST = 128 << 10  # bytes of a message; what the kernel takes at once is more
DESCRIPTORS = 3


def socket_of(data: str | Path) -> Path:
    """Path of the socket. ``data``: server.data, absolute."""
    return Path(data) / ".flyatc" / "exec.sock"


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command to run for a tenant. ``env``: more variables, which the app's own come before. ``terminal``: stdin is a
    terminal for it. ``run`` None: beside the app; else while the app is stopped, and not again where it has succeeded
    under this name. ``undo``: then what it changed is undone if it fails. ``rehearse``: on a copy instead."""

    address: str
    words: list[str]
    env: dict[str, str] = {}
    terminal: bool = False
    run: str | None = None
    undo: bool = True
    rehearse: bool = False


class Signal(Struct, frozen=True, forbid_unknown_fields=True):
    """A signal for the command, by its number."""

    signal: int


class Begun(Struct, frozen=True, tag="begun"):
    """The command runs."""


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """The end. ``code`` or ``signal`` of the command; neither: it did not run. ``error``: what the operator must know:
    it did not run, was ended early, or what it changed is undone or not saved. ``before``: it had succeeded in an
    earlier try of the same run. ``machine``: the one that the user belongs to, if it is another."""

    code: int | None = None
    signal: int | None = None
    error: str | None = None
    before: bool = False
    machine: str | None = None


News = Begun | Ended
