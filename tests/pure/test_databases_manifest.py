"""Numbers of snapshots, the pointer, and the snapshots that the history still needs."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.databases import manifest
from flyatc.databases.manifest import Entry, Pointer, Snapshot


def snapshot(seq: int, epoch: int = 1) -> Snapshot:
    return Snapshot(
        key=manifest.name(epoch, seq),
        size=4096,
        compressed=99,
        sha256=f"{seq:064x}",
        saved="2026-01-02T03:04:05.000006Z",
    )


def history(*seqs: int) -> Pointer:
    pointer = None
    for seq in seqs:
        pointer = manifest.point(snapshot(seq), pointer, 1)
    assert pointer is not None
    return pointer


numbers = st.tuples(st.integers(0, 999_999), st.integers(0, 999_999_998))


@given(numbers, numbers)
def test_names_sort_as_numbers_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (manifest.name(*one) < manifest.name(*other)) == (one < other)
    assert manifest.number(manifest.name(*one)) == one


@pytest.mark.parametrize("name", ["current.json", "1-2.sqlite3.zst", "../000001-000000001.sqlite3.zst", ""])
def test_other_names_are_no_snapshots(name: str) -> None:
    assert manifest.number(name) is None


def test_the_first_snapshot_is_number_one() -> None:
    assert manifest.following(None, [], 1) == "000001-000000001.sqlite3.zst"


def test_the_next_number_is_above_what_was_published_and_what_was_not() -> None:
    assert manifest.following(history(7), [snapshot(9).key, "current.json"], 1) == snapshot(10).key
    assert manifest.following(history(7), [], 1) == snapshot(8).key


def test_a_pointer_survives_its_way_through_json() -> None:
    pointer = history(1, 2, 3)
    assert manifest.decode(manifest.encode(pointer)) == pointer
    assert [s.key for s in pointer.previous] == [snapshot(2).key, snapshot(1).key]
    assert manifest.saved_at(pointer) == pytest.approx(1767323045.000006)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"key": "../../owner.json"},
        {"seq": 4},
        {"size": 0},
        {"sha256": "x"},
        {"saved": "yesterday"},
        {"previous": [{"key": "x"}]},
    ],
)
def test_a_pointer_which_makes_no_sense_is_not_believed(change: dict[str, object]) -> None:
    body = json.loads(manifest.encode(history(3))) | change
    with pytest.raises(ValueError):  # noqa: PT011 - any of them is what the caller expects
        manifest.decode(json.dumps(body).encode())


def test_history_is_bounded_in_the_pointer() -> None:
    pointer = history(*range(1, manifest.LONGEST_HISTORY + 5))
    assert len(pointer.previous) == manifest.LONGEST_HISTORY
    assert len(manifest.encode(pointer)) < 256 << 10


def test_keep_counts_the_current_one() -> None:
    keys = [snapshot(n).key for n in range(1, 6)]
    assert manifest.surplus(keys, history(1, 2, 3, 4, 5), keep=3) == [snapshot(2).key, snapshot(1).key]


def test_uploads_never_published_do_not_push_out_those_which_were() -> None:
    keys = [snapshot(n).key for n in (1, 2, 3, 4)]
    assert manifest.surplus(keys, history(1, 4), keep=2) == [snapshot(2).key]


@given(st.sets(st.integers(1, 60)), st.lists(st.integers(1, 60), min_size=1, unique=True), st.integers(1, 20))
def test_pruning_never_takes_the_current_one_its_predecessors_or_anything_newer(
    strays: set[int], published: list[int], keep: int
) -> None:
    published.sort()
    pointer = history(*published)
    keys = [snapshot(n).key for n in strays | set(published)]
    gone = set(manifest.surplus(keys, pointer, keep))
    assert not gone & {snapshot(n).key for n in published[-keep:]}
    assert all(key < pointer.key for key in gone)
    assert len(set(keys) - gone) >= min(keep, len(published))


def test_a_copy_descends_from_its_base_and_from_what_it_was_publishing() -> None:
    one, two, three = (snapshot(n).link for n in (1, 2, 3))
    entry = Entry(base=one, pending=(two,))
    assert [entry.descends_from(link) for link in (one, two, three)] == [True, True, False]
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry


def test_the_first_number_under_a_new_owner_is_above_all_of_the_former_one() -> None:
    assert manifest.following(history(7), [], 3) == "000003-000000008.sqlite3.zst"


def test_a_held_database_that_was_never_saved_differs_from_a_saved_one() -> None:
    assert manifest.decode(manifest.encode(manifest.Blank(owner=4))) == manifest.Blank(owner=4)
