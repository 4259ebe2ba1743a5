"""``flyatc doctor`` with stores that are good, wrong, careless and silent; all examined at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fork_server
from fakes import refusals
from fakes.faults import line
from fakes.s3 import Server
from whole.daemon import SLOWNESS, clean_environment

TENANTS = "app: {command: [run]}\nusers: {ann: }\n"
Answers = dict[str, tuple[int, str]]


def ask(
    folder: Path, environ: dict[str, str], *arguments: str, tenants: str = TENANTS, fly: str = ""
) -> tuple[int, str]:
    """The exit code, and the output."""
    folder.mkdir()
    if fly:
        (folder / "fly.toml").write_text(fly)
    (folder / "tenants.yaml").write_text(tenants)
    done = fork_server.run(["doctor", *arguments], folder, clean_environment() | environ, 30 * SLOWNESS)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, moto_server: Server, rclone_server: Server) -> Answers:
    top, moto, rclone = tmp_path_factory.mktemp("doctor"), moto_server, rclone_server
    with line(moto.port) as silent, refusals.refusing(*refusals.CLOCK) as early, ThreadPoolExecutor(9) as pool:
        silent.black_hole()
        litestream = f"{TENANTS}storage: {{mode: litestream, litestream: {top}/none}}\n"
        made = {
            "good": pool.submit(ask, top / "good", moto.environ(moto.bucket()), "--json"),
            "secret": pool.submit(ask, top / "secret", rclone.environ(rclone.bucket(), secret="wrong")),
            "missing": pool.submit(ask, top / "missing", moto.environ("nowhere")),
            "silent": pool.submit(ask, top / "silent", moto.environ("ours", port=silent.port)),
            "early": pool.submit(ask, top / "early", early.environ("ours")),
            "heedless": pool.submit(ask, top / "heedless", rclone.environ(rclone.bucket())),
            "bare": pool.submit(ask, top / "bare", {"BUCKET_NAME": "ours", "AWS_ENDPOINT_URL_S3": "nowhere"}),
            "folder": pool.submit(ask, top / "folder", {"FLY_MACHINE_ID": "x"}, tenants=litestream),
            "short": pool.submit(ask, top / "short", {}, fly="kill_timeout = '10s'"),
        }
        return {name: answer.result() for name, answer in made.items()}


def test_a_good_bucket_passes_all_examinations(asked: Answers) -> None:
    code, output = asked["good"]
    found: list[dict[str, Any]] = json.loads(output)
    assert {one["what"]: one["state"] for one in found if one["state"] == "fault"} == {}
    whats = [one["what"] for one in found]
    assert whats[:5] == ["store", "consistency", "conditions", "latency", "clock"]
    assert {"disk", "fsync", "open files"} <= set(whats)
    assert code == 0


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("secret", "does not know these credentials: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("missing", "has no bucket nowhere: create it, or correct storage.url or BUCKET_NAME"),
        ("silent", "does not answer"),
        ("early", "this machine's clock is too far from the store's: set it"),
        ("heedless", "the store ignores conditions on writes"),
        ("folder", "none is not a program: name the litestream to use"),
        ("short", "server.shutdown_timeout is 25 s: Fly would kill us while databases are saved"),
    ],
)
def test_what_will_not_work_is_reported_with_what_to_do(asked: Answers, name: str, reported: str) -> None:
    code, output = asked[name]
    (fault,) = [shown for shown in output.splitlines() if shown.startswith("fault")]
    assert reported in fault
    assert "→" in output
    assert "disk " in output  # the others are examined all the same
    assert code == 1


def test_faults_of_the_configuration_come_first_and_all_at_once(asked: Answers) -> None:
    code, output = asked["bare"]
    assert code == 1
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        assert f"environment: {name}: " in output
    assert "Traceback" not in output


def test_a_store_on_the_disk_of_the_databases_is_doubtful(asked: Answers) -> None:
    _, output = asked["short"]
    assert "is on the same disk as the databases" in output
