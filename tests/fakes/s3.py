"""S3 on loopback, as processes of their own: moto, which keeps conditions and believes every key; rclone, which checks
signatures and keeps no condition. Nothing here needs a network."""

import contextlib
import functools
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

KEY, SECRET, REGION = "testkey", "testsecret", "us-east-1"


@dataclass
class Server:
    """Where an S3 listens. ``environ`` is what flyatc needs to find a bucket there."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environ(self, bucket: str | None = None, *, port: int | None = None, secret: str = SECRET) -> dict[str, str]:
        """``port``: of what stands in front of it."""
        found = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port or self.port}",
            "AWS_REGION": REGION,
        }
        return found if bucket is None else {**found, "BUCKET_NAME": bucket}

    def bucket(self) -> str:
        """A new one, empty."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    @functools.cached_property
    def client(self) -> "S3Client":
        """The bare SDK, for what tests put there or look for behind flyatc's back."""
        import boto3
        from botocore.config import Config

        client: S3Client = boto3.client(
            "s3",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            endpoint_url=self.endpoint,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        return client


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """As Amazon's: all conditions kept (moto behind a lock, for its own check and set are two steps)."""
    with _process([sys.executable, __file__]) as port:
        yield Server(port)


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """Buckets are folders of ``folder``. Signatures are checked, conditions ignored."""
    binary = Path(sysconfig.get_path("scripts")) / "rclone"
    command = [str(binary), "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}", "--config", ""]
    with _process([*command, str(folder)]) as port:
        yield Server(port)


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[int]:
    """From when it has reported its port; ended at the end."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            while (found := re.search(rb"http://127\.0\.0\.1:(\d+)", os.pread(said.fileno(), 65536, 0))) is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    ended = process.wait(0.01)
                    raise AssertionError(f"{command[0]} ended with {ended}: {os.pread(said.fileno(), 65536, 0)!r}")
            yield int(found[1])
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """One for all tests: each takes a bucket of its own."""
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


def _serve_moto() -> None:
    """Return what runs in the process of ``moto``."""
    import logging
    import threading

    os.environ["S3_UPLOAD_PART_MIN_SIZE"] = str(1 << 16)  # Amazon wants 5 MB: too long to be cut at every octet

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def locked(environ, start_response):  # type: ignore[no-untyped-def]
        with lock:
            return application(environ, start_response)

    class KeepAlive(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, locked, threaded=True, request_handler=KeepAlive)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve_moto()
