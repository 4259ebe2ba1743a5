"""The one litestream process of a machine: found, checked, driven, ended."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from time import time

import pytest

from fakes.machines import Reported
from fakes.streams import Writer
from fakes.waiting import eventually
from flyatc.databases.litestream import client
from flyatc.databases.litestream.daemon import LitestreamDaemon
from flyatc.kit.threads import Threads
from flyatc.process import helper_program as programs
from flyatc.process.child_records import Records
from flyatc.process.leftovers import end_leftovers
from slowness import SLOWNESS


class Shop:
    """An engine, and what it needs."""

    def __init__(self, root: Path, environ: dict[str, str] | None = None) -> None:
        self.root, self.log, self.threads = root, Reported(io.BytesIO()), Threads(1, "shop")
        run = partial(programs.hold, records=Records(root))
        self.engine = LitestreamDaemon(root / ".flyatc", None, environ or {}, run, self.log, self.threads)

    def url(self, name: str) -> str:
        return f"file://{self.root}/store/{name}"

    def ltx(self, name: str) -> list[Path]:
        return sorted((self.root / "store" / name).rglob("*.ltx"))

    def has(self, name: str) -> bool:
        return name in [file.name for file in self.ltx("a")]

    def process(self) -> Path:
        """Its folder in /proc."""
        (record,) = (self.root / ".flyatc" / "children").glob("*.json")
        return Path("/proc", record.name.partition("-")[0])

    async def close(self) -> None:
        await self.engine.close()
        self.threads.close()
        self.log.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    deep = tmp_path / ("deep" * 30)  # deeper than a socket's address is long
    deep.mkdir()
    made = Shop(deep, {"AWS_CA_BUNDLE": "/none", "AWS_REGION": "auto", "SECRET_KEY_BASE": "x", "PATH": "/usr/bin"})
    yield made
    await made.close()


async def test_it_starts_when_it_is_first_needed_with_a_clean_environment_and_ends_when_it_is_closed(
    shop: Shop,
) -> None:
    assert not shop.engine.up
    await shop.engine.attach(shop.root / "none.db", shop.url("none"))
    process = shop.process()
    environ = dict(pair.split("=", 1) for pair in (process / "environ").read_text().split("\0") if pair)
    assert environ == {"AWS_REGION": "auto", "PATH": "/usr/bin", "GOMEMLIMIT": "256MiB"}
    (socket,) = (shop.root / ".flyatc").glob("litestream-*/litestream.sock")
    assert (process / "cwd").readlink() == socket.parent, "a folder whose name no app can find out"
    assert str(socket.parent) not in Path("/proc/net/unix").read_text()
    assert socket.stat().st_mode & 0o777 == 0o600
    await shop.engine.close()
    assert not process.exists()
    assert [event for event in shop.log.reported if event["level"] == "error"] == []


async def test_a_path_with_another_url_goes_to_the_other_url(shop: Shop) -> None:
    """0.10: litestream would say that it has it, and go on with the old one."""
    path = shop.root / "a.db"
    app = Writer(path)
    app.add(1)
    for name in ("one", "two"):
        await shop.engine.attach(path, shop.url(name))
        await eventually(partial(shop.ltx, name))
    app.close()


async def test_its_progress_says_up_to_when_all_was_read(shop: Shop) -> None:
    path = shop.root / "a.db"
    app = Writer(path)
    assert await shop.engine.progress(path) is None, "it is not attached"
    await shop.engine.attach(path, shop.url("a"))
    for number in range(2):
        app.add(number)
        written = time()
        async with asyncio.timeout(20):
            while not (progress := await shop.engine.progress(path)) or (progress.read_at or 0.0) < written:
                await asyncio.sleep(0.02)
        name = f"{progress.txid:016x}-{progress.txid:016x}.ltx"
        await eventually(partial(shop.has, name))
    app.close()


async def test_an_unreadable_database_is_reported_and_was_not_read(shop: Shop) -> None:
    path = shop.root / "a.db"
    path.write_bytes(b"not SQLite" * 1000)
    await shop.engine.attach(path, shop.url("a"))
    async with asyncio.timeout(20):
        while not (progress := await shop.engine.progress(path)) or not progress.error:
            await asyncio.sleep(0.02)
    assert progress.read_at is None


async def test_another_process_gets_no_positions_so_that_it_does_not_go_on_behind_a_gap(shop: Shop) -> None:
    path = shop.root / "a.db"
    app = Writer(path)
    await shop.engine.attach(path, shop.url("a"))
    os.kill(int(shop.process().name), signal.SIGKILL)
    await eventually(lambda: shop.engine.starts == 2 and shop.engine.up)
    assert not shop.engine.holds(path)
    assert await shop.engine.progress(path) is None
    app.close()


async def test_its_words_are_in_our_log_with_their_level_but_for_one_that_is_no_error_here(shop: Shop) -> None:
    path = shop.root / "a.db"
    path.write_bytes(b"not SQLite" * 1000)
    await shop.engine.attach(path, shop.url("a"))
    async with asyncio.timeout(10 * SLOWNESS):
        while not (
            heard := [e for e in shop.log.reported if e.get("source") == "litestream" and e["level"] == "error"]
        ):
            await asyncio.sleep(0.02)
    assert (heard[0]["db"], bool(heard[0]["error"])) == ("a.db", True)
    assert "no databases specified" not in str(shop.log.reported)


async def test_the_next_daemon_ends_what_a_killed_one_left_running(shop: Shop) -> None:
    await shop.engine.attach(shop.root / "none.db", shop.url("none"))
    process = shop.process()
    shop.engine._closing.set()  # it is to stay down, as if its daemon were dead
    await end_leftovers(shop.root, shop.log)
    assert not process.exists() or (process / "cmdline").read_bytes() == b""


def test_it_is_found_where_configured_on_path_or_beside_python(tmp_path: Path) -> None:
    beside = Path(sys.prefix, "bin", "litestream")
    assert client.find(None, {"PATH": "/nowhere"}) == beside
    own = tmp_path / "litestream"
    own.symlink_to(beside)
    assert client.find(None, {"PATH": str(tmp_path)}) == own
    assert client.find(str(own), {}) == own
    with pytest.raises(client.LitestreamMissing, match=r"storage\.litestream: /none is not a program"):
        client.find("/none", {})
    assert client.check(own).startswith("0.5.")


@pytest.mark.parametrize(
    ("says", "reported"),
    [("v0.3.13", "is litestream v0.3.13; 0.5"), ("hello", "is it litestream"), ("", "is it litestream")],
)
def test_a_litestream_which_we_cannot_drive_is_refused(tmp_path: Path, says: str, reported: str) -> None:
    other = tmp_path / "litestream"
    other.write_text(f"#!/bin/sh\necho {says}\n")
    other.chmod(0o755)
    with pytest.raises(client.LitestreamMissing, match=reported):
        client.check(other)
    other.unlink()
    with pytest.raises(client.LitestreamMissing, match="cannot be run"):
        client.check(other)
