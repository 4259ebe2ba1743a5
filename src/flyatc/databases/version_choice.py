"""Which version somebody means who goes back in history. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from flyatc.databases.manifest import Pointer, saved_at, version


@dataclass(frozen=True)
class Moment:
    """The newest version which was saved at or before ``at``, in Unix time."""

    at: float


@dataclass(frozen=True)
class OrphanChoice:
    """What was set aside under this name."""

    name: str


Choice = str | Moment | OrphanChoice | None  # str: a version's id; None: the current one


@dataclass(frozen=True)
class Kept:
    """A snapshot which was the current one once, and is still in the store. ``saved``: Unix time."""

    key: str
    saved: float


@dataclass(frozen=True)
class Picked:
    key: str
    reason: str


@dataclass(frozen=True)
class NoneSoOld:
    reason: str


def kept(pointer: Pointer | None, there: Mapping[str, float]) -> list[Kept]:
    """``there``: what the store has, with its own times. These count where the pointer does not reach back so far, or
    is missing. What was uploaded and never published is no version that anybody had."""
    told = {} if pointer is None else {s.key: s for s in (*pointer.previous, pointer.snapshot)}
    first = min(told, default=None)
    return [
        Kept(key, saved_at(told[key]) if key in told else modified)
        for key, modified in sorted(there.items())
        if key in told or first is None or key < first
    ]


def newest(found: Iterable[Kept], at: float) -> Picked | NoneSoOld:
    """The last in the order of history, not of clocks: two machines' may differ."""
    ordered = sorted(found, key=lambda one: one.key)
    early = [one for one in ordered if one.saved <= at]
    if early:
        return Picked(early[-1].key, f"the newest of {told(at)}, saved {told(early[-1].saved)}")
    if not ordered:
        return NoneSoOld("it was never saved")
    oldest = min(ordered, key=lambda one: one.saved)
    there = f"the oldest is {version(oldest.key)}, saved {told(oldest.saved)}"
    return NoneSoOld(f"there is no version from {told(at)} or before: {there}")


def told(moment: float) -> str:
    """Unix time as RFC 3339, whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
