"""What there is: the app's machines, whose they are by their metadata, and who owns whom. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flyatc.daemon.owners import Owner
from flyatc.fly.api_shapes import Machine
from flyatc.fly.clones import LEFT

UNSAVED = ("held", "dirty", "unknown")  # states of an owner's record: his machine may have what the store has not


@dataclass(frozen=True)
class Seen:
    """``machines``: the oldest first, none that is on its way out. ``key``: of the metadata which names a machine's
    user. ``owners``: by user, those who have ever been owned; None: nobody could be asked, because of ``why``."""

    app: str
    key: str
    machines: Sequence[Machine]
    owners: Mapping[str, Owner] | None
    why: str = ""

    def user_of(self, machine: Machine) -> str | None:
        return machine.metadata.get(self.key)

    def of(self, user: str) -> list[Machine]:
        """His machines."""
        return [one for one in self.machines if self.user_of(one) == user]

    def left_by(self, user: str) -> list[Machine]:
        """Which he was moved away from, and which nobody has now."""
        return [one for one in self.machines if one.metadata.get(LEFT) == user and self.user_of(one) is None]

    def find(self, word: str) -> Machine | None:
        """By its id or its name."""
        return next((one for one in self.machines if word in (one.id, one.name)), None)

    def owner(self, user: str) -> Owner | None:
        return None if self.owners is None else self.owners.get(user)

    def held_by(self, machine: Machine) -> list[str]:
        """The users of whom it may have what the store has not."""
        return sorted(
            user for user, one in (self.owners or {}).items() if one.machine == machine.id and one.state in UNSAVED
        )
