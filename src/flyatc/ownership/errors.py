"""Errors for a user's databases that may not be written here."""

from flyatc.kit import errors
from flyatc.kit.errors import OwnershipUnknown
from flyatc.ownership.record import Holder, Successor

__all__ = ["HeldElsewhere", "OwnershipUnknown"]


class HeldElsewhere(errors.HeldElsewhere):
    """Another machine is the owner, or the next one. ``dirty``: it has stopped with data that the store lacks.
    ``since``: all owners from this epoch on were the same machine. ``removed``: no machine may serve the user."""

    def __init__(
        self,
        user: str,
        owner: Holder | Successor,
        *,
        dirty: bool = False,
        why: str = "",
        since: int = 0,
        removed: bool = False,
    ) -> None:
        if removed:
            super().__init__("", removal(user), removed=True)
        else:
            super().__init__(f"{owner.app}/{owner.machine}", _sentence(user, owner, dirty, why))
        self.user, self.owner, self.dirty, self.why, self.since = user, owner, dirty, why, since


def removal(user: str) -> str:
    return f"{user} was removed: flyatc users add {user}, or flyatc release {user} --undo-remove, adds it again"


def _sentence(user: str, owner: Holder | Successor, dirty: bool, why: str) -> str:
    if isinstance(owner, Successor):
        return f"{user} is to be served by {owner}: {why}"
    if not dirty:
        return f"{user} is served by {owner}"
    because = f" ({why})" if why else ""
    return (
        f"{owner} could not save all of {user}{because}: start that machine, and it goes on with nothing lost. If it "
        f"never comes back: flyatc takeover {user}"
    )
