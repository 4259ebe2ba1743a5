"""JSON records of sessions and owners in the store, and their codecs. Pure.

``machines/<machine>.json`` is a machine's session, ``users/<user>/owner.json`` the owner of a user. An unreadable
record is never treated as absent and never overwritten.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from flyatc.kit.errors import FlyatcError

VERSION = 1

MACHINE = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
Machine = Annotated[str, Meta(pattern=f"^{MACHINE.pattern}$")]  # becomes a key, and a header
Label = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{0,63}$")]
Unique = Annotated[str, Meta(min_length=1, max_length=64)]
Epoch = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]

LONGEST_WHY = 500  # characters


class Unreadable(FlyatcError):
    """The record exists but cannot be decoded: it is damaged, or of a newer flyatc."""


class Process(Struct, frozen=True):
    kernel: str  # differs from boot to boot of the machine
    pid: int
    started: int  # clock ticks since boot
    folder: str = ""  # the data folder, as ``identity.folder_mark`` names it; empty: not known


class Session(Struct, frozen=True, kw_only=True):
    v: int = VERSION
    machine: Machine
    app: Label
    region: Label
    boot: Unique  # one run of the daemon
    seq: int
    nonce: Unique  # new in every write: equal bodies have equal etags
    ttl: Seconds
    process: Process
    version: str = ""  # of flyatc
    broken: str | None = None  # by which machine; if by its own: the session has ended, and the machine writes no more


class Holder(Struct, frozen=True):
    app: Label
    machine: Machine
    region: Label
    boot: Unique

    def __str__(self) -> str:
        return f"machine {self.machine}" + (f" in {self.region}" if self.region else "")


class Successor(Struct, frozen=True):
    """The machine to which a user was released."""

    app: Label
    machine: Machine

    def __str__(self) -> str:
        return f"machine {self.machine}"


class State(Enum):
    HELD = "held"
    RELEASED = "released"  # the store has all data
    DIRTY = "dirty"  # the holder has stopped with data that the store lacks
    REMOVED = "removed"  # released, and no machine may take the user until an operator adds it again


class Data(Struct, frozen=True):
    line: Epoch  # litestream mode: the replica path written to, numbered by the epoch that began it
    since: Epoch  # all owners since this epoch were the same machine; its files from then on are the newest
    fence: bool = False  # the next owner begins a new line: the last holder did not release the user itself


class Owner(Struct, frozen=True, kw_only=True):
    v: int = VERSION
    epoch: Epoch
    state: State
    holder: Holder
    nonce: Unique
    ttl: Seconds  # of the holder's session, in case that vanishes
    data: Data
    why: Annotated[str, Meta(max_length=LONGEST_WHY)] = ""  # reason for ``dirty``, for display
    to: Successor | None = None  # released to this machine; kept until a machine takes the user

    @property
    def awaited(self) -> Holder | Successor:
        """The machine to serve next: the one it was released to, else the last holder."""
        return self.to or self.holder


@dataclass(frozen=True)
class Me:
    """This machine and this run of the daemon.

    ``boots``: earlier runs on this data folder; they have ended, since this run holds its lock. ``platform``:
    ``machine`` was given by the platform, which guarantees that it runs once."""

    machine: str
    app: str
    region: str
    boot: str
    process: Process
    boots: frozenset[str] = frozenset()
    platform: bool = False

    @property
    def holder(self) -> Holder:
        return Holder(app=self.app, machine=self.machine, region=self.region, boot=self.boot)


def session_key(machine: str) -> str:
    return f"machines/{machine}.json"


def owner_key(user: str) -> str:
    return f"users/{user}/owner.json"


class _Versioned(Struct):
    v: int


R = TypeVar("R", Session, Owner)


def read(body: bytes, kind: type[R], key: str) -> R:
    """Decode a record. Raises Unreadable."""
    try:
        version = msgspec.json.decode(body, type=_Versioned).v
        if version > VERSION:
            raise Unreadable(f"{key} was written by a newer flyatc (v{version}): update flyatc on this machine")
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(
            f"{key} cannot be understood ({error}), and is left as it is: restore it from a backup, or delete it when "
            "no machine runs"
        ) from error


def write(record: Session | Owner) -> bytes:
    return msgspec.json.encode(record)
