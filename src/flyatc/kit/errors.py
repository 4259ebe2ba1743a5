"""The errors which cross a wall between rooms. Each is a sentence for people, and says what to do."""


class FlyatcError(Exception):
    """Something the operator or the visitor must be told. Root of all that flyatc raises on purpose."""


class RestoreRefused(FlyatcError):
    """The databases cannot be vouched for now (store away, snapshot damaged): the app must not start. Try later."""


class SaveFailed(FlyatcError):
    """The store did not confirm the last save. The local copy is kept, and its record says so."""


class StartFailed(FlyatcError):
    """The app did not come up: it ended, or its command cannot be run."""
