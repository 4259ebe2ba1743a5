"""Pairs of a save of a folder and versions of the databases that belong together. Pure.

A row may name a file, so the two are saved in this order: copy of the database, files, version of the database. A
version of a database names the saves of the folders that were made after its copy; a save of a folder names the
versions of the databases that had not changed when it was made. Each is in ``Snapshot.beside``. A file may be surplus
in a pair, but none is missing, save one that came after the look before the copy and went before the look after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flyatc.databases.decisions.version_choice import rfc3339
from flyatc.databases.manifest import Snapshot, saved_at, version

NOT_SAVED = ""  # in place of a version in ``beside``: the folder could not be saved with the database


@dataclass(frozen=True)
class State:
    """A database as it is restored, or as it is here. ``ids``: what names this state: a version, or a position in the
    stream; empty: unknown. ``beside``: as in Snapshot. ``at``: Unix time of the state, if known."""

    name: str
    ids: frozenset[str] = frozenset()
    beside: Mapping[str, str] | None = None
    at: float | None = None


@dataclass(frozen=True)
class Chosen:
    """The save to restore. ``why``: the reason. ``apart``: a sentence if it is not the newest, or no pair; or empty."""

    snapshot: Snapshot
    why: str
    apart: str = ""


def belongs(save: Snapshot, folder: str, state: State) -> bool:
    """Return whether the folder's ``save`` and the database belong together."""
    named = (state.beside or {}).get(folder)
    return save.beside.get(state.name) in state.ids or named == version(save.key)


def choose(folder: str, saves: Sequence[Snapshot], states: Iterable[State], at: float | None = None) -> Chosen | None:
    """Choose among ``saves``, newest first: the newest one that belongs to all databases; without one, the newest.

    ``at``: only one of this Unix time or before, if there is one that old or none that belongs is.
    None: there is no save."""
    states = [state for state in states if state.ids or state.beside or state.at is not None]
    early = [save for save in saves if at is None or saved_at(save) <= at]
    for among in (early, saves):
        for save in among:
            if states and all(belongs(save, folder, state) for state in states):
                newer = (
                    f"{folder} {version(saves[0].key)}, saved {saves[0].saved}, is newer and does not belong to them"
                )
                why = f"it belongs to {_named(states)}"
                return Chosen(save, why, newer if at is None and save is not saves[0] else "")
    found = early or saves[-1:]
    if not found:
        return None
    return Chosen(found[0], "it is the newest" if at is None else f"it is the newest of {rfc3339(at)}",
                  relation(folder, found[0], states))  # fmt: skip


def relation(folder: str, save: Snapshot, states: Iterable[State]) -> str:
    """Return a sentence on databases that do not belong to this save; empty: there are none."""
    off = [state for state in states if not belongs(save, folder, state)]
    return "; ".join(_apart(folder, save, state) for state in off)


def without(folder: str, states: Iterable[State]) -> str:
    """Return a sentence on databases that were saved when the folder could not be; empty: there are none."""
    names = [state.name for state in states if (state.beside or {}).get(folder) == NOT_SAVED]
    return f"{folder} was not saved with {', '.join(names)}" if names else ""


def _apart(folder: str, save: Snapshot, state: State) -> str:
    if (state.beside or {}).get(folder) == NOT_SAVED:
        return f"{folder} is of {save.saved}, and was not saved with {state.name}"
    if state.at is None:
        return f"{folder} is of {save.saved}, and not known to belong to {state.name}"
    apart = saved_at(save) - state.at
    how = "newer" if apart > 0 else "older"
    return f"{folder} is {abs(apart):.0f} s {how} than {state.name}: saved {save.saved}, and {rfc3339(state.at)}"


def _named(states: Sequence[State]) -> str:
    return ", ".join(f"{state.name} {min(state.ids, default='')}".strip() for state in states)
