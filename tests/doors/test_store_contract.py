"""The contract of every kind of store, tested through the same interface."""

import asyncio
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from flyatc.kit.types import silent
from flyatc.objects import store as store_interface
from flyatc.objects.folder import FolderStore
from flyatc.objects.store import (
    SMALL,
    Absent,
    ConditionFailed,
    ObjectStore,
    Seen,
    Stored,
    StoreRefused,
    StoreUnavailable,
)


async def test_what_was_put_is_got_with_its_etag(store: ObjectStore) -> None:
    etag = await store.put("users/a/current.json", b"one")
    assert await store.get("users/a/current.json") == (b"one", etag)
    found = await store.head("users/a/current.json")
    assert found is not None
    assert (found.key, found.size, found.etag) == ("users/a/current.json", 3, etag)


async def test_what_is_not_there_is_surely_absent(store: ObjectStore, tmp_path: Path) -> None:
    assert await store.get("users/a") is None
    assert await store.look("users/a") is None
    assert await store.head("users/a/b") is None
    assert await store.list("users/a/") == ()
    await store.delete("users/a")
    with pytest.raises(Absent):
        await store.download("users/a", tmp_path / "copy", silent)
    assert not (tmp_path / "copy").exists()


async def test_create_only_fails_when_it_is_there_and_changes_nothing(store: ObjectStore, tmp_path: Path) -> None:
    await store.put("a", b"one", create=True)
    with pytest.raises(ConditionFailed):
        await store.put("a", b"two", create=True)
    (tmp_path / "file").write_bytes(b"three")
    with pytest.raises(ConditionFailed):
        await store.upload("a", tmp_path / "file", create=True, progress=silent)
    found = await store.get("a")
    assert found is not None
    assert found[0] == b"one"


async def test_a_match_holds_until_another_writer_has_written(store: ObjectStore) -> None:
    first = await store.put("a", b"one")
    second = await store.put("a", b"two", match=first)
    assert first != second
    with pytest.raises(ConditionFailed):
        await store.put("a", b"three", match=first)
    await store.delete("a")
    with pytest.raises(ConditionFailed):
        await store.put("a", b"three", match=second)
    assert await store.get("a") is None


async def test_a_stat_has_the_age_by_the_stores_own_clock(store: ObjectStore) -> None:
    etag = await store.put("a", b"one")
    seen = await store.look("a")
    assert seen is not None
    assert (seen.body, seen.etag) == (b"one", etag)
    assert 0 <= seen.age < 10


async def test_of_many_concurrent_swaps_one_wins_each_round(store: ObjectStore) -> None:
    etag = await store.put("a", b"start")
    for turn in range(5):
        bodies = [f"{turn} {n}".encode() for n in range(8)]
        answers = await asyncio.gather(*(store.put("a", body, match=etag) for body in bodies), return_exceptions=True)
        won = [n for n, answer in enumerate(answers) if isinstance(answer, str)]
        assert len(won) == 1
        assert all(isinstance(a, str | ConditionFailed) for a in answers)
        found = await store.get("a")
        assert found is not None
        assert found[0] == bodies[won[0]]
        etag = found[1]


async def test_of_many_concurrent_creates_one_wins(store: ObjectStore) -> None:
    answers = await asyncio.gather(
        *(store.put("a", str(n).encode(), create=True) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, str) for answer in answers) == 1


async def test_a_list_has_what_lies_below_a_prefix_sorted(store: ObjectStore) -> None:
    for key in ("u/b/2", "u/a/1", "u/b/1/x", "u/bb/1", "v"):
        await store.put(key, key.encode())
    found = await store.list("u/b/")
    assert [stored.key for stored in found] == ["u/b/1/x", "u/b/2"]
    assert found[1] == await store.head("u/b/2")
    assert isinstance(found[0], Stored)


async def test_a_file_is_uploaded_and_downloaded_whole_with_its_progress(store: ObjectStore, tmp_path: Path) -> None:
    body = bytes(range(256)) * (SMALL // 64)
    (tmp_path / "up").write_bytes(body)
    reported: list[tuple[str, int, int]] = []
    etag = await store.upload("a", tmp_path / "up", progress=lambda *step: reported.append(step))
    await store.download("a", tmp_path / "down", lambda *step: reported.append(step))
    assert (tmp_path / "down").read_bytes() == body
    await asyncio.sleep(0)  # the last tick is on its way to the loop
    assert ("upload", len(body), len(body)) in reported
    assert ("download", len(body), len(body)) in reported
    found = await store.head("a")
    assert found is not None
    assert (found.etag, found.size) == (etag, len(body))


async def test_a_key_which_leaves_its_place_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    for key in ("", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", "a\\b", ".flyatc/id"):
        for attempt in (store.get(key), store.put(key, b""), store.download(key, tmp_path / "copy", silent)):
            with pytest.raises(ValueError, match="not a key"):
                await attempt


async def test_put_is_for_small_things(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="upload"):
        await store.put("a", b"x" * (SMALL + 1))


async def test_the_store_keeps_its_conditions(store: ObjectStore) -> None:
    assert await store_interface.check(store, monotonic), "conditions on deletions are kept as well"
    assert await store.list("checks/") == ()


async def test_a_store_which_ignores_conditions_is_refused(tmp_path: Path) -> None:
    class Heedless(FolderStore):
        async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
            return await super().put(key, body)

    heedless = Heedless(tmp_path)
    await heedless.open()
    with pytest.raises(StoreUnavailable, match="ignores conditions"):
        await heedless.check()
    heedless.close()


async def test_a_store_with_two_clocks_is_refused(tmp_path: Path) -> None:
    """A proxy in between with a clock of its own: a session just renewed would look dead."""

    class Ahead(FolderStore):
        async def look(self, key: str) -> Seen | None:
            seen = await super().look(key)
            return None if seen is None else replace(seen, age=seen.age + 60)

    ahead = Ahead(tmp_path)
    await ahead.open()
    with pytest.raises(StoreRefused, match="do not agree"):
        await ahead.check()
    assert await ahead.list("checks/") == ()
    ahead.close()


async def test_a_record_of_a_huge_size_is_refused_and_not_read(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(b"{" * (SMALL + 1))
    await store.upload("users/a/owner.json", tmp_path / "huge", create=True, progress=silent)
    for read in (store.get, store.look):
        with pytest.raises(StoreUnavailable, match=r"users/a/owner\.json is larger than the 262144 bytes"):
            await read("users/a/owner.json")
    (tmp_path / "most").write_bytes(b"{" * SMALL)
    await store.upload("users/b/owner.json", tmp_path / "most", create=True, progress=silent)
    assert (await store.get("users/b/owner.json") or (b"",))[0] == b"{" * SMALL


async def test_a_deletion_on_condition_hits_only_what_was_meant(store: ObjectStore) -> None:
    first = await store.put("a", b"one")
    second = await store.put("a", b"two")
    with pytest.raises(ConditionFailed):
        await store.delete("a", match=first)
    assert await store.get("a") == (b"two", second)
    await store.delete("a", match=second)
    assert await store.get("a") is None
    with pytest.raises(ConditionFailed):
        await store.delete("a", match=second)


async def test_a_store_which_ignores_conditions_on_deletions_only_is_good_and_known_for_it(tmp_path: Path) -> None:
    class Heedless(FolderStore):
        async def delete(self, key: str, *, match: str | None = None) -> None:
            await super().delete(key)

    store = Heedless(tmp_path / "store")
    await store.open()
    assert not await store_interface.check(store, monotonic)
    store.close()
