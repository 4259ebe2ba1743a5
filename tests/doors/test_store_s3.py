"""A bucket as a store: faults that only a bucket has, and broken connections."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from fakes import refusals
from fakes.faults import Line, line
from fakes.s3 import Server
from flyatc.config.check_sections import bucket_of
from flyatc.kit import tasks
from flyatc.kit.types import silent
from flyatc.objects.s3 import S3Store
from flyatc.objects.s3_client import Clients
from flyatc.objects.s3_transfer import PART
from flyatc.objects.store import SMALL, Absent, ConditionFailed, ObjectStore, StoreRefused, StoreUnavailable
from slowness import SLOWNESS

LARGE = PART + 12345


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for two parts."""
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(os.urandom(1 << 16) * (LARGE // (1 << 16)) + b"x" * (LARGE % (1 << 16)))
    return path


@pytest.fixture
def wire(moto_server: Server) -> Iterator[Line]:
    with line(moto_server.port) as made:
        yield made


@pytest.fixture
def bucket(moto_server: Server) -> str:
    return moto_server.bucket()


@pytest.fixture
async def store(moto_server: Server, bucket: str, wire: Line) -> AsyncIterator[S3Store]:
    """Through ``wire``."""
    made = opened(bucket, moto_server.environ(port=wire.port))
    yield made
    wire.pass_through()
    made.close()


@pytest.fixture
async def hurried(moto_server: Server, bucket: str, wire: Line) -> AsyncIterator[S3Store]:
    made = opened(bucket, moto_server.environ(port=wire.port), hurried=6.0)
    yield made
    wire.pass_through()
    made.close()


def opened(bucket: str, environ: dict[str, str], *, hurried: float | None = None) -> S3Store:
    return S3Store(bucket_of(f"s3://{bucket}", environ), environ, hurried=hurried)


def unfinished(server: Server, bucket: str) -> int:
    return len(server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


# --- as it is set up ---


async def everything_is_refused(store: ObjectStore, tmp_path: Path, why: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for attempt in (
        store.get("a"),
        store.look("a"),
        store.head("a"),
        store.list("users/"),
        store.put("a", b"two"),
        store.put("a", b"two", create=True),
        store.put("a", b"two", match="x"),
        store.delete("a"),
        store.download("a", tmp_path / "copy", silent),
        store.upload("b", tmp_path / "file", progress=silent),
    ):
        with pytest.raises(StoreRefused, match=why):
            await attempt
    assert not (tmp_path / "copy").exists()


async def test_a_bucket_which_is_not_there_is_never_taken_for_an_empty_one(moto_server: Server, tmp_path: Path) -> None:
    store = opened("nowhere", moto_server.environ())
    await everything_is_refused(store, tmp_path, "has no bucket nowhere: create it, or correct storage.url")
    with pytest.raises(StoreRefused):
        await store.open()
    store.close()


async def test_a_wrong_secret_is_reported_by_the_names_of_the_variables(rclone_server: Server, tmp_path: Path) -> None:
    store = opened(rclone_server.bucket(), rclone_server.environ(secret="wrong"))
    await everything_is_refused(store, tmp_path, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    store.close()


@pytest.mark.parametrize(
    ("refusal", "reported"),
    [
        (refusals.CLOCK, "this machine's clock is too far from the store's: set it"),
        (refusals.BROKEN, "answered 500 InternalError"),
    ],
)
async def test_a_store_that_refuses_all_requests_now_is_unknown_not_empty(
    tmp_path: Path, refusal: tuple[int, str, str], reported: str
) -> None:
    """Bad input: clock hours off. Navigator's case 24: the bucket returns 500."""
    (tmp_path / "file").write_bytes(b"x")
    with refusals.refusing(*refusal) as server:
        store = opened("ours", server.environ(), hurried=6.0)
        for attempt in (
            store.open(),
            store.look("a"),
            store.head("a"),
            store.list("users/"),
            store.put("a", b"two", create=True),
            store.download("a", tmp_path / "copy", silent),
            store.upload("b", tmp_path / "file", progress=silent),
        ):
            with pytest.raises(StoreUnavailable, match=reported):
                await attempt
        store.close()
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("body", [b"", b"<html><body>one moment, please</body></html>"])
async def test_a_response_that_is_no_listing_is_unknown_not_an_empty_folder(body: bytes) -> None:
    """A proxy in between answers with 200: no database may begin empty for that."""
    with refusals.answering(200, body) as server:
        store = opened("ours", server.environ(), hurried=6.0)
        for attempt in (store.list("users/"), store.head("a")):
            with pytest.raises(StoreUnavailable, match="is no listing"):
                await attempt
        store.close()


async def test_a_store_which_ignores_conditions_is_good_for_transfers_and_refused(
    rclone_server: Server, tmp_path: Path, large: Path
) -> None:
    store = opened(rclone_server.bucket(), rclone_server.environ())
    await store.open()
    await store.upload("a/b", large, progress=silent)
    found = await store.head("a/b")
    assert found is not None
    assert found.size == LARGE
    await store.download("a/b", tmp_path / "copy", silent)
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert await store.get("a/c") is None
    with pytest.raises(StoreRefused, match="ignores conditions"):
        await store.check()
    assert await store.list("checks/") == ()
    store.close()


def test_every_request_to_tigris_asks_the_leader_by_the_buckets_own_name() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL_S3": "https://t3.storage.dev"}
    clients = Clients(bucket_of("s3://ours", environ), environ, hurried=None)
    asked = []

    def answer(request, **_):  # type: ignore[no-untyped-def]
        asked.append((request.url, request.headers))
        whole = HTTPHeaders()
        whole["Content-Length"], whole["ETag"] = "0", '"a"'
        return AWSResponse(request.url, 200, whole, SimpleNamespace(stream=lambda: iter([b""])))

    for client in (clients.once, clients.retrying):
        client.meta.events.register("before-send.s3", answer)
        client.put_object(Bucket="ours", Key="k", Body=b"", IfNoneMatch="*")
        client.delete_object(Bucket="ours", Key="k")
    assert len(asked) == 4
    for url, headers in asked:
        assert url == "https://ours.t3.storage.dev/k"
        assert headers["X-Tigris-Consistent"] == b"true"
        assert b"x-tigris-consistent" in headers["Authorization"]
    clients.close()


# --- large ones ---


async def test_a_large_file_goes_up_in_parts_under_its_condition(
    moto_server: Server, store: S3Store, bucket: str, large: Path, tmp_path: Path
) -> None:
    reported: list[tuple[str, int, int]] = []
    etag = await store.upload("a", large, progress=lambda *step: reported.append(step))
    assert etag.endswith("-2")
    with pytest.raises(ConditionFailed, match="a exists already"):
        await store.upload("a", large, progress=silent)
    assert unfinished(moto_server, bucket) == 0
    await store.download("a", tmp_path / "copy", lambda *step: reported.append(step))
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    await asyncio.sleep(0)
    assert ("upload", PART, LARGE) in reported
    assert reported[-1] == ("download", LARGE, LARGE)
    assert await store.upload("a", large, create=False, progress=silent) == etag


async def test_an_empty_file_comes_and_goes(store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    await store.upload("a", tmp_path / "empty", progress=silent)
    await store.download("a", tmp_path / "copy", silent)
    assert (tmp_path / "copy").read_bytes() == b""


async def test_what_is_too_large_to_be_a_record_is_not_read_into_memory(
    moto_server: Server, store: S3Store, bucket: str
) -> None:
    moto_server.client.put_object(Bucket=bucket, Key="a", Body=b"x" * (SMALL + 1))
    with pytest.raises(StoreUnavailable, match="larger"):
        await store.get("a")


async def test_what_a_dead_machine_began_to_upload_is_given_up_a_day_later(
    moto_server: Server, rclone_server: Server
) -> None:
    for server, left in ((moto_server, 0), (rclone_server, 1)):  # moto dates all of them 2010, rclone truly
        bucket = server.bucket()
        server.client.create_multipart_upload(Bucket=bucket, Key="a")
        store = opened(bucket, server.environ())
        await store.open()
        store.close()
        assert unfinished(server, bucket) == left


# --- lines which break ---


async def test_a_download_goes_on_where_the_connection_broke(
    store: S3Store, wire: Line, large: Path, tmp_path: Path
) -> None:
    await store.upload("a", large, progress=silent)
    wire.cut_after(5 << 20)
    seen: list[int] = []
    await store.download("a", tmp_path / "copy", lambda step, done, total: seen.append(done))
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert seen == sorted(seen)


async def test_a_download_of_what_was_replaced_meanwhile_is_no_mixture(
    moto_server: Server, store: S3Store, wire: Line, bucket: str, large: Path, tmp_path: Path
) -> None:
    await store.upload("a", large, progress=silent)
    wire.cut_after(5 << 20)
    replaced = False

    def replace(step: str, done: int, total: int) -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            moto_server.client.put_object(Bucket=bucket, Key="a", Body=b"other")

    with pytest.raises(StoreUnavailable, match="was changed during the download"):
        await store.download("a", tmp_path / "copy", replace)
    assert not (tmp_path / "copy").exists()


async def test_a_create_whose_reply_is_lost_is_unknown_and_was_done_once(hurried: S3Store, wire: Line) -> None:
    await hurried.list("a/")
    lost = wire.lose_reply()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await hurried.put("a", b"mine", create=True)
    assert lost.is_set()
    found = await hurried.get("a")
    assert found is not None
    assert found[0] == b"mine"


async def test_a_conditional_write_is_never_sent_twice(store: S3Store, wire: Line) -> None:
    etag = await store.put("a", b"one")
    wire.lose_reply()
    with pytest.raises(StoreUnavailable) as caught:
        await store.put("a", b"two", match=etag)
    assert type(caught.value) is StoreUnavailable
    found = await store.get("a")
    assert found is not None
    assert found[0] == b"two"


async def test_a_large_create_whose_reply_is_lost_is_unknown_not_refused(
    moto_server: Server, store: S3Store, wire: Line, bucket: str, large: Path
) -> None:
    def lose(step: str, done: int, total: int) -> None:
        if done == total:  # what follows is the request which makes it whole
            wire.lose_reply()

    with pytest.raises(StoreUnavailable) as caught:
        await store.upload("a", large, progress=lose)
    assert type(caught.value) is StoreUnavailable
    found = await store.head("a")
    assert found is not None
    assert found.size == LARGE
    assert unfinished(moto_server, bucket) == 0


async def test_what_a_broken_line_asks_twice_for_is_had_once(store: S3Store, wire: Line) -> None:
    await store.put("a", b"one")
    wire.lose_reply()
    assert await store.head("a") is not None


@pytest.mark.parametrize("fault", ["refuse", "reset"])
async def test_a_store_at_a_closed_port_is_unknown_at_once(hurried: S3Store, wire: Line, fault: str) -> None:
    getattr(wire, fault)()
    began = time.monotonic()
    for attempt in (hurried.get("a"), hurried.put("a", b"", create=True), hurried.list("a/")):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await attempt
    assert time.monotonic() - began < 10 * SLOWNESS
    wire.pass_through()
    assert await hurried.get("a") is None


async def test_a_store_which_hangs_is_unknown_before_the_deadline(hurried: S3Store, wire: Line) -> None:
    await hurried.get("a")
    wire.black_hole()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await hurried.look("a")
    assert 2 < time.monotonic() - began < 8 * SLOWNESS


async def test_a_cancelled_download_stops_soon_and_leaves_nothing(
    store: S3Store, wire: Line, large: Path, tmp_path: Path
) -> None:
    await store.upload("a", large, progress=silent)
    wire.delay(0.02)  # for each piece: ten seconds for all
    begun = asyncio.Event()
    download = tasks.start(store.download("a", tmp_path / "copy", lambda *step: begun.set()), "transfer")
    await begun.wait()
    download.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await download
    assert time.monotonic() - began < 3 * SLOWNESS
    assert not (tmp_path / "copy").exists()


async def test_a_cancelled_upload_leaves_no_parts_behind(
    moto_server: Server, store: S3Store, bucket: str, large: Path
) -> None:
    begun = asyncio.Event()
    upload = tasks.start(store.upload("a", large, progress=lambda *step: begun.set()), "transfer")
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await store.head("a") is None
    assert unfinished(moto_server, bucket) == 0


async def test_a_download_is_never_written_over_what_is_there(store: S3Store, tmp_path: Path) -> None:
    await store.put("a", b"one")
    (tmp_path / "copy").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        await store.download("a", tmp_path / "copy", silent)
    assert (tmp_path / "copy").read_bytes() == b"mine"
    with pytest.raises(Absent):
        await store.download("b", tmp_path / "other", silent)


async def test_after_hanging_up_no_dead_connection_is_used(moto_server: Server) -> None:
    """Those of before a suspend swallow what is sent, and no one answers."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(0)
        with contextlib.suppress(EOFError):
            while await reader.readuntil(b"\r\n\r\n"):
                asked[-1] += 1
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        store = opened("bucket", moto_server.environ(port=server.sockets[0].getsockname()[1]))
        for times in (2, 1):
            for _ in range(times):
                await store.delete("a")
            await store.hang_up()
        store.close()
    assert asked == [2, 1]
