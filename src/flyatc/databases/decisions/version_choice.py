"""Choose the version for a point in time. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from flyatc.databases.manifest import Pointer, saved_at, version

ROUNDED = 0.001  # s; a time that was shown, and given back, may be earlier by so much than what it was shown for


@dataclass(frozen=True)
class Moment:
    """The newest version saved at or before ``at``, in Unix time."""

    at: float


@dataclass(frozen=True)
class OrphanChoice:
    """The orphaned copy of this name."""

    name: str


Choice = str | Moment | OrphanChoice | None  # str: a version's id; None: the current one


@dataclass(frozen=True)
class SavedVersion:
    """A snapshot in the store that was once the current one. ``saved``: Unix time."""

    key: str
    saved: float


@dataclass(frozen=True)
class Picked:
    key: str
    reason: str


@dataclass(frozen=True)
class NoneSoOld:
    reason: str


def saved_versions(pointer: Pointer | None, there: Mapping[str, float]) -> list[SavedVersion]:
    """Return the versions among ``there``: the snapshots in the store, with its own times. These times are used where
    the pointer is missing or does not reach back so far. Snapshots that were never published are left out."""
    listed = {} if pointer is None else {s.key: s for s in (*pointer.previous, pointer.snapshot)}
    first = min(listed, default=None)
    return [
        SavedVersion(key, saved_at(listed[key]) if key in listed else modified)
        for key, modified in sorted(there.items())
        if key in listed or first is None or key < first
    ]


def newest(found: Iterable[SavedVersion], at: float) -> Picked | NoneSoOld:
    """Return the last one in the order of history, not of the clocks, which may differ between machines."""
    ordered = sorted(found, key=lambda one: one.key)
    early = [one for one in ordered if one.saved <= at + ROUNDED]
    if early:
        return Picked(early[-1].key, f"the newest of {rfc3339(at)}, saved {rfc3339(early[-1].saved)}")
    if not ordered:
        return NoneSoOld("it was never saved")
    oldest = min(ordered, key=lambda one: one.saved)
    there = f"the oldest is {version(oldest.key)}, saved {rfc3339(oldest.saved)}"
    return NoneSoOld(f"there is no version from {rfc3339(at)} or before: {there}")


def rfc3339(moment: float) -> str:
    """Format a Unix time as RFC 3339, whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
