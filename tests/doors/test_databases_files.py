"""Folders of files beside the databases: what is saved, restored, kept and refused."""

import asyncio
import hashlib
import io
import json
import os
import random
import shutil
import socket
import stat
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fakes.machines import DATABASE, Machine, Yard, add, rows
from fakes.owners import FakeLease, previous
from flyatc.databases.app_files import blobs as packing
from flyatc.databases.app_files import seeds
from flyatc.databases.app_files.verify import SavedFiles
from flyatc.databases.decisions import inventory
from flyatc.databases.decisions.version_choice import Moment, OrphanChoice
from flyatc.databases.local_files import SECOND, TICK
from flyatc.databases.verify import Scratch, Snapshots, Verdict, Verifier
from flyatc.databases.workers import Workers
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent
from flyatc.observe.log import Log

FILES = ("storage",)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


def tree(root: Path) -> dict[str, bytes | None]:
    """Every file with its content, every folder with None."""
    return {
        os.fsencode(path.relative_to(root)).decode("latin-1"): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def fill(root: Path, count: int = 200, seed: int = 1) -> dict[str, bytes | None]:
    """Files of mixed sizes, from none to some above what is put at once."""
    chance = random.Random(seed)
    for number in range(count):
        size = chance.choice([0, 1, 100, 4_000, 70_000, 262_144, 262_145, 600_000]) if number % 10 else 1_500_000
        path = root / f"{number % 7:02x}" / f"{number % 13:02x}" / f"blob {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
    return tree(root)


async def upload(machine: Machine, number: int) -> None:
    """A row, and the file that it names."""
    machine.storage.mkdir(exist_ok=True)
    (machine.storage / f"{number}.txt").write_text(f"file {number}")
    add(machine.path, number)


async def life(machine: Machine, work: Callable[[], object]) -> None:
    """One run of an app that does ``work``."""
    async with machine.service.hold(machine.tenant):
        work()


def blobs(yard: Yard) -> list[Path]:
    return sorted(path for path in (yard.root / "store" / "files").rglob("*") if path.is_file())


async def test_what_one_machine_saves_another_restores(yard: Yard) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant):
        there = fill(a.storage)
        add(a.path, 1)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == there
        assert rows(b.path) == [1]
    (restored,) = [one for one in b.events("restored") if one["database"] == "storage/"]
    assert restored["files"] == 200
    assert not b.events("the files and the databases are not of one moment")


async def test_modes_times_names_and_empty_folders_are_kept(yard: Yard) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant):
        (a.storage / "empty").mkdir(parents=True)
        (a.storage / "closed").mkdir(mode=0o700)
        for name in (b"a\nb", b"\xff\xfe", b"%41", "ä€".encode(), b" ", b"~", b".keep", b"-rf"):
            Path(os.fsdecode(os.fsencode(a.storage) + b"/" + name)).write_bytes(name)
        tool = a.storage / "tool"
        tool.write_bytes(b"#!")
        tool.chmod(0o4755)
        os.utime(tool, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
        there = tree(a.storage)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == there
        assert stat.S_IMODE((b.storage / "closed").stat().st_mode) == 0o700
        assert stat.S_IMODE((b.storage / "tool").stat().st_mode) == 0o755, "never setuid"
        assert (b.storage / "tool").stat().st_mtime_ns == 1_600_000_000_123_456_789


async def test_an_unchanged_folder_is_not_sent_again_and_only_what_is_new_is_sent(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant) as held:
        fill(a.storage, 30)
        add(a.path, 1)
        await held.save(silent)
        await asyncio.sleep(2 * TICK / SECOND)
        await held.save(silent)  # what was new at the last save is read once more
        yard.failing.calls.clear()
        await held.save(silent)
        assert yard.failing.calls == []
        (a.storage / "new").write_bytes(b"new")
        (a.storage / "copy").write_bytes(b"new")
        await asyncio.sleep(2 * TICK / SECOND)  # what was written just now is read again
        await held.save(silent, only="storage/")
        assert len([call for call in yard.failing.calls if call.startswith(("put", "upload"))]) == 3, (
            "one content, one manifest, one pointer"
        )
        yard.failing.calls.clear()
    assert yard.failing.calls == [], "nothing is left to save at the end"


async def test_links_sockets_and_pipes_are_skipped_and_named(yard: Yard, tmp_path: Path) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    (tmp_path / "secret").write_text("secret")
    async with a.service.hold(a.tenant) as held:
        a.storage.mkdir()
        (a.storage / "link").symlink_to(tmp_path / "secret")
        (a.storage / "folder").symlink_to(tmp_path)
        os.mkfifo(a.storage / "pipe")
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(a.storage)
            listening.bind("socket")
        (a.storage / "real").write_text("real")
        await held.save(silent)
        (alarm,) = held.alarms
        assert "folder, link, pipe, socket" in alarm
    assert len(a.events("some files are not saved")) == 1
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == {"real": b"real"}


async def test_a_folder_that_is_a_link_is_not_followed(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a", files=FILES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret")

    def work() -> None:
        add(a.path, 1)
        a.storage.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SaveFailed, match="is not a folder, or a link to one"):
        await life(a, work)
    assert not (yard.root / "store" / "files").exists()
    assert await yard.machine("b").session() == [1], "the database is saved nevertheless"


