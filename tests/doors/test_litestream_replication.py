"""A tenant whose databases stream, with the real litestream and a folder as the store."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from time import time

import pytest

from fakes.owners import FakeLease, previous
from fakes.streams import Streamers, Writer, after, litestream_of
from fakes.waiting import eventually
from flyatc.databases.litestream import client, database_stream
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent
from flyatc.tenants.interfaces import Databases
from slowness import SLOWNESS

FIRST = previous(0, clean=True)


async def test_what_one_machine_streams_another_restores(machines: Streamers) -> None:
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    assert await a.session(one, *range(20)) == []
    assert await b.session(after(one), 20) == list(range(20))
    (restored,) = b.events("restored")
    assert restored["version"] == "000001-000000001", "the snapshot is one object, and the same"
    assert "which is transaction" in str(restored["reason"])
    assert {"size", "ms", "reason"} <= restored.keys()
    assert await a.session(after(after(one))) == list(range(21)), "a's own copy is outdated, and not taken"
    assert list((a.tenant.data / ".flyatc").glob("orphans/*")) == [], "which is nothing to keep"


async def test_what_comes_out_of_the_hold_is_what_a_tenant_needs(machines: Streamers) -> None:
    a = await machines.machine("a")
    async with a.hold(FakeLease(1, FIRST)) as held:
        databases: Databases = held
        assert (databases.unsaved, held.lag) == (False, 0.0)
        app = Writer(a.path)
        app.add(1)
        assert databases.unsaved is True
        await databases.save(silent)
        assert held.streams[0].txid > 0
        assert databases.saved_at is not None
        assert held.size > 0
        await eventually(lambda: not held.unsaved and held.lag == 0.0)
        with pytest.raises(SaveFailed, match="no database 'x'"):
            await databases.save(silent, only="x")
        app.close()


async def test_no_link_that_an_app_leaves_where_litestream_would_write_is_followed(
    machines: Streamers, tmp_path: Path
) -> None:
    a = await machines.machine("a")
    (tmp_path / "elsewhere").mkdir()
    async with a.hold(FakeLease(1, FIRST)) as held:
        app = Writer(a.path)
        app.add(1)
        await held.save(silent)
        state = a.path.with_name(f".{a.path.name}-litestream") / "ltx" / "0"
        state.mkdir(parents=True, exist_ok=True)
        for number in range(2, 20):
            (state / f"{number:016x}-{number:016x}.ltx.tmp").symlink_to(tmp_path / "elsewhere" / "file")
        for row in (2, 3):
            app.add(row)
            await held.save(silent)
        app.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_database_which_the_app_makes_streams_soon_without_being_asked_to(machines: Streamers) -> None:
    a = await machines.machine("a")
    async with a.hold(FakeLease(1, FIRST)):
        app = Writer(a.path)
        app.add(1)
        await eventually(lambda: bool(machines.ltx("e000001")))
        app.close()


async def test_the_same_machine_keeps_its_copy_and_uploads_nothing_that_is_there(machines: Streamers) -> None:
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    await a.session(one, 1, 2)
    before = machines.ltx()
    async with a.hold(after(one)) as held:
        await eventually(lambda: not held.unsaved)
    assert machines.ltx() == before
    assert a.events("restored") == []


async def test_a_litestream_that_is_killed_is_started_again_and_nothing_is_lost(machines: Streamers) -> None:
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Writer(a.path)
        app.add(1, 2)
        await held.save(silent)
        os.kill(litestream_of(a.data), signal.SIGKILL)
        app.add(3)
        await eventually(lambda: a.door.engine.starts == 2 and a.door.engine.up)
        app.add(4)
        await held.save(silent)
        app.close()
    assert a.events("litestream has ended: it is started again")
    assert await b.session(after(one)) == [1, 2, 3, 4]


async def test_an_app_which_replaces_its_database_under_way_is_streamed_anew(machines: Streamers) -> None:
    """0.6: litestream would go on, and make a replica that cannot be restored."""
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Writer(a.path)
        app.add(*range(50), filling=2000)
        await held.save(silent)
        app.close()
        for end in ("", "-wal", "-shm"):
            Path(f"{a.path}{end}").unlink()
        other = Writer(a.path)
        other.add(100, 101)
        await held.save(silent)
        other.close()
    assert await b.session(after(one)) == [100, 101]


async def test_an_app_that_starts_again_after_a_save_failed_goes_on_with_its_own_files(machines: Streamers) -> None:
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    await a.session(one, 1)
    two = after(one, clean=False)  # taken over, and held through both starts

    async def unsaved() -> None:
        async with b.hold(two):
            app = Writer(b.path)
            app.add(2)
            app.close()
            two.may = False

    with pytest.raises(SaveFailed, match="may not write at this moment"):
        await unsaved()
    two.may = True
    assert await b.session(two) == [1, 2]
    assert list((b.tenant.data / ".flyatc").glob("orphans/*")) == []


async def test_a_wall_clock_that_is_set_back_after_the_stream_began_delays_no_stop(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await machines.machine("a")
    began = FakeLease(1, FIRST)
    monkeypatch.setattr(
        database_stream, "time", lambda: time() + 3600
    )  # what this process believes, and litestream does not
    async with asyncio.timeout(10 * SLOWNESS):
        assert await a.session(began, *range(20)) == []
    b = await machines.machine("b")
    assert await b.session(after(began)) == list(range(20))


async def test_after_a_takeover_a_new_line_begins_and_the_previous_holder_cannot_disturb_it(
    machines: Streamers,
) -> None:
    """0.7: litestream has no fence, so lines are apart."""
    a, b, c = [await machines.machine(name) for name in "abc"]
    one = FakeLease(1, FIRST)
    two = after(one, clean=False)

    async def robbed() -> None:
        async with a.hold(one) as held:
            app = Writer(a.path)
            app.add(1)
            await held.save(silent)
            assert await b.session(two, 2) == [1]
            app.add(666)
            await held.save(silent)  # it does not know yet
            app.close()

    with pytest.raises(SaveFailed, match="another machine has taken it over"):
        await robbed()
    assert machines.ltx("e000002")
    assert await c.session(after(two)) == [1, 2]
    # The robbed machine has the user again: its copy has what is in no line of ours, so it is kept, aside.
    async with a.hold(after(after(two))):
        app = Writer(a.path)
        assert app.rows() == [1, 2]
        app.close()


async def test_when_the_ownership_ends_litestream_lets_go_and_the_local_copy_is_kept(machines: Streamers) -> None:
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)

    async def written_after_the_end() -> None:
        async with a.hold(one) as held:
            app = Writer(a.path)
            app.add(1)
            await held.save(silent)
            one.expire(lost=False)
            await eventually(lambda: not a.door.engine.holds(a.path))
            app.add(2)
            app.close()

    with pytest.raises(SaveFailed, match="may not write"):
        await written_after_the_end()
    assert one.dirty
    assert await a.session(FakeLease(2, previous(1, clean=False)), 3) == [1, 2], "no one has it: it goes on"
    assert await (await machines.machine("b")).session(FakeLease(3, previous(2, clean=True), line=2)) == [1, 2, 3]


async def test_what_was_written_after_a_loss_is_set_aside(machines: Streamers) -> None:
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Writer(a.path)
        app.add(1)
        await held.save(silent)
        one.expire(lost=True)
        app.add(2)
        app.close()
    assert not a.path.exists()
    assert len(list((a.tenant.data / ".flyatc" / "orphans").glob(f"*/{a.path.name}"))) == 1
    assert a.events("the local copy was set aside")


async def test_a_wal_which_stands_alone_is_not_played_into_what_is_restored(machines: Streamers) -> None:
    """0.5: litestream, its integrity check and SQLite would say nothing."""
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    await a.session(one, 1, 2)
    b.path.parent.mkdir(parents=True)
    stale = Writer(b.path)
    stale.add(*range(1000, 1100))
    for end in ("-wal", "-shm"):
        shutil.copy(f"{b.path}{end}", f"{b.path}{end}.kept")
    stale.close()
    b.path.unlink()
    for end in ("-wal", "-shm"):
        Path(f"{b.path}{end}.kept").rename(f"{b.path}{end}")
    assert await b.session(after(one)) == [1, 2]


async def test_a_store_with_a_newer_line_than_ours_raises_us_or_refuses(machines: Streamers) -> None:
    a, b = await machines.machine("a"), await machines.machine("b")
    await a.session(FakeLease(7, previous(6, clean=False)), 1)
    low = FakeLease(1, FIRST)
    with pytest.raises(RestoreRefused, match="was the owner's record removed"):
        await b.session(low)  # it rises, but its line does not
    assert low.epoch == 8


async def test_a_litestream_which_cannot_be_let_go_of_is_killed(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MARGIN", 0.1)
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    stopped = 0
    try:
        async with a.hold(one) as held:
            Writer(a.path).close()
            await held.save(silent)
            await eventually(lambda: not held.unsaved)
            stopped = litestream_of(a.data)
            os.kill(stopped, signal.SIGSTOP)
            monkeypatch.setattr(database_stream, "ANSWER", 1.0)
        assert not a.door.engine.holds(a.path)
        assert a.events("litestream is killed and started again")
        assert not Path(f"/proc/{stopped}").exists()
        stopped = 0
    finally:
        if stopped:
            os.kill(stopped, signal.SIGKILL)


async def test_a_link_to_the_database_of_a_neighbour_fails_the_save_and_begins_no_new_stream(
    machines: Streamers, tmp_path: Path
) -> None:
    """litestream may read more than the app."""
    a = await machines.machine("a")
    neighbour = Writer(tmp_path / "neighbour.sqlite3")
    neighbour.add(77)

    async def run() -> None:
        async with a.hold(FakeLease(1, FIRST)) as held:
            app = Writer(a.path)
            app.add(1)
            await held.save(silent)
            app.close()
            for end in ("", "-wal", "-shm"):
                mine = a.path.with_name(f"{a.path.name}{end}")
                mine.unlink(missing_ok=True)
                mine.symlink_to(tmp_path / f"neighbour.sqlite3{end}")
            with pytest.raises(SaveFailed, match="it is a link"):
                await held.save(silent)
            assert held.unsaved

    with pytest.raises(SaveFailed, match="it is a link"):
        await run()
    assert machines.ltx("e000001-01") == []
    neighbour.close()
