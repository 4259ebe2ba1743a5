"""The stores of storage.py on loopback, and what the bench puts there and asks them behind flyatc's back."""

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import children
import peers

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

KEY, SECRET, REGION = "benchkey", "benchsecret", "us-east-1"
SCRIPTS = Path(sysconfig.get_path("scripts"))
NEEDED = "litestream", "rclone", "moto_server"  # of the development group
ROW = """INSERT INTO events (body, blob)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
SELECT printf('{"user":%d,"name":"visitor %d","path":"/2025/winter/%d/results","seen":%d,"tags":["a","b"],'
              || '"note":"%s"}', i, random() % 1000, i * 7, random(), substr(:text, 1 + i % 100, 150)), randomblob(300)
FROM n"""
TEXT = "The quick brown fox jumps over the lazy dog while seventeen sailors look for their boat in the harbour. " * 4


@dataclass(frozen=True)
class Request:
    """One which moto was sent. ``at``: CLOCK_MONOTONIC, in seconds."""

    at: float
    method: str
    path: str
    query: str
    octets: int
    agent: str

    @property
    def by_litestream(self) -> bool:
        return "Boto3" not in self.agent

    @property
    def of_database(self) -> bool:
        """Its content on the way to the store."""
        return self.method in ("PUT", "POST") and self.path.endswith((".zst", ".ltx"))

    @property
    def of_session(self) -> bool:
        return self.method == "PUT" and "/machines/" in self.path


@dataclass(frozen=True)
class Store:
    port: int
    notes: Path

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environ(self, bucket: str) -> dict[str, str]:
        """For flyatc and for litestream: ours, with a bucket there."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FLY_", "PORT"))}
        return clean | {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "BUCKET_NAME": bucket,
        }

    def client(self) -> "S3Client":
        """The bare SDK."""
        import boto3
        from botocore.config import Config

        client: S3Client = boto3.client(
            "s3",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            endpoint_url=self.endpoint,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )
        return client

    def bucket(self) -> str:
        """A new one, empty."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def requests(self, since: float = 0.0, until: float = float("inf")) -> list[Request]:
        """What was noted of that time. Only moto notes."""
        found = [Request(**json.loads(line)) for line in self.notes.read_text().splitlines()]
        return [request for request in found if since <= request.at < until]


def missing() -> list[str]:
    return [name for name in NEEDED if not (SCRIPTS / name).exists()]


@contextlib.contextmanager
def moto(place: peers.Place) -> Iterator[Store]:
    """Keeps conditions, checks no key, and is slow."""
    port, folder = children.free_port(), place.folder / "moto"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(peers.HERE / "moto_server.py"), str(port), str(folder / "notes")]
    env, cores = {**os.environ, "TMPDIR": str(folder)}, place.proxy | place.rest
    try:
        with children.running(command, port=port, cores=cores, output=folder / "output.log", env=env):
            yield Store(port, folder / "notes")
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def rclone(place: peers.Place, folder: Path) -> Iterator[Store]:
    """Buckets are folders of ``folder``, seen when it starts. Fast; ignores conditions."""
    port = children.free_port()
    command = [str(SCRIPTS / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    folder.mkdir(parents=True, exist_ok=True)
    output, cores = place.folder / "rclone.log", place.proxy | place.rest
    with children.running([*command, "--config", "", str(folder)], port=port, cores=cores, output=output):
        yield Store(port, Path("/dev/null"))


def database(path: Path, octets: int) -> Path:
    """Rows of JSON, a third of it random octets: zstd makes half of it. Made once."""
    if not path.exists():
        with contextlib.closing(sqlite3.connect(path)) as made:
            made.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
            made.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body TEXT, blob BLOB)")
            while path.stat().st_size < octets:
                made.execute(ROW, {"text": TEXT})
                made.commit()
    return path