async def test_beyond_its_limits_a_folder_is_not_saved_but_the_database_is(yard: Yard) -> None:
    a = yard.machine("a", files=FILES, limits={"files_most": 10, "files_size": 1000})

    def many() -> None:
        add(a.path, 1)
        fill(a.storage, 20)

    def large() -> None:
        a.storage.mkdir()
        (a.storage / "large").write_bytes(b"x" * 1001)

    with pytest.raises(SaveFailed, match=r"more than 10 files and folders in it: see storage\.files_most"):
        await life(a, many)
    assert await a.service.unsaved([a.tenant]) == [a.tenant]
    shutil.rmtree(a.storage)
    with pytest.raises(SaveFailed, match=r"1001 bytes, and storage\.files_size is 1000"):
        await life(a, large)
    assert await yard.machine("b").session() == [1]


async def test_a_folder_that_was_removed_while_stopped_comes_back_and_one_emptied_by_the_app_stays_empty(
    yard: Yard,
) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant):
        there = fill(a.storage, 20)
    shutil.rmtree(a.storage)
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == there
        shutil.rmtree(a.storage)
        a.storage.mkdir()
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == {}
    b = yard.machine("b", files=FILES)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == {}


async def test_a_folder_that_the_app_removes_stays_in_the_store(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant):
        there = fill(a.storage, 20)
    async with a.service.hold(a.tenant):
        shutil.rmtree(a.storage)
    assert len(a.events("the app has removed its folder of files; the store keeps it")) > 0
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == there


async def test_after_a_crash_the_local_files_are_the_truth(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant):
        await upload(a, 1)
    crashed = yard.machine("a", files=FILES)
    async with crashed.service.hold(crashed.tenant) as held:
        await upload(crashed, 2)
        held.leave = _dies  # type: ignore[method-assign]
    again = yard.machine("a", files=FILES)
    assert await again.service.unsaved([again.tenant]) == [again.tenant]
    async with again.service.hold(again.tenant):
        assert tree(again.storage) == {"1.txt": b"file 1", "2.txt": b"file 2"}
    b = yard.machine("b", files=FILES)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == {"1.txt": b"file 1", "2.txt": b"file 2"}
        assert rows(b.path) == [1, 2]


async def _dies() -> None:
    pass


async def test_a_stale_copy_that_was_saved_is_replaced_and_only_what_differs_is_fetched(yard: Yard) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant):
        fill(a.storage, 30)
    async with b.service.hold(b.tenant):
        (b.storage / "new").write_bytes(b"new")
        there = tree(b.storage)
    yard.failing.calls.clear()
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == there
    assert len([call for call in yard.failing.calls if call.startswith("download")]) == 2, "the manifest and one file"
    assert await a.service.orphans(a.tenant) == []


@pytest.mark.parametrize("lost", [False, True], ids=["from the disk", "from the store"])
async def test_a_stale_copy_that_was_not_saved_is_set_aside_and_can_be_restored(yard: Yard, lost: bool) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant):
        await upload(a, 1)
    (a.storage / "unsaved").write_text("unsaved")
    async with b.service.hold(b.tenant):
        await upload(b, 2)
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == {"1.txt": b"file 1", "2.txt": b"file 2"}
    (orphan,) = await a.service.orphans(a.tenant)
    assert tree(orphan / "storage") == {"1.txt": b"file 1", "unsaved": b"unsaved"}
    await a.service.sent()
    assert await a.service.stranded([a.tenant]) == []
    if lost:
        shutil.rmtree(orphan)
    await a.service.restore(a.tenant, "storage/", OrphanChoice(orphan.name), silent)
    c = yard.machine("c", files=FILES)
    async with c.service.hold(c.tenant):
        assert tree(c.storage) == {"1.txt": b"file 1", "unsaved": b"unsaved"}
        assert rows(c.path) == [1, 2]


