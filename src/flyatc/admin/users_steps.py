"""The steps of a plan, as data. ``str(step)`` is the sentence that is printed. Pure.

A machine is named by its id; one which does not exist yet by its name."""

from msgspec import Struct


class Make(Struct, frozen=True):
    """Make a machine. ``like``: the id of the machine whose config is copied."""

    name: str
    region: str
    like: str

    def __str__(self) -> str:
        return f"make machine {self.name} in {self.region}, like {self.like}, and wait until it runs"


class Wake(Struct, frozen=True):
    """Start a machine."""

    machine: str

    def __str__(self) -> str:
        return f"start machine {self.machine}"


class Mark(Struct, frozen=True):
    """Write the user into the machine's metadata."""

    machine: str
    key: str
    user: str

    def __str__(self) -> str:
        return f"write {self.key}={self.user} into the metadata of machine {self.machine}"


class Unmark(Struct, frozen=True):
    """Remove the user from the machine's metadata."""

    machine: str
    key: str
    user: str

    def __str__(self) -> str:
        return f"take {self.key}={self.user} out of the metadata of machine {self.machine}"


class Release(Struct, frozen=True):
    """Release the user's lease. ``machine``: runs the command. ``to``: the next holder; None: any machine."""

    machine: str
    user: str
    to: str | None = None

    def __str__(self) -> str:
        if self.to == self.machine:
            return f"put on record that {self.user} is for machine {self.to} alone"
        successor = "" if self.to is None else f", for machine {self.to} alone"
        return (
            f"have {self.user} released by machine {self.machine}{successor}: its requests wait, its apps end, "
            "all is saved"
        )


class Remove(Struct, frozen=True):
    """Save and remove the user. ``machine``: runs the command."""

    machine: str
    user: str

    def __str__(self) -> str:
        return (
            f"have {self.user} removed by machine {self.machine}: its requests wait, its apps end, all is saved; then "
            "every machine answers 404"
        )


class Restore(Struct, frozen=True):
    """Undo a removal. ``machine``: runs the command."""

    machine: str
    user: str

    def __str__(self) -> str:
        return f"put on record, at machine {self.machine}, that {self.user} is served again"


class Cordon(Struct, frozen=True):
    """Take a machine out of Fly Proxy's rotation."""

    machine: str

    def __str__(self) -> str:
        return f"have Fly Proxy send no more requests to machine {self.machine}"


class Settle(Struct, frozen=True):
    """Wait until DNS answers about the old machine have expired."""

    seconds: float

    def __str__(self) -> str:
        return f"wait {self.seconds:g} s, until no machine sends requests to the old machine any more"


class Stop(Struct, frozen=True):
    """Stop a machine."""

    machine: str

    def __str__(self) -> str:
        return f"stop machine {self.machine}"


class Destroy(Struct, frozen=True):
    """Destroy a machine; refused if it holds unsaved data of ``user``."""

    machine: str
    user: str

    def __str__(self) -> str:
        return f"destroy machine {self.machine}"


Step = Make | Wake | Mark | Unmark | Release | Remove | Restore | Cordon | Settle | Stop | Destroy


class Plan(Struct, frozen=True):
    """``steps``: empty if nothing is to be done. ``notes``: printed after them. ``machine``: the user's machine
    afterwards."""

    user: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    machine: str = ""
