"""Litestream mode on S3: rclone's server, which checks signatures. A line to it can be broken for litestream alone."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic

import pytest
from msgspec import structs

from fakes import faults
from fakes.faults import Line
from fakes.owners import FakeLease, previous
from fakes.s3 import Server, rclone_server
from fakes.streams import Streamers, Writer, after
from flyatc.config.schema import Storage
from flyatc.databases.litestream import client, database_stream, replica_restore
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent
from slowness import SLOWNESS

__all__ = ["rclone_server"]
FIRST = previous(0, clean=True)


@pytest.fixture
def line(rclone_server: Server) -> Iterator[Line]:
    with faults.line(rclone_server.port) as made:
        yield made


@pytest.fixture
async def machines(tmp_path: Path, rclone_server: Server, line: Line) -> AsyncIterator[Streamers]:
    storage = Storage(mode="litestream", url=f"s3://{rclone_server.bucket()}/some/prefix")
    made = Streamers(tmp_path, storage, rclone_server.environ())
    yield made
    line.pass_through()
    await made.close()


async def test_what_one_machine_streams_into_a_bucket_another_restores(machines: Streamers) -> None:
    a, b = await machines.machine("a"), await machines.machine("b")
    one = FakeLease(1, FIRST)
    await a.session(one, *range(20))
    assert await b.session(after(one), 20) == list(range(20))


async def test_with_a_wrong_secret_litestream_says_so_and_nothing_starts(machines: Streamers) -> None:
    one = FakeLease(1, FIRST)
    a = await machines.machine("a")
    await a.cut(one, 1)
    b = await machines.machine("b", litestreams={"AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(RestoreRefused, match="SignatureDoesNotMatch"):
        await b.session(after(one, clean=False))
    assert not b.path.exists()


async def test_what_litestream_cannot_send_is_never_called_saved_and_a_snapshot_has_it(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_stream, "ANSWER", 1.0)
    one = FakeLease(1, FIRST)
    a = await machines.machine("a", litestreams={"AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(SaveFailed, match="A snapshot of it is in the store"):
        await a.session(one, 1)
    assert one.dirty
    assert not a.door.engine.holds(a.path)
    assert await (await machines.machine("b")).session(after(one, clean=False)) == [1]


async def test_a_restore_of_which_nothing_comes_is_given_up(
    machines: Streamers, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.8: litestream itself would wait for ever."""
    monkeypatch.setattr(replica_restore, "STALL", 0.5)
    one = FakeLease(1, FIRST)
    await (await machines.machine("a")).cut(one, 1)
    b = await machines.machine("b", litestreams={"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{line.port}"})
    line.black_hole()
    with pytest.raises(RestoreRefused, match="no data was received"):
        await b.session(after(one, clean=False))
    line.pass_through()
    assert await b.session(after(one, clean=False)) == [1]


async def test_a_replica_in_another_bucket_is_adopted(
    machines: Streamers, rclone_server: Server, tmp_path: Path
) -> None:
    bucket = rclone_server.bucket()
    original = Writer(tmp_path / "original")
    original.add(1, 2)
    original.close()
    url = f"s3://{bucket}/old/bellevue?endpoint={rclone_server.endpoint}&region=us-east-1&force-path-style=true"
    environ = client.environment({**rclone_server.environ(), "PATH": "/usr/bin"}, client.FOR_RESTORES)
    command = [str(client.find(None, {})), "replicate", "-once", str(tmp_path / "original"), url]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    storage = structs.replace(machines.storage, replica=f"s3://{bucket}/old/{{user}}")
    assert await (await machines.machine("a", storage=storage)).session(FakeLease(1, FIRST)) == [1, 2]
    nothing = structs.replace(machines.storage, replica=f"s3://{bucket}/older/{{user}}", url=f"s3://{bucket}/new")
    c = await machines.machine("c", storage=structs.replace(nothing, replica="s3://no-such-bucket-here/older"))
    with pytest.raises(RestoreRefused, match="no-such-bucket-here"):
        await c.session(FakeLease(1, FIRST))
    assert await (await machines.machine("b", storage=nothing)).session(FakeLease(1, FIRST)) == []


async def test_an_app_need_not_wait_until_litestream_has_sent_what_was_restored(
    machines: Streamers, line: Line
) -> None:
    one = FakeLease(1, FIRST)
    await (await machines.machine("a")).session(one, 1)
    b = await machines.machine("b", litestreams={"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{line.port}"})
    line.black_hole()
    async with b.hold(after(one)) as held:
        assert not held.unsaved, "the store has what was restored"
        app = Writer(b.path)
        app.add(2)
        await asyncio.sleep(1.5)  # litestream tries
        assert held.unsaved
        assert held.lag > 1.0
        line.pass_through()
        await held.save(silent)
        app.close()
    assert await (await machines.machine("c")).session(after(after(one))) == [1, 2]


async def test_a_store_which_falls_silent_is_reported_and_unsaved_data_stay(
    machines: Streamers, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.1, 0.3, 0.8: no end of litestream confirms anything."""
    a = await machines.machine("a", litestreams={"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{line.port}"})
    one = FakeLease(1, FIRST)

    async def written_into_the_void() -> None:
        async with a.hold(one) as held:
            app = Writer(a.path)
            app.add(1)
            await held.save(silent)
            monkeypatch.setattr(database_stream, "ANSWER", 1.0)
            monkeypatch.setattr(database_stream, "SLOW", 1.0)
            monkeypatch.setattr(replica_restore, "STALL", 0.5)
            line.black_hole()
            app.add(2)
            app.close()
            assert held.unsaved

    began = monotonic()
    with pytest.raises(SaveFailed, match="not saved"):
        await written_into_the_void()
    assert monotonic() - began < 8 * SLOWNESS
    assert one.dirty
    monkeypatch.undo()
    line.pass_through()
    assert await a.session(after(one, clean=False)) == [1, 2]
    assert await (await machines.machine("b")).session(after(after(one, clean=False))) == [1, 2]
