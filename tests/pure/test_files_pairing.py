"""Pairs of files and databases: which save of a folder is restored with a version of the databases."""

from collections.abc import Mapping

import pytest

from flyatc.databases.app_files import pairing
from flyatc.databases.app_files.pairing import State
from flyatc.databases.manifest import Snapshot, saved_at

FOLDER = "storage/"


def save(number: int, beside: Mapping[str, str] | None = None) -> Snapshot:
    """Saved at the minute of its number."""
    return Snapshot(
        key=f"000001-{number:09}.files.zst",
        size=1,
        compressed=1,
        sha256="a" * 64,
        saved=f"2026-11-30T10:{number:02}:00Z",
        beside=dict(beside or {}),
    )


def version(number: int) -> str:
    return f"000001-{number:09}"


def state(name: str, number: int | None, of: int | None = None, at: float | None = None) -> State:
    """``of``: the save of the folder that it names."""
    ids = frozenset() if number is None else frozenset({version(number)})
    return State(name, ids, None if of is None else {FOLDER: version(of)}, at)


SAVES = [save(3), save(2), save(1)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_save_that_the_database_names_is_chosen(number: int) -> None:
    chosen = pairing.choose(FOLDER, SAVES, [state("db", 7, of=number)])
    assert chosen is not None
    assert chosen.snapshot == save(number)
    assert bool(chosen.apart) is (number != 3)


def test_a_later_save_which_names_the_database_belongs_to_it_too() -> None:
    saves = [save(3, {"db": version(7)}), save(2), save(1)]
    chosen = pairing.choose(FOLDER, saves, [state("db", 7, of=1)])
    assert chosen is not None
    assert (chosen.snapshot, chosen.apart) == (saves[0], "")


def test_a_position_in_a_stream_is_a_name_as_well() -> None:
    saves = [save(3), save(2, {"db": "e000001:42"}), save(1)]
    chosen = pairing.choose(FOLDER, saves, [State("db", frozenset({"e000001:42"}))])
    assert chosen is not None
    assert chosen.snapshot == saves[1]


def test_it_must_belong_to_all_databases() -> None:
    chosen = pairing.choose(FOLDER, SAVES, [state("one", 7, of=1), state("two", 7, of=2)])
    assert chosen is not None
    assert chosen.snapshot == SAVES[0], "the newest"
    assert "not known to belong to one" in chosen.apart
    assert "not known to belong to two" in chosen.apart


def test_a_database_that_was_never_saved_does_not_matter() -> None:
    chosen = pairing.choose(FOLDER, SAVES, [state("new", None), state("db", 7, of=2)])
    assert chosen is not None
    assert chosen.snapshot == save(2)
    alone = pairing.choose(FOLDER, SAVES, [])
    assert alone is not None
    assert (alone.snapshot, alone.apart) == (save(3), "")


def test_how_far_they_are_apart_is_said() -> None:
    older = pairing.choose(FOLDER, SAVES, [state("db", None, at=saved_at(save(3)) + 12)])
    newer = pairing.choose(FOLDER, SAVES, [state("db", None, at=saved_at(save(3)) - 30)])
    assert older is not None
    assert newer is not None
    assert "storage/ is 12 s older than db" in older.apart
    assert "storage/ is 30 s newer than db" in newer.apart


def test_for_a_moment_the_newest_save_of_then_is_chosen_unless_a_pair_is_known() -> None:
    at = saved_at(save(2)) + 1
    free = pairing.choose(FOLDER, SAVES, [state("db", None, at=at)], at)
    named = pairing.choose(FOLDER, SAVES, [state("db", 7, of=1, at=at)], at)
    late = pairing.choose(FOLDER, SAVES, [state("db", 7, of=3, at=at)], at)
    before = pairing.choose(FOLDER, SAVES, [state("db", None, at=1.0)], 1.0)
    assert free is not None and named is not None and late is not None and before is not None  # noqa: PT018
    assert (free.snapshot, named.snapshot, late.snapshot) == (save(2), save(1), save(3))
    assert before.snapshot == save(1), "the oldest there is"
    assert before.apart


def test_without_a_save_nothing_is_chosen() -> None:
    assert pairing.choose(FOLDER, [], [state("db", 7, of=1)]) is None
