"""A bucket behind a line that ends or falls silent at every octet of every kind of answer.

Each call ends within its deadline; what it says is what is true, or "unknown"; and the store works again afterwards."""

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from fakes import refusals
from fakes.faults import CONTINUE, Line, line
from fakes.s3 import Server
from flyatc.config.check_sections import bucket_of
from flyatc.kit.types import silent
from flyatc.objects import s3_transfer, threaded_store
from flyatc.objects.folder import FolderStore
from flyatc.objects.s3 import S3Store
from flyatc.objects.store import Absent, ConditionFailed, StoreRefused, StoreUnavailable
from flyatc.observe.log import Log
from slowness import SLOWNESS

BODY = b"body of an object\n" * 20
PART = 1 << 16
UNKNOWN = "unknown"
How = Literal["close", "reset", "stall"]


@dataclass
class Scene:
    """A store behind a line, and the same bucket without it."""

    server: Server
    wire: Line
    bucket: str
    store: S3Store
    folder: Path
    said: io.BytesIO
    ready: set[str] = field(default_factory=set)

    def there(self, name: str) -> str:
        """The key of an object that no one changes."""
        if name not in self.ready:
            self.ready.add(name)
            self.put(f"there/{name}")
        return f"there/{name}"

    def put(self, key: str, body: bytes = BODY) -> str:
        return self.server.client.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"].strip('"')

    def get(self, key: str) -> bytes | None:
        try:
            return self.server.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.server.client.exceptions.NoSuchKey:
            return None

    def file(self, size: int) -> Path:
        path = self.folder / f"file-{size}"
        if not path.exists():
            path.write_bytes(b"0123456789abcdef" * (size // 16))
        return path


@contextlib.contextmanager
def scene(server: Server, folder: Path, hurried: float) -> Iterator[Scene]:
    with line(server.port) as wire:
        bucket, said = server.bucket(), io.BytesIO()
        environ = server.environ(port=wire.port)
        log = Log(said)
        store = S3Store(bucket_of(f"s3://{bucket}", environ), environ, hurried=hurried, log=log)
        try:
            yield Scene(server, wire, bucket, store, folder, said)
        finally:
            wire.pass_through()
            store.close()
            log.close()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_transfer, "PART", PART)
    monkeypatch.setattr(s3_transfer, "PAUSE", 0.0)


# --- the kinds of calls: prepare something under a key; call; what it may say; what must be true afterwards ---


async def found(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    key = one.there("a")

    async def call() -> Any:
        answer = await one.store.get(key)
        assert answer is not None
        return answer[0] == BODY

    return call


async def absent(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        return await one.store.get(key) is None

    return call


async def headed(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    key = one.there("a")

    async def call() -> Any:
        answer = await one.store.head(key)
        assert answer is not None
        return answer.size == len(BODY)

    return call


async def listed(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    keys = [one.there(f"three/{number}") for number in range(3)]

    async def call() -> Any:
        return [stored.key for stored in await one.store.list("there/three/")] == keys

    return call


async def put(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        try:
            return bool(await one.store.put(key, BODY))
        finally:
            assert one.get(key) == BODY

    return call


async def created(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        try:
            return bool(await one.store.put(key, BODY, create=True))
        finally:
            assert one.get(key) == BODY

    return call


async def swapped(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    etag = one.put(key, b"before")

    async def call() -> Any:
        try:
            return bool(await one.store.put(key, BODY, match=etag))
        finally:
            assert one.get(key) == BODY

    return call


async def refused(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    key = one.there("a")

    async def call() -> Any:
        try:
            await one.store.put(key, b"ours", create=True)
        except ConditionFailed:
            return True
        finally:
            assert one.get(key) == BODY
        return False

    return call


async def deleted(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    one.put(key)

    async def call() -> Any:
        try:
            await one.store.delete(key)
        finally:
            assert one.get(key) is None
        return True

    return call


async def downloaded(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    copy, key = one.folder / key.replace("/", "-"), one.there("a")

    async def call() -> Any:
        try:
            await one.store.download(key, copy, silent)
        except StoreUnavailable:
            assert not copy.exists()
            raise
        return copy.read_bytes() == BODY

    return call


async def not_downloaded(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        with pytest.raises(Absent):
            await one.store.download(key, one.folder / "nothing", silent)
        return True

    return call


async def uploaded(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    path = one.file(1024)

    async def call() -> Any:
        try:
            return bool(await one.store.upload(key, path, progress=silent))
        finally:
            assert one.get(key) == path.read_bytes()

    return call


async def in_parts(one: Scene, key: str) -> Callable[[], Awaitable[Any]]:
    path = one.file(PART + 16)

    async def call() -> Any:
        try:
            return bool(await one.store.upload(key, path, progress=silent))
        finally:
            assert one.get(key) in (None, path.read_bytes())

    return call


KINDS = {
    "200 with a body": found,
    "404": absent,
    "200, a listing of one": headed,
    "200, a listing": listed,
    "200 of a put": put,
    "200 of a create": created,
    "200 of a swap": swapped,
    "412": refused,
    "204": deleted,
    "200 into a file": downloaded,
    "404 of a download": not_downloaded,
    "200 of an upload": uploaded,
    "200 of a multipart upload": in_parts,
}
STEPS = {"412": 3, "200 of a multipart upload": 29}
IN_FULL = ("200 with a body", "200, a listing of one")
AFTER_INTERIM = ("200 with a body", "200 of a create", "200 of an upload", "204")


async def length(one: Scene, kind: str) -> int:
    """Of all answers that such a call needs, in octets."""
    call = await KINDS[kind](one, f"k/{kind[:3]}/length")
    one.wire.pass_through()
    assert await call() is True
    return one.wire.answered


async def cuts(one: Scene, kind: str, *, interim: bool) -> list[int]:
    """Where such a call's answers are cut, in octets."""
    if interim:
        return [*range(len(CONTINUE) + 2)]
    size = await length(one, kind)
    some = range(0, size, STEPS.get(kind, 7))
    if kind not in IN_FULL:
        return [*some]
    assert 100 < one.wire.head < size
    return sorted({*some, *range(one.wire.head + 20), *range(size - 20, size)})


async def outcome(one: Scene, kind: str, octets: int, how: How, within: float) -> Any:
    call = await KINDS[kind](one, f"k/{how}/{octets:06d}")
    one.wire.end_after(octets, how)
    began = time.monotonic()
    try:
        return await call()
    except StoreRefused:
        return "refused"
    except StoreUnavailable:
        return UNKNOWN
    finally:
        assert time.monotonic() - began < within, f"{how} after {octets} octets"
        one.wire.pass_through()


@pytest.mark.parametrize(
    ("kind", "interim"),
    [*((kind, False) for kind in KINDS), *((kind, True) for kind in AFTER_INTERIM)],
)
async def test_a_connection_that_ends_at_any_octet_of_a_response_is_unknown_at_once(
    moto_server: Server, tmp_path: Path, kind: str, interim: bool
) -> None:
    """Where an interim response comes first, only that is cut, at each octet; the rest is the same as without. Of the
    answers which say "found" or "absent": at every octet of the head, and where the body, whose length the head says,
    begins and ends; of the rest and of the others at some."""
    with scene(moto_server, tmp_path, hurried=20.0) as one:
        one.wire.interim = interim
        places = await cuts(one, kind, interim=interim)
        reported = {octets: await outcome(one, kind, octets, "close", within=15) for octets in places}
        reported |= {-octets: await outcome(one, kind, octets, "reset", within=15) for octets in places[9::9]}
        assert set(reported.values()) <= {True, UNKNOWN}, reported
        if kind not in ("200 into a file", "404 of a download"):  # which go on by themselves
            assert reported[0] == UNKNOWN
            assert not interim or reported[len(CONTINUE)] == UNKNOWN
        one.wire.interim = False
        assert await (await KINDS[kind](one, "k/again"))() is True
        assert b"expect:" not in one.wire.asked.lower()
        assert one.said.getvalue() == b""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_silent_at_any_octet_of_a_response_is_unknown_in_time(
    moto_server: Server, tmp_path: Path, kind: str
) -> None:
    with contextlib.ExitStack() as made:
        lanes = [made.enter_context(scene(moto_server, tmp_path / str(n), hurried=1.0 * SLOWNESS)) for n in range(6)]
        for one in lanes:
            one.folder.mkdir()
            await one.store.list("warm/")
        size = await length(lanes[0], kind)
        places = sorted({0, 1, 8, 12, 17, size // 3, size // 2, size - 30, size - 4, size - 3, size - 2, size - 1})

        async def some(lane: int) -> list[Any]:
            return [
                await outcome(lanes[lane], kind, octets, "stall", within=20 * SLOWNESS)
                for octets in places[lane :: len(lanes)]
            ]

        reported = [
            one for some_reported in await asyncio.gather(*map(some, range(len(lanes)))) for one in some_reported
        ]
        assert set(reported) <= {True, UNKNOWN}, reported
        assert UNKNOWN in reported or kind in ("200 into a file", "404 of a download")
        for one in lanes:
            assert await (await KINDS[kind](one, "k/again"))() is True


async def test_a_download_that_is_cut_goes_on_and_is_cut_again_at_any_octet(
    moto_server: Server, tmp_path: Path
) -> None:
    """206: a part of the object."""
    with scene(moto_server, tmp_path, hurried=20.0) as one:
        one.put("a")
        one.wire.pass_through()
        await one.store.download("a", tmp_path / "first", silent)
        half = one.wire.answered - len(BODY) // 2
        for octets in range(0, 500, 7):
            one.wire.end_after(half, "close", then=octets)
            copy = tmp_path / f"copy-{octets}"
            await one.store.download("a", copy, silent)
            assert copy.read_bytes() == BODY


@pytest.mark.parametrize("status", [(304, "", ""), refusals.BROKEN, (503, "SlowDown", "Reduce your request rate.")])
async def test_a_response_that_says_nothing_is_unknown_wherever_it_is_cut(
    tmp_path: Path, status: tuple[int, str, str]
) -> None:
    with refusals.refusing(*status) as server, line(server.port) as wire:
        environ = server.environ(port=wire.port)
        store = S3Store(bucket_of("s3://ours", environ), environ, hurried=20.0)
        for octets in range(0, 330, 11):
            for call in (
                store.get("a"),
                store.put("a", b"x", create=True),
                store.list("a/"),
                store.download("a", tmp_path / "copy", silent),
            ):
                wire.end_after(octets, "close")
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                assert type(caught.value) is StoreUnavailable
        store.close()
    assert not (tmp_path / "copy").exists()


# --- what no time-out of a socket ends ---


@pytest.mark.parametrize("fault", ["endless", "drip"])
async def test_a_response_that_never_ends_is_given_up_and_the_next_call_succeeds(
    moto_server: Server, tmp_path: Path, fault: str
) -> None:
    with scene(moto_server, tmp_path, hurried=2.0) as one:
        one.put("a")
        assert await one.store.get("a") is not None
        one.wire.endless() if fault == "endless" else one.wire.drip(0.1)
        busy: set[str] = set()  # the threads which were given up
        for call in (one.store.get("a"), one.store.put("b", b"x", create=True), one.store.delete("c")):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="given up"):
                await call
            assert time.monotonic() - began < 15
            busy |= {thread.name for thread in one.store._calls._small._hung}
        assert len(busy) == 3
        one.wire.pass_through()
        answer = await one.store.get("a")
        assert answer is not None
        assert answer[0] == BODY
        until = time.monotonic() + 20
        while any(thread.name in busy for thread in threading.enumerate()):
            assert time.monotonic() < until, "what was given up goes on"
            await asyncio.sleep(0.01)
    reported = one.said.getvalue().decode()
    assert reported.count("a call of the store was given up") == 3
    assert '"call":"put b"' in reported


async def test_a_transfer_that_stalls_is_given_up_and_one_that_is_slow_is_not(
    moto_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded_store, "STALL", 2.0)
    monkeypatch.setattr(threaded_store, "SLOWEST", 1)
    with scene(moto_server, tmp_path, hurried=60.0) as one:
        one.put("a", b"x" * (4 << 20))
        one.wire.delay(0.05)  # for each piece of 64 KB: 3 s
        began = time.monotonic()
        await one.store.download("a", tmp_path / "slow", silent)
        assert time.monotonic() - began > 2
        one.wire.end_after(1 << 20, "stall")
        with pytest.raises(StoreUnavailable, match="given up"):
            await one.store.download("a", tmp_path / "stalled", silent)
        one.wire.pass_through()
        await one.store.download("a", tmp_path / "again", silent)
        assert (tmp_path / "again").stat().st_size == 4 << 20


async def test_a_folder_on_a_disk_that_hangs_is_unknown_in_time_and_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network file system does whose server is away."""
    said, go = io.BytesIO(), threading.Event()
    monkeypatch.setattr(threaded_store, "SECONDS", 0.5)
    log = Log(said)
    store = FolderStore(tmp_path / "store", log=log)
    await store.open()
    await store.put("a", b"one")
    reading = type(store._blocking).get

    def hang(*arguments: Any) -> Any:
        go.wait(30)
        return reading(*arguments)

    monkeypatch.setattr(type(store._blocking), "get", hang)
    store = FolderStore(tmp_path / "store", log=log)
    await store.open()
    for _ in range(5):  # more than it has threads
        with pytest.raises(StoreUnavailable, match="given up"):
            await store.get("a")
    assert (await store.list("b/")) == ()
    go.set()
    answer = await store.get("a")
    assert answer is not None
    assert answer[0] == b"one"
    store.close()
    log.close()
    assert said.getvalue().count(b"a call of the store was given up") == 5
