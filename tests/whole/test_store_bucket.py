"""A daemon whose store is a bucket: the environment of Fly, the same tenants.yaml."""

import shutil
from pathlib import Path

from fakes.s3 import Server
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config


def test_databases_come_back_from_the_bucket_and_the_app_sees_no_credentials(
    start: StartDaemon, moto_server: Server
) -> None:
    bucket = moto_server.bucket()
    daemon = start(config(), env=moto_server.environ(bucket))
    assert daemon.post("/ann/one/add").json["count"] == 1
    assert daemon.get("/ann/one/echo?env=AWS_SECRET_ACCESS_KEY").json["env"] == {"AWS_SECRET_ACCESS_KEY": None}
    assert daemon.stop() == 0
    keys = [entry["Key"] for entry in moto_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert [key for key in keys if not key.startswith(("users/ann/", "machines/"))] == []
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    assert daemon.get("/ann/one/count").json["count"] == 1
    daemon.until_reported("restored", tenant="ann/one")
    assert daemon.stop() == 0


def test_an_unsuitable_bucket_is_reported_and_nothing_is_started(tmp_path: Path, rclone_server: Server) -> None:
    reported = {
        "the store ignores conditions on writes": rclone_server.environ(rclone_server.bucket()),
        "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY": rclone_server.environ("ours", secret="wrong"),
    }
    for number, (sentence, environ) in enumerate(reported.items()):
        daemon = Daemon(tmp_path / str(number), config(), environ)
        daemon.folder.mkdir()
        daemon.write()
        run = daemon.cli("serve", timeout=20)
        assert run.returncode == 1
        assert sentence in run.stdout + run.stderr
        assert "Traceback" not in run.stdout + run.stderr
