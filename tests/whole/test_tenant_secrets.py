"""Each tenant has a secret: the same on every machine and after every restore, and never shown."""

import json
import re
import shutil
from pathlib import Path

import pytest

from fakes.faults import line
from fakes.s3 import Server
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually

APP = """
  env:
    DATABASE_PATH: "{data}/app.sqlite3"
    SECRET_KEY_BASE: "{secret}"
    APP_KEY: "base64:{secret.base64}"
"""
NAMES = ("SECRET_KEY_BASE", "APP_KEY", "FLYATC_SECRET")


def text(folder: Path, mode: str = "snapshot") -> str:
    made = config(server="  control: 127.0.0.1:0").replace('  env: {DATABASE_PATH: "{data}/app.sqlite3"}', APP)
    return made.replace("{interval: 0}", f"{{interval: 0, mode: {mode}, url: 'file:{folder}', session_ttl: 10s}}")


def secrets(daemon: Daemon, tenant: str) -> dict[str, str | None]:
    """As the app has them."""
    answer = daemon.get(f"/{tenant}/echo?" + "&".join(f"env={name}" for name in NAMES))
    assert answer.status == 200, answer.text
    return dict(answer.json["env"])


@pytest.mark.parametrize("given", ["", "f" * 64])
def test_two_machines_and_a_restore_agree_and_tenants_differ(start: StartDaemon, tmp_path: Path, given: str) -> None:
    environ = {"FLYATC_SECRET": given} if given else {}
    home, away = (start(text(tmp_path / "store"), env=environ) for _ in range(2))
    assert home.post("/ann/one/add").status == 200
    of_one, of_two, of_bob = secrets(home, "ann/one"), secrets(home, "ann/two"), secrets(away, "bob")
    assert re.fullmatch("[0-9a-f]{128}", of_one["SECRET_KEY_BASE"] or "")
    assert re.fullmatch("base64:[A-Za-z0-9+/]{43}=", of_one["APP_KEY"] or "")
    assert of_one["FLYATC_SECRET"] is None
    assert len({one[name] for one in (of_one, of_two, of_bob) for name in NAMES[:2]}) == 6
    assert home.stop() == 0
    shutil.rmtree(home.folder / "data")
    restored = eventually(lambda: away.get("/ann/one/echo").status == 200 and secrets(away, "ann/one"))
    assert restored == of_one
    done = away.cli("restore", "ann/one", "--at", "0s", "--yes")
    assert done.returncode == 0, done.stderr
    assert secrets(away, "ann/one") == of_one
    assert (tmp_path / "store" / "secret.json").exists() == (not given)


@pytest.mark.parametrize("given", ["", "f" * 64])
def test_no_output_shows_it(start: StartDaemon, tmp_path: Path, given: str) -> None:
    environ = {"FLYATC_SECRET": given} if given else {}
    daemon = start(text(tmp_path / "store"), env=environ)
    known = [value for value in secrets(daemon, "bob").values() if value]
    key = given or str(json.loads((tmp_path / "store" / "secret.json").read_bytes())["key"])
    shown = []
    for command in (["status"], ["status", "--json"], ["route", "/bob/x"], ["check"], ["ownership"], ["verify"],
                    ["history", "bob"], ["restart", "bob"], ["logs", "--json"], ["doctor"], ["reload"]):  # fmt: skip
        done = daemon.cli(*command)
        shown.append(done.stdout + done.stderr)
    assert known == [value for value in secrets(daemon, "bob").values() if value]
    control = daemon.until_reported("metrics are served")["on"]
    shown.append(Daemon.get(_at(daemon, int(re.search(r":(\d+)/", control)[1])), "/metrics").text)  # type: ignore[index]
    daemon.write(text(tmp_path / "store").replace("restless.py", "missing.py"))  # its start fails, with its output
    assert daemon.cli("reload").returncode == 0
    assert daemon.cli("stop", "bob").returncode == 0
    assert daemon.get("/bob/echo").status == 502
    assert daemon.stop() == 0
    shown.append(daemon.log_file.read_text())
    assert len("".join(shown)) > 2000
    for value in (*known, *(one.removeprefix("base64:") for one in known), key):
        assert all(value not in one for one in shown)


def _at(daemon: Daemon, port: int) -> Daemon:
    return Daemon(daemon.folder, daemon.config, port=port)


def test_only_the_app_itself_has_it_in_its_environment(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(text(tmp_path / "store"), env={"FLYATC_SECRET": "f" * 64})
    of_bob = secrets(daemon, "bob")["SECRET_KEY_BASE"]
    assert of_bob
    holders = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ, line = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert of_bob.encode() not in line
        if of_bob.encode() in environ:
            assert b"FLYATC_SECRET=" not in environ
            holders.append(int(process.name))
    assert daemon.get("/bob/echo").json["pid"] in holders
    assert daemon.pid not in holders


def test_a_record_that_is_damaged_starts_nothing_until_it_is_repaired(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(text(tmp_path / "store"))
    of_bob = secrets(daemon, "bob")
    assert daemon.stop() == 0
    record = tmp_path / "store" / "secret.json"
    body = record.read_bytes()
    record.write_bytes(body[:30])
    daemon.start()
    answer = daemon.get("/bob/echo")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    why = str(daemon.until_reported("the start failed", tenant="bob")["reason"])
    assert "secret.json in the store, the key of {secret}, is damaged" in why
    assert record.read_bytes() == body[:30]
    record.write_bytes(body)
    assert eventually(lambda: daemon.get("/bob/echo").status == 200 and secrets(daemon, "bob"), 30) == of_bob


def test_while_the_store_is_away_a_start_is_refused_and_works_when_it_is_back(
    start: StartDaemon, tmp_path: Path, moto_server: Server
) -> None:
    with line(moto_server.port) as wire:
        wire.refuse()
        environ = moto_server.environ(moto_server.bucket(), port=wire.port)
        daemon = start(text(tmp_path / "store").replace(f"url: 'file:{tmp_path / 'store'}', ", ""), env=environ)
        answer = daemon.get("/bob/echo")
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert "the store cannot be used yet" in str(daemon.until_reported("the start failed", tenant="bob")["reason"])
        wire.pass_through()
        eventually(lambda: daemon.get("/bob/echo").status == 200, 30, "the start")
        assert re.fullmatch("[0-9a-f]{128}", secrets(daemon, "bob")["SECRET_KEY_BASE"] or "")
        assert daemon.stop() == 0


def test_without_a_store_it_stays_on_the_disk(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(text(tmp_path / "store", mode="none"))
    of_bob = secrets(daemon, "bob")
    assert daemon.stop() == 0
    assert secrets(daemon.start(), "bob") == of_bob
    assert not (tmp_path / "store").exists()