async def test_a_seed_may_be_a_folder(yard: Yard, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    there = fill(seed, 20)
    a = yard.machine("a", files=FILES, seed={"storage": str(seed)})
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == there
    b = yard.machine("b", files=FILES)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == there
    local = yard.machine("local", files=FILES, seed={"storage": str(seed)}, store=None)
    async with local.service.hold(local.tenant):
        assert tree(local.storage) == there


async def test_nothing_is_saved_of_a_folder_without_a_file(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant):
        (a.storage / "tmp").mkdir(parents=True)
    assert not (yard.root / "store" / "files").exists()
    assert [one for one in await a.service.history(a.tenant) if one.database == "storage/"] == []


async def test_versions_are_restored_with_the_files_that_belong_to_them(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    moments = []
    for number in (1, 2, 3):
        async with a.service.hold(a.tenant):
            await upload(a, number)
            if number == 3:
                (a.storage / "1.txt").unlink()
        saved = [one.saved for one in await a.service.history(a.tenant) if one.database == DATABASE]
        moments.append(saved[0])
        # saves are named by the millisecond
    notes = await a.service.restore(a.tenant, None, Moment(moments[1]), silent)
    assert notes
    assert notes[0].startswith("storage/: restored 000001-000000002")
    assert "it belongs to app.sqlite3" in notes[0]
    async with a.service.hold(a.tenant):
        assert tree(a.storage) == {"1.txt": b"file 1", "2.txt": b"file 2"}
        assert rows(a.path) == [1, 2]
    await a.service.restore(a.tenant, None, "000001-000000003", silent)
    b = yard.machine("b", files=FILES)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == {"2.txt": b"file 2", "3.txt": b"file 3"}
        assert rows(b.path) == [1, 2, 3]
    await b.service.restore(b.tenant, "storage", "000001-000000001", silent)
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == {"1.txt": b"file 1"}
        assert rows(b.path) == [1, 2, 3], "only the folder was named"


async def test_old_saves_and_their_content_are_removed_and_nothing_that_is_needed(yard: Yard) -> None:
    a = yard.machine("a", files=FILES, keep=2)
    for number in range(6):
        async with a.service.hold(a.tenant):
            a.storage.mkdir(exist_ok=True)
            (a.storage / "same").write_bytes(b"same" * 1000)
            (a.storage / "changes").write_bytes(f"content {number}".encode())
        index = a.tenant.data / ".flyatc" / "files" / "storage~.json"
        index.write_text(index.read_text().replace('"swept":1', '"swept":0'))  # an hour has passed
    there = [one for one in await a.service.history(a.tenant) if one.database == "storage/"]
    assert len(there) == 2
    assert len(blobs(yard)) == 3, "the same one, and two that changed"
    for version in there:
        await a.service.restore(a.tenant, "storage/", version.id, silent)


async def test_damaged_content_in_the_store_refuses_the_start_and_changes_nothing(yard: Yard) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant):
        await upload(a, 1)
    (blob,) = blobs(yard)
    blob.write_bytes(b"fiel 1")
    with pytest.raises(RestoreRefused, match=r"storage/: the save 000001-000000001 is damaged.*1\.txt"):
        async with b.service.hold(b.tenant):
            raise AssertionError
    assert not b.storage.exists()
    assert await b.service.unsaved([b.tenant]) == []
    blob.write_bytes(b"file 1")
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == {"1.txt": b"file 1"}


OPENED: list[str] = []
WATCHING: list[bool] = []


def note_open(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook, which cannot be removed: open() and os.open() raise the event ``open`` (library/audit_events)."""
    if WATCHING and event == "open":
        OPENED.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else str(arguments[0]))


async def test_a_save_of_ten_thousand_unchanged_files_reads_metadata_only(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant) as held:
        for number in range(10_000):
            path = a.storage / f"{number % 100}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"content %d" % (number % 10))
        add(a.path, 1)
        await held.save(silent)
        await asyncio.sleep(2 * TICK / SECOND)
        await held.save(silent)
        sys.addaudithook(note_open)
        yard.failing.calls.clear()
        WATCHING.append(True)
        await held.save(silent)
        WATCHING.clear()
        files = [path for path in OPENED if path.endswith(".bin")]
        assert files == []
        assert len(OPENED) <= 100 + 10, "each folder, the index, and little else"
        assert yard.failing.calls == []
        (a.storage / "7" / "7.bin").write_bytes(b"changed")
        OPENED.clear()
        WATCHING.append(True)
        await held.save(silent)
        WATCHING.clear()
        assert [path for path in OPENED if path.endswith(".bin")] == ["7.bin"]


async def test_a_manifest_that_leads_out_of_the_folder_writes_nothing(yard: Yard, tmp_path: Path) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant):
        await upload(a, 1)
    folder = yard.root / "store" / "users" / "bellevue" / "2025~winter" / "storage~"
    (packed,) = folder.glob("*.files.zst")
    body = packing.unpack(packed.read_bytes())[1].replace(b'"1.txt"', b'"../../../../evil.txt"')
    packed.write_bytes(packing.pack(body))
    pointer = json.loads((folder / "current.json").read_text())
    pointer["sha256"] = hashlib.sha256(body).hexdigest()
    (folder / "current.json").write_text(json.dumps(pointer))
    with pytest.raises(RestoreRefused, match=r"is damaged: .*evil\.txt' is in no folder of it"):
        await life(b, lambda: None)
    assert list(tmp_path.rglob("*evil*")) == []
    assert not b.storage.exists()


async def test_a_link_in_the_way_of_a_folder_is_not_followed_by_a_restore(yard: Yard, tmp_path: Path) -> None:
    files = ("public/uploads",)
    a, b = yard.machine("a", files=files), yard.machine("b", files=files)

    def work() -> None:
        (a.tenant.data / "public" / "uploads").mkdir(parents=True)
        (a.tenant.data / "public" / "uploads" / "x").write_text("x")

    await life(a, work)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    b.tenant.data.mkdir()
    (b.tenant.data / "public").symlink_to(elsewhere)
    with pytest.raises(RestoreRefused, match="a part of its path is a link or a file"):
        await life(b, lambda: None)
    assert list(elsewhere.iterdir()) == []


class Writer(list[str]):
    """Calls of the store; the first comes after the look at the folder, and then its file grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, call: str) -> None:
        if not self:
            with self.path.open("ab") as file:
                file.write(b"y")
        super().append(call)


async def test_files_that_change_while_they_are_read_are_saved_in_a_later_round(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant) as held:
        await upload(a, 1)
        await held.save(silent)
        growing = a.storage / "growing"
        growing.write_bytes(b"x" * 1_000_000)
        yard.failing.calls = Writer(growing)
        await held.save(silent)
        assert held.unsaved
        yard.failing.calls = []
        size = growing.stat().st_size
        b = yard.machine("b", files=FILES)
        async with b.service.hold(b.tenant):
            assert tree(b.storage) == {"1.txt": b"file 1"}
    c = yard.machine("c", files=FILES)
    async with c.service.hold(c.tenant):
        assert (c.storage / "growing").read_bytes() == b"x" * 1_000_000 + b"y" * (size - 1_000_000)


async def test_a_full_disk_is_reported_and_nothing_is_changed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    await life(a, lambda: fill(a.storage, 20) and None)
    free = shutil.disk_usage(yard.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=1000))
    with pytest.raises(RestoreRefused, match=r"the disk is full \(1000 B are free on .*, about .* are needed"):
        await life(b, lambda: None)
    assert not b.storage.exists()


