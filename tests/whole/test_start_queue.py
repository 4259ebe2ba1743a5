"""``limits.starting`` from outside: the place in the queue in responses, log and status."""

import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whole.conftest import StartDaemon
from whole.daemon import RESTLESS, Daemon, config, eventually

PAGE = {"Accept": "text/html,application/xhtml+xml"}
# Boots as long as the gate is shut, and works meanwhile: else its turn would be given to the next one.
GATED = """
import os, sys
while not os.path.exists(sys.argv[1]):
    pass
os.execv(sys.executable, [sys.executable, "-S", sys.argv[2]])
"""


def herd(folder: Path, *names: str, app: str = "") -> str:
    command = json.dumps([sys.executable, "-S", "-c", GATED, str(folder / "gate"), str(RESTLESS)])
    users = "users:\n" + "\n".join(f"  {name}: {{command: {command}}}" for name in names)
    return config(users=users, app=app, top="limits: {starting: 1}")


@contextlib.contextmanager
def opened(gate: Path) -> Iterator[None]:
    """At the end."""
    try:
        yield
    finally:
        gate.touch()


def first_starts(daemon: Daemon, pool: ThreadPoolExecutor, *names: str) -> None:
    """Visits, each of which has its place before the next one comes."""
    for number, name in enumerate(names):
        pool.submit(daemon.get, f"/{name}/up")
        daemon.until_reported("tenant queued" if number else "tenant starting", tenant=name)


def test_a_client_in_the_queue_gets_its_place(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(herd(tmp_path, "one", "two", "three", app="  waiting_page_after: 100ms"))
    with ThreadPoolExecutor(3) as pool, opened(tmp_path / "gate"):
        first_starts(daemon, pool, "one", "two", "three")
        page = daemon.get("/three/echo", PAGE)  # not what another waits for: the cache would have it wait as well
        assert page.status == 503
        assert page.headers["Retry-After"] == "2"
        assert "Place in line: 2." in page.text
        assert "queued" in page.text
        assert daemon.until_reported("request", path="/three/echo")["reason"].startswith(
            "place 2 in line to be started"
        )
        assert daemon.until_reported("tenant queued", tenant="three")["why"].startswith("place 2 in line")
        assert daemon.status("three")["state"] == "queued"
        assert [daemon.status(name).get("queued") for name in ("one", "two", "three")] == [None, 1, 2]
        assert "queued (2)" in daemon.cli("status").stdout
    assert daemon.get("/three/up").status == 200
    daemon.until_reported("tenant ready", tenant="three")
    assert [line["tenant"] for line in daemon.reported("tenant ready")] == ["one", "two", "three"]


def test_a_program_waits_for_start_timeout_and_then_gets_its_place(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(herd(tmp_path, "one", "two", app="  start_timeout: 5s"))
    with ThreadPoolExecutor(1) as pool:
        first_starts(daemon, pool, "one")
        answer = daemon.get("/two/up")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    if "queued" in answer.json:  # else "one" has failed in the same moment, and it had its turn
        assert answer.json["queued"] == 1


def test_a_client_that_leaves_gives_its_place_to_the_next_and_a_stop_does_not_wait(
    start: StartDaemon, tmp_path: Path
) -> None:
    daemon = start(herd(tmp_path, "one", "two", "three"))
    with ThreadPoolExecutor(2) as pool, opened(tmp_path / "gate"):
        first_starts(daemon, pool, "one")
        with daemon.connect() as raw:
            raw.sendall(b"GET /two/up HTTP/1.1\r\nHost: x\r\n\r\n")
            daemon.until_reported("tenant queued", tenant="two")
        pool.submit(daemon.get, "/three/up")
        daemon.until_reported("the start is given up", tenant="two")
        daemon.until_reported("tenant stopped", tenant="two")
        eventually(lambda: daemon.status("three").get("queued") == 1, what="its place")
        assert daemon.cli("stop", "three").returncode == 0
        assert not daemon.reported("tenant starting", tenant="three")
    assert daemon.stop() == 0
