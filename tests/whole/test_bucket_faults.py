"""A faulty bucket: the daemon says what to do, begins nothing anew and overwrites nothing."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import fork_server
from fakes import refusals
from fakes.faults import line
from fakes.s3 import Server
from flyatc.ownership import record
from whole import evidence, visits
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, Answer, Daemon, clean_environment, config, eventually

TORN, VOID, NEWER = b'{"v":1,"epoch":3,"state":"rele', b"", b'{"v":99,"epoch":3,"holder":"another shape"}'


@dataclass
class Shop:
    """The daemons' bucket, looked at and changed behind their back."""

    server: Server
    bucket: str = field(init=False)

    def __post_init__(self) -> None:
        self.bucket = self.server.bucket()

    def everything(self, prefix: str = "", *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Each object with its content, save those whose names end like that."""
        found = self.server.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {one["Key"]: self.get(one["Key"]) for one in found if not one["Key"].endswith(but or ("//",))}

    def get(self, key: str) -> bytes:
        return self.server.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put(self, key: str, body: bytes) -> None:
        self.server.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def remove(self) -> None:
        for key in self.everything():
            self.server.client.delete_object(Bucket=self.bucket, Key=key)
        self.server.client.delete_bucket(Bucket=self.bucket)


def refused(daemon: Daemon, user: str) -> str:
    """It is 503, and nothing of it is on the disk; the reason in the log."""
    before = len(daemon.reported("the start failed", tenant=user))
    answer = daemon.get(f"/{user}/count")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert not evidence.database(daemon, user).exists()
    reported = eventually(lambda: daemon.reported("the start failed", tenant=user)[before:], what="the reason")
    return str(reported[0]["reason"])


def answered(daemon: Daemon, path: str) -> Answer | None:
    answer = daemon.get(path)
    return answer if answer.status == 200 else None


# --- at the start ---


def serve(folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    (folder / "tenants.yaml").write_text(config())
    return fork_server.run(["serve"], folder, clean_environment() | environ, 60 * SLOWNESS)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, moto_server: Server, rclone_server: Server) -> dict[str, str]:
    """Return the output of daemons with a useless bucket, started at once. Each ended by itself, and made nothing."""
    top = tmp_path_factory.mktemp("useless")
    with contextlib.ExitStack() as made, ThreadPoolExecutor(3) as pool:
        shop = Shop(moto_server)
        environs = {
            "secret": rclone_server.environ(rclone_server.bucket(), secret="wrong"),
            "missing": moto_server.environ("nowhere"),
            "region": made.enter_context(refusals.refusing(*refusals.REGION)).environ("ours"),
        }
        done = dict(zip(environs, pool.map(serve, [top / name for name in environs], environs.values()), strict=True))
    assert {name: one.returncode for name, one in done.items()} == dict.fromkeys(done, 1)
    assert not list(top.glob("*/data/tenants/*"))
    assert shop.everything() == {}
    return {name: one.stdout for name, one in done.items()}


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("secret", "does not know these credentials: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("missing", "has no bucket nowhere: create it, or correct storage.url or BUCKET_NAME"),
        ("region", "is not in the region us-east-1: correct AWS_REGION or AWS_ENDPOINT_URL_S3"),
    ],
)
def test_an_unusable_bucket_is_reported_and_nothing_is_begun(outputs: dict[str, str], name: str, reported: str) -> None:
    """T6; bad input: wrong secret, missing bucket, region typo. A store that is away: see test_store_start."""
    assert reported in outputs[name]
    assert "Traceback" not in outputs[name]


# --- what stands in it ---


@pytest.fixture(scope="module")
def shop(moto_server: Server) -> Shop:
    return Shop(moto_server)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Daemon]:
    """Each test has users of its own."""
    users = "users: {torn: , void: , newer: , hollow: , shadow: }"
    folder = tmp_path_factory.mktemp("daemon")
    with visits.serving(folder, config(users=users), shop.server.environ(shop.bucket)) as one:
        yield one


@pytest.mark.parametrize(
    ("user", "body", "reported"),
    [
        ("torn", TORN, "cannot be understood"),
        ("void", VOID, "cannot be understood"),
        ("newer", NEWER, "was written by a newer flyatc (v99): update flyatc on this machine"),
    ],
)
def test_an_owner_record_which_cannot_be_read_is_503_and_stays_as_it_is(
    daemon: Daemon, shop: Shop, user: str, body: bytes, reported: str
) -> None:
    """Bad input: owner.json truncated, or from a newer version."""
    key = record.owner_key(user)
    shop.put(key, body)
    reason = refused(daemon, user)
    assert key in reason
    assert reported in reason
    assert shop.everything(f"users/{user}/") == {key: body}
    assert reported in daemon.cli("ownership", user).stdout


def test_an_empty_pointer_is_no_new_tenant(daemon: Daemon, shop: Shop) -> None:
    """Bad input: a 0-byte object."""
    key = "users/hollow/~/app.sqlite3/current.json"
    shop.put(key, b"")
    assert "damaged" in refused(daemon, "hollow")
    assert shop.everything("users/hollow/", but=("owner.json",)) == {key: b""}


def test_an_empty_snapshot_is_reported_with_the_one_before_it(daemon: Daemon, shop: Shop) -> None:
    """Bad input: a 0-byte object."""
    for count in (1, 2):
        assert daemon.post("/shadow/add").json["count"] == count
        assert daemon.cli("stop", "shadow").returncode == 0
    remote = "users/shadow/~/app.sqlite3/"
    *_, newest = (key for key in shop.everything(remote) if key.endswith(".zst"))
    shop.put(newest, b"")
    before = shop.everything(remote, but=("current.json",))
    shutil.rmtree(evidence.folder(daemon, "shadow"))
    reason = refused(daemon, "shadow")
    assert "is damaged" in reason
    assert "--version" in reason
    assert shop.everything(remote, but=("current.json",)) == before


# --- under way ---


def test_a_bucket_which_hangs_or_has_vanished_is_503_and_creates_no_tenant(
    start: StartDaemon, moto_server: Server
) -> None:
    """T6; bad input: endpoint that hangs, missing bucket."""
    shop = Shop(moto_server)
    with line(moto_server.port) as wire:
        daemon = start(config(), env=moto_server.environ(shop.bucket, port=wire.port))
        wire.black_hole()
        assert "does not answer" in refused(daemon, "bob")
        assert shop.everything("users/") == {}
        wire.pass_through()
        assert eventually(lambda: answered(daemon, "/bob/count"), what="the bucket's return").json["count"] == 0
        shop.remove()
        assert f"has no bucket {shop.bucket}: create it" in refused(daemon, "ann/one")
        daemon.kill()  # it would try to save for long


def test_the_end_is_in_time_although_the_bucket_hangs_and_the_next_start_saves(
    start: StartDaemon, moto_server: Server
) -> None:
    """T3; shutdown inside the kill timeout: what could not be saved stays, and is saved without a visitor."""
    shop = Shop(moto_server)
    with line(moto_server.port) as wire:
        text = config(server="  shutdown_timeout: 3s")
        daemon = start(text, env=moto_server.environ(shop.bucket, port=wire.port))
        assert daemon.post("/ann/one/add").json["count"] == 1
        assert daemon.post("/bob/add").json["count"] == 1
        wire.black_hole()
        began = time.monotonic()
        assert daemon.stop() == 1
        assert time.monotonic() - began < 6 * SLOWNESS
        assert evidence.processes_of(daemon.folder) == []
        assert not [key for key in shop.everything("users/") if key.endswith(".zst")]
        for tenant in ("ann/one", "bob"):
            assert evidence.rows(evidence.database(daemon, tenant)) == 1
        wire.pass_through()
        daemon.start()
        for tenant in ("ann/one", "bob"):
            daemon.until_reported("saved", tenant=tenant)
        assert daemon.stop() == 0
        shutil.rmtree(daemon.folder / "data")
        daemon.start()
        wire.delay(0.1)
        assert daemon.get("/ann/one/count").json["count"] == 1, "however long the bucket takes"
