"""Errors that cross package boundaries. Each message is a sentence for people and says what to do."""

import errno


class FlyatcError(Exception):
    """Base class of all errors that flyatc raises on purpose, with a message for the operator or the client."""


class RestoreRefused(FlyatcError):
    """The databases cannot be verified now (store unreachable, snapshot damaged): the app must not start. Retry."""


class OwnershipUnknown(FlyatcError):
    """The lease holder cannot be read from the store: nothing may start, nothing was changed. Retry later."""


class HeldElsewhere(FlyatcError):
    """Another machine holds the lease. ``machine``: its name, as "app/machine". ``settled``: nothing is left to save
    here. ``removed``: no machine may write, since the user was removed."""

    def __init__(self, machine: str, reason: str, *, removed: bool = False) -> None:
        super().__init__(machine, reason)
        self.machine, self.reason, self.removed = machine, reason, removed
        self.settled = False

    def __str__(self) -> str:
        return self.reason


class SaveFailed(FlyatcError):
    """The store did not confirm the last save. The local copy is kept and recorded as unsaved."""


class CopyLost(SaveFailed):
    """The local copy was deleted while in use. Only the version in the store remains."""


class StartFailed(FlyatcError):
    """The app did not become ready: it exited, or its command cannot be run."""


class PortTaken(StartFailed):
    """Another process listens on the port that the app was given. Another start gets another port."""


class StillRunning(FlyatcError):
    """A process of the app cannot be ended (hangs in the kernel, or belongs to another OS user); it may still write."""


def cannot_listen(where: str, error: OSError, other: str = "") -> str:
    """Return the message for an address that cannot be listened at. ``other``: how to choose another one, if
    that is possible: ``", or set …"``."""
    what = {
        errno.EADDRINUSE: f"end the program that listens there{other}",
        errno.EACCES: f"ports below 1024 need root or CAP_NET_BIND_SERVICE{other}",
        errno.EADDRNOTAVAIL: f"name an address of this machine{other}",
    }.get(error.errno or 0, other.removeprefix(", or "))
    return f"cannot listen on {where}: {error.strerror}{what and ': '}{what}"
