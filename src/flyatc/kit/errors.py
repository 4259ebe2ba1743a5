"""The errors which cross a wall between rooms. Each is a sentence for people, and says what to do."""


class FlyatcError(Exception):
    """Something the operator or the visitor must be told. Root of all that flyatc raises on purpose."""


class RestoreRefused(FlyatcError):
    """The databases cannot be vouched for now (store away, snapshot damaged): the app must not start. Try later."""


class OwnershipUnknown(FlyatcError):
    """The store does not say who may write: nothing may be started, nothing was changed. Try later."""


class HeldElsewhere(FlyatcError):
    """Another machine may write. ``machine``: its name, as "app/machine". ``settled``: nothing is left here to save.
    ``removed``: no machine may, since the user was removed."""

    def __init__(self, machine: str, reason: str, *, removed: bool = False) -> None:
        super().__init__(machine, reason)
        self.machine, self.reason, self.removed = machine, reason, removed
        self.settled = False

    def __str__(self) -> str:
        return self.reason


class SaveFailed(FlyatcError):
    """The store did not confirm the last save. The local copy is kept, and its record says so."""


class CopyLost(SaveFailed):
    """The local copy was deleted while it was in use. What the store has is all there is."""


class StartFailed(FlyatcError):
    """The app did not come up: it ended, or its command cannot be run."""


class StillRunning(FlyatcError):
    """Something of the app cannot be ended (it hangs in the kernel, or is another user's): it may still write."""
