"""What a restore costs beside what is under it: the bare SDK in snapshot mode, bare litestream in litestream mode.

From rclone's S3, which is fast, and which the daemon refuses: see restoring.py for what runs in its stead.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import measure
import peers
import stores
from report import Goal, Table

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

RANGE = 16 << 20
CONFIG = """
server: {{listen: "127.0.0.1:0", data: {data}}}
storage: {{mode: {mode}}}
app: {{command: ["true"], databases: [app.sqlite3], seed: {seed}}}
users: {{ann: }}
"""
ASIS, RANGES = "SDK, download_file, the database as it is", "SDK, ranged gets of 16 MB, as it is"
PACKED = "SDK, download_file, the packed one"
TRANSFER = "flyatc, the transfer alone, packed"
BARE = "litestream restore -integrity-check quick"
RESTORED, HELD = "flyatc, restored and checked", "flyatc, until the app may start"


class Told(TypedDict):
    """What restoring.py says, and the seconds of its line of the log."""

    seconds: float
    grown: int
    children: int
    line: str
    transfer: float
    restored: float


@dataclass
class Found:
    """Seconds by row, a value for each round; the most octets that the process, and a child of it, had besides."""

    octets: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)  # octets which came over the line, where they are others
    grown: int = 0
    children: int = 0

    def note(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    def rate(self, name: str) -> float:
        return measure.median(self.carried.get(name, self.octets) / s / 1e6 for s in self.seconds[name])

    def ratio(self, name: str, beside: str) -> float:
        """Of the times within a round: how many times as long it takes."""
        return measure.median(a / b for a, b in zip(self.seconds[name], self.seconds[beside], strict=True))


def snapshots(place: peers.Place, megabytes: int, rounds: int) -> Table:
    with _workshop(place) as here:
        seed = stores.database(here / "seed.sqlite3", megabytes << 20)
        found = Found(seed.stat().st_size)
        with stores.rclone(place, here / "store") as store:
            client, bucket = store.client(), store.bucket()
            client.upload_file(str(seed), bucket, "raw")
            _hold(here, store.environ(bucket), "snapshot", seed)
            seed.unlink()
            listed = client.list_objects_v2(Bucket=bucket)["Contents"]
            ((key, size),) = [(one["Key"], one["Size"]) for one in listed if one["Key"].endswith(".zst")]
            found.carried = dict.fromkeys((PACKED, TRANSFER), size)
            for _ in range(rounds):
                found.note(ASIS, _timed(here, partial(client.download_file, bucket, "raw")))
                found.note(RANGES, _timed(here, partial(_in_ranges, client, bucket, "raw")))
                found.note(PACKED, _timed(here, partial(client.download_file, bucket, key)))
                found.note(TRANSFER, _restore(here, store.environ(bucket), "snapshot", found, key)["transfer"])
    table = _table(f"Snapshot mode: restore of {megabytes} MB", found, ASIS)
    table.goals = [
        _goal("the transfer beside the SDK's, packed", found, TRANSFER, PACKED, 0.8),
        _goal("restored beside the SDK, as it is", found, RESTORED, ASIS, 0.8),
        _memory(found),
    ]
    return table


def streamed(place: peers.Place, megabytes: int, rounds: int) -> Table:
    """What is attached is sent anew, so each round begins with a copy of the store."""
    with _workshop(place) as here:
        seed = stores.database(here / "seed.sqlite3", megabytes << 20)
        found = Found(seed.stat().st_size)
        with stores.rclone(place, here / "first") as store:
            bucket = store.bucket()
            line = _hold(here, store.environ(bucket), "litestream", seed)["line"].replace(str(store.port), "{port}")
        seed.unlink()
        for _ in range(rounds):
            shutil.copytree(here / "first", here / "store")
            with stores.rclone(place, here / "store") as store:
                environ = store.environ(bucket)
                found.note(BARE, _timed(here, partial(_bare, line.format(port=store.port), environ)))
                _restore(here, environ, "litestream", found)
            shutil.rmtree(here / "store")
    table = _table(f"Litestream mode: restore of {megabytes} MB", found, BARE)
    table.goals = [_goal("restored beside bare litestream", found, RESTORED, BARE, 0.9), _memory(found)]
    return table


def _restore(here: Path, environ: dict[str, str], mode: str, found: Found, key: str | None = None) -> Told:
    told = _hold(here, environ, mode, None, key)
    found.note(RESTORED, told["restored"])
    found.note(HELD, told["seconds"])
    found.grown, found.children = max(found.grown, told["grown"]), max(found.children, told["children"])
    return told


def _hold(here: Path, environ: dict[str, str], mode: str, seed: Path | None, key: str | None = None) -> Told:
    """On a machine which has nothing. Raises RuntimeError."""
    text = CONFIG.format(data=here / "data", mode=mode, seed=f'"{seed}"' if seed else "null")
    (here / "tenants.yaml").write_text(text)
    program = [sys.executable, str(peers.HERE / "restoring.py"), str(here / "tenants.yaml")]
    output = _run(program if key is None else [*program, key], environ)
    shutil.rmtree(here / "data")
    *log, last = [json.loads(line) for line in output.splitlines()]
    restored = [line["ms"] / 1000 for line in log if line["msg"] == "restored"]
    if seed is None and not restored:
        raise RuntimeError(f"nothing was restored: {output[-500:]}")
    told: Told = last | {"restored": sum(restored)}
    return told


def _run(command: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[1]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def _timed(here: Path, fetch: Callable[[Path], object]) -> float:
    to = here / "fetched"
    began = time.monotonic()
    fetch(to)
    ended = time.monotonic()
    to.unlink()
    return ended - began


def _bare(url: str, environ: dict[str, str], to: Path) -> None:
    program = str(stores.SCRIPTS / "litestream")
    _run([program, "restore", "-integrity-check", "quick", "-o", str(to), url], environ)


def _in_ranges(client: "S3Client", bucket: str, key: str, to: Path) -> None:
    """One after the other, in one thread."""
    size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
    with to.open("wb") as file:
        for start in range(0, size, RANGE):
            wanted = f"bytes={start}-{min(size, start + RANGE) - 1}"
            for chunk in client.get_object(Bucket=bucket, Key=key, Range=wanted)["Body"].iter_chunks(256 << 10):
                file.write(chunk)


@contextlib.contextmanager
def _workshop(place: peers.Place) -> Iterator[Path]:
    here = place.folder / "restores"
    here.mkdir()
    try:
        yield here
    finally:
        shutil.rmtree(here)


def _table(title: str, found: Found, beside: str) -> Table:
    table = Table(title, ["", "s", "MB/s", "÷ the first's time"])
    for name, seconds in found.seconds.items():
        table.rows.append([name, measure.median(seconds), found.rate(name), found.ratio(name, beside)])
    return table


def _goal(what: str, found: Found, name: str, beside: str, least: float) -> Goal:
    """A rate of so many times the other's at least is a time of its inverse at most."""
    return Goal(f"{what}: time (rate ≥ {least} ×)", found.ratio(name, beside), 1 / least, " ×")


def _memory(found: Found) -> Goal:
    what = f"resident growth (its largest child: {found.children / 2**20:.0f} MB)"
    return Goal(what, found.grown / 2**20, 40, " MB")
