"""Programs for which the kernel follows no links in a folder, and litestream as one of them."""

import asyncio
import contextlib
import io
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from fakes.machines import Reported
from fakes.streams import Writer
from fakes.waiting import eventually
from flyatc.databases.litestream.daemon import LitestreamDaemon, LitestreamFailed
from flyatc.kit.threads import Threads
from flyatc.process import helper_program
from flyatc.process.child_records import Records
from flyatc.process.isolation import no_links

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can have mounts of its own")


def fail(error: OSError) -> None:
    raise error


def read(path: Path) -> str:
    done = subprocess.run(["cat", str(path)], capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def test_links_in_the_folder_are_refused_and_all_else_is_as_before(tmp_path: Path) -> None:
    tenants = tmp_path / "tenants"
    for name in ("a", "b"):
        (tenants / name).mkdir(parents=True)
        (tenants / name / "file").write_text(name)
    (tenants / "a/link").symlink_to("../b/file")
    (tenants / "a/folder").symlink_to("../b")
    (tmp_path / "outside").symlink_to(tenants / "b/file")
    (tmp_path / "data").symlink_to(tmp_path)
    asked = {
        "tenants/a/file": "a",
        "tenants/b/file": "b",
        "outside": "b",
        "data/tenants/a/file": "a",
        "tenants/a/link": "Too many levels",
        "tenants/a/folder/file": "Too many levels",
        "data/tenants/a/link": "Too many levels",
    }
    for folder in (tenants, tmp_path / "data/tenants"):
        for path, wanted in asked.items():
            assert wanted in no_links.call(partial(read, tmp_path / path), folder, fail), path
    (tenants / "a/later").symlink_to("../b/file")
    assert "Too many" in no_links.call(partial(read, tenants / "a/later"), tenants, fail)
    assert read(tenants / "a/link") == "b", "not for this process"
    assert str(tenants) not in Path("/proc/self/mounts").read_text()


def test_a_program_starts_where_it_is_not_possible_and_the_reason_is_passed_on(tmp_path: Path) -> None:
    reasons: list[OSError] = []
    (tmp_path / "file").write_text("here")
    assert no_links.call(partial(read, tmp_path / "file"), tmp_path / "missing", reasons.append) == "here"
    assert isinstance(reasons[0], FileNotFoundError)


def test_the_error_of_the_start_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        no_links.call(lambda: subprocess.run([str(tmp_path / "nothing")], check=False), tmp_path, fail)


@pytest.mark.parametrize("what", ["database", "folder"])
@pytest.mark.parametrize("closed", [True, False])
async def test_litestream_sends_nothing_of_a_neighbour(tmp_path: Path, closed: bool, what: str) -> None:
    """It reads through the link if nothing refuses that."""
    mine, theirs = tmp_path / "tenants/a/db/app.sqlite3", tmp_path / "tenants/b/app.sqlite3"
    for folder in (mine.parent, theirs.parent):
        folder.mkdir(parents=True)
    secret = Writer(theirs)
    secret.add(77, filling=100_000)
    if what == "folder":
        mine.parent.rmdir()
        mine.parent.symlink_to(theirs.parent)
    else:
        for end in ("", "-wal", "-shm"):
            mine.with_name(f"{mine.name}{end}").symlink_to(theirs.with_name(f"{theirs.name}{end}"))
    threads, log, store = Threads(1, "litestream"), Reported(io.BytesIO()), tmp_path / "store"
    without = partial(no_links.call, folder=tmp_path / "tenants", refused=fail) if closed else None
    run = partial(helper_program.hold, records=Records(tmp_path), without_links=without)
    engine = LitestreamDaemon(tmp_path / ".flyatc", None, dict(os.environ), run, log, threads)
    try:
        with contextlib.suppress(LitestreamFailed):
            await engine.attach(mine, f"file://{store}")
        if closed:
            secret.add(78, filling=100_000)
            await asyncio.sleep(3)
        else:
            await eventually(lambda: sent(store) > 100_000)
        await engine.detach(mine)
        assert (sent(store) > 100_000) is not closed
        await engine.attach(theirs, f"file://{store}/theirs")
        await eventually(lambda: sent(store / "theirs") > 100_000)
    finally:
        await engine.close()
        threads.close()
        log.close()
        secret.close()


def sent(store: Path) -> int:
    return sum(one.stat().st_size for one in store.rglob("*.ltx"))
