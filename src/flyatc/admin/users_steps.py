"""The steps of a plan. What is printed is what will be done: a step is its own sentence. Pure.

A machine is named by its id; one which is yet to be made by its name."""

from msgspec import Struct


class Make(Struct, frozen=True):
    """``like``: the id of the one whose config is copied."""

    name: str
    region: str
    like: str

    def __str__(self) -> str:
        return f"make machine {self.name} in {self.region}, like {self.like}, and wait until it runs"


class Wake(Struct, frozen=True):
    machine: str

    def __str__(self) -> str:
        return f"start machine {self.machine}"


class Mark(Struct, frozen=True):
    machine: str
    key: str
    user: str

    def __str__(self) -> str:
        return f"write {self.key}={self.user} into the metadata of machine {self.machine}"


class Unmark(Struct, frozen=True):
    machine: str
    key: str
    user: str

    def __str__(self) -> str:
        return f"take {self.key}={self.user} out of the metadata of machine {self.machine}"


class Release(Struct, frozen=True):
    """``machine``: where it is said. ``to``: for whom; None: for whoever comes."""

    machine: str
    user: str
    to: str | None = None

    def __str__(self) -> str:
        if self.to == self.machine:
            return f"put on record that {self.user} is for machine {self.to} alone"
        heir = "" if self.to is None else f", for machine {self.to} alone"
        return (
            f"have {self.user} released by machine {self.machine}{heir}: his requests wait, his apps end, all is saved"
        )


class Remove(Struct, frozen=True):
    """``machine``: where it is done."""

    machine: str
    user: str

    def __str__(self) -> str:
        return (
            f"have {self.user} removed by machine {self.machine}: its requests wait, its apps end, all is saved; then "
            "every machine answers 404"
        )


class Restore(Struct, frozen=True):
    """``machine``: where it is done."""

    machine: str
    user: str

    def __str__(self) -> str:
        return f"put on record, at machine {self.machine}, that {self.user} is served again"


class Cordon(Struct, frozen=True):
    machine: str

    def __str__(self) -> str:
        return f"have Fly Proxy send nobody to machine {self.machine} any more"


class Settle(Struct, frozen=True):
    seconds: float

    def __str__(self) -> str:
        return f"wait {self.seconds:g} s, until no machine believes any more that he is where he was"


class Stop(Struct, frozen=True):
    machine: str

    def __str__(self) -> str:
        return f"stop machine {self.machine}"


class Destroy(Struct, frozen=True):
    """``user``: of whom it must not be the last to have something."""

    machine: str
    user: str

    def __str__(self) -> str:
        return f"destroy machine {self.machine}"


Step = Make | Wake | Mark | Unmark | Release | Remove | Restore | Cordon | Settle | Stop | Destroy


class Plan(Struct, frozen=True):
    """``steps``: none where all is as it is to be. ``notes``: what is to be known besides. ``machine``: which he has
    when it is done."""

    user: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    machine: str = ""

    @property
    def destroys(self) -> bool:
        return any(isinstance(step, Destroy) for step in self.steps)
