"""Tests of the store's content in litestream mode and what becomes of it: damaged, written by others, from another
mode, of an earlier time. With the real litestream and a folder."""

import asyncio
import os
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from time import time

import pytest
from msgspec import structs

from fakes.machines import DATABASE, Yard, add, rows
from fakes.owners import FakeLease, previous
from fakes.streams import Streamer, Streamers, Writer, after
from flyatc.databases.decisions.version_choice import Moment
from flyatc.databases.litestream import client
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import silent
from flyatc.observe.log import stamp

FIRST = previous(0, clean=True)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def removed(file: Path) -> None:
    file.unlink()


async def test_a_damaged_replica_is_an_alarm_and_never_a_new_tenant(machines: Streamers) -> None:
    """Also where its first file is missing, which litestream calls "no backup"."""
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    await a.session(one, -1)
    await a.cut(two := after(one), 0, 1, 2)
    b = await machines.machine("b")
    for damage in (truncated, emptied, removed):
        # litestream compacts every 30 seconds: then two files begin with the first transaction
        whole = {
            file: file.read_bytes() for file in machines.ltx() if file.name.startswith(machines.ltx()[0].name[:16])
        }
        for file in whole:
            damage(file)
        with pytest.raises(
            RestoreRefused, match=r"e000001 cannot be restored.*no empty database was created.*--version 000001-"
        ):
            await b.session(after(two, clean=False))
        assert not b.path.exists()
        assert b.events("a replica cannot be restored")
        for file, content in whole.items():
            file.write_bytes(content)
    assert await b.session(after(two, clean=False)) == [-1, 0, 1, 2]


async def test_a_restore_under_which_files_vanish_is_tried_once_more(machines: Streamers) -> None:
    """litestream's issue 1270: its own retention removes what a restore has just planned to read."""
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    await a.cut(one, 1)
    file = machines.ltx()[0]
    whole = file.read_bytes()
    truncated(file)
    b.after_programs = lambda: file.write_bytes(whole)
    assert await b.session(after(one, clean=False)) == [1]


async def test_a_store_which_does_not_respond_starts_nothing(machines: Streamers, tmp_path: Path) -> None:
    a = await machines.machine("a")
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(RestoreRefused):
        await a.session(FakeLease(1, FIRST), 1)
    assert not a.path.exists()


async def test_a_database_which_was_in_the_store_once_does_not_begin_anew(machines: Streamers) -> None:
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    await a.session(one, 1)
    shutil.rmtree(machines.stored())
    a.path.unlink()
    with pytest.raises(RestoreRefused, match="neither here nor there"):
        await a.session(after(one))


async def test_a_store_which_has_lost_it_gets_it_again(machines: Streamers) -> None:
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    await a.session(one, 1)
    shutil.rmtree(machines.stored())
    await a.session(after(one), 2)
    assert a.events("the store has lost a database")
    assert await b.session(after(after(one))) == [1, 2]


async def test_a_seed_is_what_a_new_database_begins_with(machines: Streamers, tmp_path: Path) -> None:
    seed = Writer(tmp_path / "seed")
    seed.add(1)
    seed.close()
    a = await machines.machine("a", seed=tmp_path / "seed")
    one = FakeLease(1, FIRST)
    assert await a.session(one, 2) == [1]
    assert await (await machines.machine("b", seed=tmp_path / "seed")).session(after(one)) == [1, 2]


@pytest.mark.parametrize("form", ["file:{root}/theirs/{user}/{tenant}/{database}", "theirs/{user}-{database}"])
async def test_a_replica_of_another_litestream_is_adopted_and_never_written(
    machines: Streamers, tmp_path: Path, form: str
) -> None:
    template = form.replace("{root}", str(tmp_path))
    key = template.removeprefix("file:").format(user="bellevue", tenant="2025/winter", database=DATABASE)
    theirs = Path(key) if form.startswith("file:") else tmp_path / "store" / key
    original = Writer(tmp_path / "original")
    original.add(1, 2, 3)
    original.close()
    replicate(tmp_path / "original", theirs)
    before = sorted(theirs.rglob("*"))
    storage = structs.replace(machines.storage, replica=template)
    a = await machines.machine("a", storage=storage)
    one = FakeLease(1, FIRST)
    assert await a.session(one, 4) == [1, 2, 3]
    assert sorted(theirs.rglob("*")) == before
    b = await machines.machine("b", storage=storage)
    assert await b.session(after(one)) == [1, 2, 3, 4], "from our own line"


async def test_a_damaged_replica_of_others_starts_nothing_either(machines: Streamers, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    original = Writer(tmp_path / "original")
    original.add(1)
    original.close()
    replicate(tmp_path / "original", theirs)
    truncated(next(theirs.rglob("*.ltx")))
    a = await machines.machine("a", storage=structs.replace(machines.storage, replica=f"file:{theirs}"))
    with pytest.raises(RestoreRefused, match="cannot be restored"):
        await a.session(FakeLease(1, FIRST))
    assert not a.path.exists()


def replicate(database: Path, folder: Path) -> None:
    found = client.find(None, {})
    subprocess.run([found, "replicate", "-once", str(database), f"file://{folder}"], check=True, capture_output=True)


async def test_what_was_saved_as_snapshots_goes_on_as_a_stream(machines: Streamers, tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        before = yard.machine("old")
        async with before.service.hold(before.tenant):
            add(before.path, 1, 2, wal=True)
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    assert await numbers(a, one) == [1, 2]
    assert await numbers(b, after(one)) == [1, 2]
    (restored,) = b.events("restored")
    assert "which is transaction" in str(restored["reason"]), "the snapshot of the last stop"


async def numbers(machine: Streamer, owned: FakeLease) -> list[int]:
    async with machine.hold(owned):
        return rows(machine.path)


async def test_one_can_go_back_to_an_earlier_time(machines: Streamers) -> None:
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Writer(a.path)
        app.add(1)
        await held.save(silent)
        await asyncio.sleep(0.1)
        moment = time()
        await asyncio.sleep(0.1)
        app.add(2)
        app.close()
    two = after(one)
    record = await a.prepared()
    (span,) = await a.door.history(a.tenant, record, two)
    assert span.line == "e000001"
    assert span.since - 1 < moment < span.until + 1
    back = await a.door.roll_back(a.tenant, record, two, [DATABASE], Moment(moment), silent)
    await back.leave()
    assert await a.session(after(two), 3) == [1]
    assert len(list((a.tenant.data / ".flyatc" / "orphans").iterdir())) == 1
    three = after(after(two))
    assert await (await machines.machine("b")).session(three) == [1, 3]
    with pytest.raises(RestoreRefused, match="nothing of it from that time"):
        await a.door.roll_back(a.tenant, await a.prepared(), after(three), [DATABASE], Moment(moment - 3600), silent)


async def test_the_time_that_is_shown_of_a_stream_brings_back_its_last_state(machines: Streamers) -> None:
    a = await machines.machine("a")
    one = FakeLease(1, FIRST)
    await a.cut(one, 1, 2)
    for file in machines.ltx():
        os.utime(file, ns=(0, int(time()) * 10**9 - 876_543_600))  # .1234564, which is shown as .123456
    record = await a.prepared()
    (span,) = await a.door.history(a.tenant, record, one)
    shown = datetime.fromisoformat(stamp(span.until)).timestamp()
    assert shown < span.since == span.until
    back = await a.door.roll_back(a.tenant, record, two := after(one, clean=False), [DATABASE], Moment(shown), silent)
    await back.leave()
    assert await a.session(after(two)) == [1, 2]