async def test_a_restore_that_is_cut_off_is_continued(yard: Yard) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)

    def work() -> None:
        a.storage.mkdir()
        for number in range(40):
            (a.storage / str(number)).write_text(f"content {number}")

    await life(a, work)
    yard.failing.fail(25)
    with pytest.raises(RestoreRefused, match="the line is cut"):
        await life(b, lambda: None)
    yard.failing.mend()
    kept = [path for path in (b.tenant.data / ".flyatc" / "files").rglob("*") if path.is_file()]
    assert len(kept) > 10
    kept[-1].write_text("damaged")
    yard.failing.calls.clear()
    async with b.service.hold(b.tenant):
        assert tree(b.storage) == tree(a.storage)
        assert all(path.stat().st_nlink == 1 for path in b.storage.iterdir())
    assert len([call for call in yard.failing.calls if call.startswith("download")]) < 1 + 40 - 10
    assert [path.name for path in (b.tenant.data / ".flyatc" / "files").iterdir()] == ["storage~.json"]


@pytest.mark.parametrize("name", ["storage/../../evil", "storage//evil", "storage/./evil", "storage/link"])
def test_an_archive_that_leads_out_of_its_folder_writes_nothing(name: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo(name)
    if name.endswith("link"):
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.addfile(member)
    (tmp_path / "archive").write_bytes(packing.pack(body.getvalue()))
    with pytest.raises(ValueError, match="leads out of it"):
        seeds.unpack(tmp_path / "archive", tmp_path / "new", 100, 100)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive", "new"]


async def verify(yard: Yard, machine: Machine) -> list[Verdict]:
    log = Log(io.BytesIO())
    tools, own = Workers(24, log), Scratch(yard.root / "drills")
    try:
        made = Verifier([Snapshots(yard.failing, tools), SavedFiles(yard.failing, tools)], own, tools)
        found = inventory.take(await yard.store.list(inventory.folder(None))).databases
        verdicts = [verdict for one in found for verdict in await made.verify(machine.tenant, one)]
        assert list(own.path.iterdir()) == [], "nothing is left"
        return verdicts
    finally:
        own.remove()
        tools.close()
        log.close()


async def test_every_content_is_verified_and_a_damaged_one_is_replaced_while_the_app_runs(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant) as held:
        await upload(a, 1)
        there = fill(a.storage, 30)
        await held.save(silent)
        database, files = await verify(yard, a)
        assert (database.database, database.kind, database.state) == (DATABASE, "snapshot", "ok")
        assert (files.database, files.kind, files.state) == ("storage/", "files", "ok")
        assert files.size == sum(len(content) for content in there.values() if content is not None)
        assert a.service.held.expected(a.tenant.address)["storage/"] == "files"
        whole, *_ = (path for path in blobs(yard) if path.stat().st_size == 4_000)
        whole.write_bytes(bytes(4_000))
        _, damaged = await verify(yard, a)
        assert damaged.state == "damaged"
        assert "is not what was saved" in damaged.why
        assert await a.service.held.heal(a.tenant.address, "storage/", "files", damaged.why)
        _, healed = await verify(yard, a)
        assert (healed.state, healed.version) == ("ok", "000001-000000002")
    for path in blobs(yard):
        path.unlink()
    _, lost = await verify(yard, a)
    assert lost.state == "damaged"
    assert "the store has lost the content of" in lost.why
    yard.failing.fail()
    away = await verify(yard, a)
    assert {one.state for one in away} == {"unknown"}


async def test_the_files_of_a_machine_that_was_overtaken_are_given_up_and_kept(yard: Yard) -> None:
    a, b = yard.machine("a", files=FILES), yard.machine("b", files=FILES)
    async with a.service.hold(a.tenant, FakeLease(1)):
        await upload(a, 1)
    lost = FakeLease(2)
    with pytest.raises(SaveFailed, match="The local copy is kept"):
        await _expired(a, lost)
    async with b.service.hold(b.tenant, FakeLease(3, previous(2, clean=False))):
        await upload(b, 3)
    again = yard.machine("a", files=FILES)
    assert await again.service.unsaved([again.tenant]) == [again.tenant]
    assert await again.service.give_up(again.tenant, 3, "another machine has it")
    assert await again.service.unsaved([again.tenant]) == []
    await again.service.sent()
    kept = [tree(one / "storage") for one in await again.service.orphans(again.tenant)]
    assert {"1.txt": b"file 1", "2.txt": b"file 2"} in kept
    async with again.service.hold(again.tenant, FakeLease(4)):
        assert tree(again.storage) == {"1.txt": b"file 1", "3.txt": b"file 3"}


async def _expired(machine: Machine, lease: FakeLease) -> None:
    async with machine.service.hold(machine.tenant, lease):
        await upload(machine, 2)
        lease.expire(lost=False)


async def test_unsaved_files_of_a_lost_lease_are_set_aside(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    lease = FakeLease(1)
    async with a.service.hold(a.tenant, lease):
        await upload(a, 1)
        lease.expire(lost=True)
    assert not a.storage.exists()
    await a.service.sent()
    kept = [tree(one / "storage") for one in await a.service.orphans(a.tenant)]
    assert {"1.txt": b"file 1"} in kept
    assert blobs(yard) == []
    assert [one.name for one in inventory.take(await yard.store.list(inventory.folder(None))).orphans] != []
