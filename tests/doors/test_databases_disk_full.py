"""A restore on a full disk, or by a litestream that cannot do its work: never reported as a damaged copy."""

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from fakes.machines import Yard
from fakes.owners import FakeLease, previous
from fakes.streams import Streamers, Writer, after
from flyatc.databases import sqlite
from flyatc.databases.decisions import restore_failures
from flyatc.databases.litestream import client
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import silent

FIRST = previous(0, clean=True)
SMALL = 2 << 20


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Streamers]:
    made = Streamers.on_folder(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def streamed(machines: Streamers) -> FakeLease:
    """Some four megabytes are in the store, as a stream alone: the machine was lost. Who may come next."""
    one, a = FakeLease(1, FIRST), await machines.machine("a")
    async with a.hold(one) as held:
        app = Writer(a.path)
        for number in range(80):
            app.add(number, filling=50_000)
        await held.save(silent)
        app.close()
        one.expire(lost=True)
    return after(one, clean=False)


async def test_a_full_disk_is_named_with_what_it_has_and_what_is_needed(
    machines: Streamers, streamed: FakeLease
) -> None:
    with mounted(machines.root / "b", f"size={SMALL}") as disk:
        b = await machines.machine("b")
        with pytest.raises(RestoreRefused) as refused:
            await b.session(streamed)
        why = str(refused.value)
        assert "the disk is full" in why
        assert f"free on {disk}, about" in why
        assert "--at" not in why
        assert "cannot be restored" not in why
        assert not b.events("a replica cannot be restored")
        assert not list(b.tenant.data.glob(".flyatc/restore-*"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert await b.session(streamed) == list(range(80)), "the same restore works when there is room"
        await b.close()


async def test_a_disk_which_becomes_full_meanwhile_is_no_damage_either(
    machines: Streamers, streamed: FakeLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Return what the store's sizes say is the least that is needed: here nothing is known of them."""
    monkeypatch.setattr(restore_failures.Room, "short", False)
    with mounted(machines.root / "b", f"size={SMALL}"):
        b = await machines.machine("b")
        with pytest.raises(RestoreRefused, match=r"the disk is full.*no space left on device.*Nothing was changed"):
            await b.session(streamed)
        await b.close()


async def test_a_full_disk_is_reported_in_snapshot_mode_as_well(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        a = yard.machine("a")
        async with a.service.hold(a.tenant):
            with contextlib.closing(Writer(a.path)) as app:
                app.add(1, filling=4 << 20)
        with mounted(tmp_path / "b", f"size={SMALL}") as disk:
            b = yard.machine("b")
            with pytest.raises(RestoreRefused) as refused:
                await b.session()
            why = str(refused.value)
            assert "the disk is full" in why
            assert f"free on {disk}, about" in why
            assert "damaged" not in why
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            async with b.service.hold(b.tenant):
                with contextlib.closing(Writer(b.path)) as app:
                    assert app.rows() == [1]


async def test_a_read_only_disk_is_reported_in_snapshot_mode(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        await yard.machine("a").session(1)
        with mounted(tmp_path / "b", "size=16m") as disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            b = yard.machine("b")
            with pytest.raises(RestoreRefused, match=r"read-only.*Mount it writable"):
                await b.session()


LIMITS = {
    "ulimit -f 1024": "disk quota is used up.*file too large",
    "ulimit -n 8": "too many open files",
    "ulimit -v 100000": "out of memory",
    "[ $1 = version ] || kill -9 $$": "litestream was killed",
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_litestream_which_may_not_work_is_no_damaged_replica(
    machines: Streamers, streamed: FakeLease, tmp_path: Path, limit: str
) -> None:
    wrapper = tmp_path / "wrapper"
    real = client.find(None, {"PATH": os.environ["PATH"]})
    wrapper.write_text(f'#!/bin/sh\nif [ "$1" = restore ]; then {limit}; fi\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    b = await machines.machine("b", storage=structs.replace(machines.storage, litestream=str(wrapper)))
    with pytest.raises(RestoreRefused, match=LIMITS[limit]) as refused:
        await b.session(streamed)
    assert "--at" not in str(refused.value)
    assert not b.path.exists()


def test_sqlite_without_room_blames_the_disk(tmp_path: Path) -> None:
    with contextlib.closing(Writer(tmp_path / "source")) as app:
        app.add(1, filling=4 << 20)
    with mounted(tmp_path / "small", "size=1m") as disk, pytest.raises(OSError, match="full"):
        sqlite.copy(tmp_path / "source", disk / "copy", lambda done, total: None)
