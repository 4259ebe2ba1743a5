"""The main function, once from end to end."""

import shutil
import time

from slowness import SLOWNESS
from whole.conftest import StartDaemon
from whole.daemon import config, eventually


def test_a_tenant_counts_stops_when_idle_and_goes_on_counting_without_its_folder(start: StartDaemon) -> None:
    daemon = start(config(idle="1s"))
    assert [daemon.post("/ann/one/add").json["count"] for _ in range(3)] == [1, 2, 3]
    assert daemon.post("/ann/two/add").json["count"] == 1
    daemon.until_reported("tenant stopped", tenant="ann/one")
    daemon.until_reported("tenant stopped", tenant="ann/two")
    eventually(lambda: not daemon.children(), 5, "no child on record")
    shutil.rmtree(daemon.folder / "data" / "tenants")
    assert daemon.get("/ann/one/count").json["count"] == 3
    assert daemon.stop() == 0


def test_fifty_first_requests_make_one_process(start: StartDaemon) -> None:
    from concurrent.futures import ThreadPoolExecutor

    daemon = start(config(flags=("--ready-after", "0.3")))
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: daemon.get("/ann/one/echo"), range(50)))
    assert {a.status for a in answers} == {200}
    assert len({a.json["pid"] for a in answers}) == 1
    assert len(daemon.reported("tenant starting")) == 1


def test_a_slow_start_does_not_delay_another_tenant(start: StartDaemon) -> None:
    daemon = start(config(users="users: {ann: {tenants: {slow: {command: [sleep, '5']}, quick: null}}}"))
    assert daemon.get("/ann/quick/echo").status == 200
    with daemon.connect() as waiting:
        waiting.sendall(b"GET /ann/slow/ HTTP/1.1\r\nHost: x\r\n\r\n")
        daemon.until_reported("tenant starting", tenant="ann/slow")
        began = time.monotonic()
        assert daemon.get("/ann/quick/echo").status == 200
        assert time.monotonic() - began < 0.5 * SLOWNESS
