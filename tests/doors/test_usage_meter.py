"""The meter of use: runs of real processes, files by day, calls of a real store."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from fakes.waiting import eventually
from flyatc.config.schema import Tenant
from flyatc.cost.usage import Day, Use
from flyatc.daemon import usage_meter
from flyatc.daemon.usage_meter import UsageMeter
from flyatc.kit import tasks
from flyatc.kit.types import silent
from flyatc.objects.folder import FolderStore
from flyatc.observe.counters import Counters, StoreCalls
from flyatc.observe.log import Log

NOON = 1_790_856_000.0  # 2026-10-01, 12:00 in UTC
ANN = cast("Tenant", SimpleNamespace(user="ann", address="ann/one"))


class Wall:
    now = NOON

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def running(tenant: Tenant, hurry: Callable[[], bool]) -> AsyncIterator[Any]:
    """A run whose only process is this one."""
    yield SimpleNamespace(members=lambda: [os.getpid()])


def meter(
    folder: Path, *, wall: Wall | None = None, counters: Counters | None = None, log: Log | None = None
) -> UsageMeter:
    return UsageMeter(folder / "usage", counters or Counters(), [], log or Log(), wall=wall or Wall())


def kept(folder: Path, date: str = "2026-10-01") -> Day:
    return msgspec.json.decode((folder / "usage" / f"{date}.json").read_bytes(), type=Day)


async def test_a_run_counts_by_its_time_and_memory_however_short(tmp_path: Path) -> None:
    one = meter(tmp_path)
    with pytest.raises(KeyError):
        async with one.metered(running)(ANN, lambda: False):
            raise KeyError
    (today,) = await one.days()
    found = today.users["ann"]
    assert 0 < found.seconds < 5
    assert found.memory / found.seconds > 5e6  # this interpreter


async def test_a_run_that_goes_on_counts_up_to_now(tmp_path: Path) -> None:
    one = meter(tmp_path)
    async with one.metered(running)(ANN, lambda: False):
        first = (await one.days())[-1].users["ann"].seconds
        assert 0 < first < (await one.days())[-1].users["ann"].seconds
    assert (await one.days())[-1].users["ann"].memory > 0


async def test_requests_and_bytes_count_once_for_the_user_of_the_tenant(tmp_path: Path) -> None:
    counters = Counters()
    one = meter(tmp_path, counters=counters)
    counters.count("ann/one", 200, 100)
    counters.count("ann/two", 404, 10)
    counters.count("", 404, 1)
    await one.look()
    counters.count("ann/one", 200, 100)
    (today,) = await one.days()
    assert today.users == {"ann": Use(requests=3, sent=210), "": Use(requests=1, sent=1)}


async def test_a_later_daemon_goes_on_with_the_day_and_forgets_what_is_too_old(tmp_path: Path) -> None:
    counters = Counters()
    counters.count("ann", 200, 1)
    one = meter(tmp_path, counters=counters)
    one.close()
    (tmp_path / "usage" / "2026-07-01.json").write_bytes(msgspec.json.encode(kept(tmp_path)))
    (tmp_path / "usage" / "2026-09-30.json").write_text("{")  # as after a fault of the disk
    wall = Wall()
    wall.now += 60
    later = meter(tmp_path, wall=wall, counters=counters)
    task = tasks.start(later.run(), "usage")
    await eventually(lambda: later._day.since == NOON)
    task.cancel()
    later.close()
    meter(tmp_path, wall=wall).close()  # which had no time to read it
    assert kept(tmp_path).users == {"ann": Use(requests=2, sent=2)}
    assert (kept(tmp_path).since, kept(tmp_path).until) == (NOON, NOON + 60)
    assert sorted(path.name for path in (tmp_path / "usage").iterdir()) == ["2026-09-30.json", "2026-10-01.json"]
    assert [day.date for day in await later.days()] == ["2026-10-01"]


async def test_a_new_day_begins_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_meter, "LOOK", 0.01)
    counters, wall = Counters(), Wall()
    one = meter(tmp_path, counters=counters, wall=wall)
    task = tasks.start(one.run(), "usage")
    counters.count("ann", 200, 1)
    await eventually(lambda: one._day.users)
    wall.now += 86400
    await eventually((tmp_path / "usage" / "2026-10-01.json").exists)
    counters.count("ann", 200, 5)
    task.cancel()
    one.close()
    assert kept(tmp_path).users == {"ann": Use(requests=1, sent=1)}
    assert kept(tmp_path, "2026-10-02").users == {"ann": Use(requests=1, sent=5)}


async def test_the_last_day_of_a_tenant_has_its_memory_and_outlives_the_daemon(tmp_path: Path) -> None:
    counters = Counters()
    one = meter(tmp_path, counters=counters)
    async with one.metered(running)(ANN, lambda: False):
        counters.timed("ann/one")[0] += 3
    one.close()
    later = meter(tmp_path)
    task = tasks.start(later.run(), "usage")
    await eventually(lambda: later.activity.of("ann/one", NOON))
    task.cancel()
    (slot,) = later.activity.of("ann/one", NOON)
    assert (slot.at, slot.requests) == (NOON, 3)
    assert slot.memory > 5e6  # this interpreter
    meter(tmp_path).close()  # which had no time to read it
    last = meter(tmp_path)
    last._restore(last._read_activity())
    assert last.activity.of("ann/one", NOON) == [slot]


async def test_a_folder_that_cannot_be_written_is_logged_once(tmp_path: Path) -> None:
    log = Log()
    one = meter(tmp_path / "nonesuch", log=log)
    one.close()
    one.close()
    assert len([1 for _, _, line in log.journal.since(0, None) if b"cannot be written" in line]) == 1


async def test_calls_of_a_store_count_for_the_user_of_the_key_if_they_have_a_result(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    with contextlib.closing(store):
        await store.open()
        assert await store.get("users/ann/owner.json") is None
        await store.put("users/ann/owner.json", b"12345")
        await store.get("users/ann/owner.json")
        await store.list("users/ann/")
        await store.put("machines/m.json", b"1")
        (tmp_path / "file").write_bytes(b"x" * 1000)
        store.part = 400
        await store.upload("users/bob/one", tmp_path / "file", progress=silent)
        await store.download("users/bob/one", tmp_path / "copy", silent)
        await store.delete("users/ann/owner.json")
    found = {user: (one.writes, one.reads, one.uploaded) for user, one in store.counted.take().items()}
    assert found == {"ann": (2, 1, 5), "": (1, 0, 1), "bob": (5, 1, 1000)}
    assert store.counted.take() == {}


def test_calls_of_many_users_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyatc.observe.counters.MOST_USERS", 2)
    calls = StoreCalls()
    for user in ("ann", "bob", "cid", "dan", "ann"):
        calls.count(f"below/users/{user}/x", reads=1)
    assert {user: one.reads for user, one in calls.take().items()} == {"ann": 2, "bob": 1, "~others": 2}
