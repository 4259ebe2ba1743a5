"""The end of a lease: by itself while a client waits for its response, and with unsaved data."""

import contextlib
import http.client
import json
import os
import signal
from pathlib import Path

import pytest

from slowness import SLOWNESS
from torture.clocks import Clocks
from whole import evidence, visits
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually
from whole.visits import Line

SLEPT = 3600.0  # seconds


@pytest.fixture
def text(tmp_path: Path) -> str:
    """For machines with one store."""
    url = f"url: 'file:{tmp_path / 'shared'}', session_ttl: 10s"
    return config(idle="60s", server="  shutdown_timeout: 3s").replace("{interval: 0}", f"{{interval: 0, {url}}}")


def owner(tmp_path: Path) -> dict[str, str]:
    """Ann's record."""
    return dict(json.loads((tmp_path / "shared" / "users" / "ann" / "owner.json").read_bytes()))


def taken(daemon: Daemon) -> bool:
    return daemon.get("/ann/two/count").status == 200


def port_of(daemon: Daemon, tenant: str) -> int:
    """Its app's."""
    return int(daemon.until_reported("listening on", tenant=tenant)["msg"].rpartition(" ")[2])


def asked(port: int, path: str) -> None:
    """Of an app, past its daemon."""
    app = http.client.HTTPConnection("127.0.0.1", port, timeout=30 * SLOWNESS)
    app.request("GET", path)
    assert app.getresponse().read()
    app.close()


def test_a_response_under_way_when_the_machine_fell_asleep_reaches_no_client(
    start: StartDaemon, text: str, tmp_path: Path
) -> None:
    """Issue 4, point 5: the app has answered while we slept, and by now another machine is the owner."""
    clocks = Clocks(tmp_path / "clocks", rate=1.0)
    home, away = start(text, env=clocks.environ), start(text)
    assert home.post("/ann/one/add").json["count"] == 1
    port = port_of(home, "ann/one")
    with Line(home, timeout=30) as line:
        line.send(visits.request("/ann/one/slow?s=0.3&hint=1"))
        assert line.reply().status == 103  # the app is at it
        os.kill(home.pid, signal.SIGSTOP)
        evidence.grow_old(home, tmp_path / "shared")
        eventually(lambda: taken(away), what="another owner")
        asked(port, "/slow?s=0.5")  # begun later, and longer: then the other is answered as well
        clocks.set_wall(SLEPT)
        os.kill(home.pid, signal.SIGCONT)
        with contextlib.suppress(EOFError):  # it was cut
            # It was not let out, or the app was killed before it was read.
            assert line.reply().status in (502, 503)
    home.until_reported("this machine may not write any more: the app is killed", tenant="ann/one")
    clocks.close()


def test_what_one_tenant_could_not_save_stands_in_the_record_when_the_other_is_let_go(
    start: StartDaemon, text: str, tmp_path: Path
) -> None:
    home, away = start(text), start(text)
    for tenant in ("ann/one", "ann/two"):
        assert home.post(f"/{tenant}/add").json["count"] == 1
    home.kill()
    for pid in evidence.processes_of(home.folder):
        with contextlib.suppress(ProcessLookupError):  # its supervisor ends them, too
            os.kill(pid, signal.SIGKILL)
    damaged = evidence.database(home, "ann/one")
    damaged.write_bytes(b"no database any more")
    damaged.with_name("app.sqlite3-wal").unlink(missing_ok=True)
    home.start()
    home.until_reported("not saved: the local copy is kept", tenant="ann/one")
    assert home.post("/ann/two/add").json["count"] == 2
    assert home.cli("stop", "ann/two").returncode == 0
    assert home.stop() == 1
    assert owner(tmp_path)["state"] == "dirty"
    assert "ann/one" in owner(tmp_path)["why"]
    assert away.get("/ann/two/count").status == 503
    reason = away.until_reported("served elsewhere", tenant="ann/two")["reason"]
    assert "could not save all of ann" in reason
    assert "flyatc takeover ann" in reason
    assert home.reported("user released") == []
