"""After a loss: history, restore, orphaned copies, verify; and ownership."""

import json
import sqlite3
from contextlib import closing
from typing import Any

from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually
from whole.terminals import Terminal

STORAGE = "storage: {interval: 0, verify: 1s}"


def configured() -> str:
    return config().replace("storage: {interval: 0}", STORAGE)


def said(daemon: Daemon, *arguments: str, code: int = 0) -> str:
    run = daemon.cli(*arguments)
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def read(daemon: Daemon, *arguments: str, code: int = 0) -> Any:
    run = daemon.cli(*arguments, "--json")
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout)


def count(daemon: Daemon) -> int:
    return int(daemon.get("/ann/one/count").json["count"])


def test_what_was_lost_comes_back(start: StartDaemon) -> None:
    daemon = start(config())
    for _ in range(2):
        daemon.post("/ann/one/add")
        said(daemon, "backup", "ann/one")

    # history, and a moment
    versions = read(daemon, "history", "ann/one")["versions"]
    assert [one["id"] for one in versions] == ["000001-000000002", "000001-000000001"]
    assert "000001-000000001" in said(daemon, "history", "ann/one", "app.sqlite3")
    assert read(daemon, "restore", "--list", "ann/one")["versions"] == versions
    said(daemon, "restore", "ann/one", "--at", versions[1]["saved"])
    assert count(daemon) == 1
    early = said(daemon, "restore", "ann/one", "--at", "2h", code=1)
    assert "there is no version from" in early
    assert f"the oldest is {versions[1]['id']}" in early
    assert "is not a time: write" in said(daemon, "restore", "ann/one", "--at", "soon", code=2)
    assert "one of them at most" in said(daemon, "restore", "ann/one", "--at", "2h", "--version", "x", code=2)
    assert count(daemon) == 1

    # what the way back has set aside
    daemon.until_reported("the orphaned copy is in the store as well", within=20)
    [orphan] = read(daemon, "orphans", "ann")
    assert (orphan["tenant"], orphan["database"]) == ("ann/one", "app.sqlite3")
    assert orphan["size"] >= 8192
    assert orphan["stored"] > 0
    with closing(sqlite3.connect(orphan["path"])) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert read(daemon, "orphans", "bob") == []
    line = said(daemon, "orphans").splitlines()[1]
    command = line[line.index("flyatc ") :].split()
    assert command == ["flyatc", "restore", "ann/one", "app.sqlite3", "--orphan", orphan["name"]]
    said(daemon, *command[1:])
    assert count(daemon) == 2
    assert len(read(daemon, "history", "ann/one")["versions"]) == 4
    assert "there is no orphaned copy 'x'" in said(daemon, "restore", "ann/one", "--orphan", "x", code=1)

    daemon.stop()
    assert len(read(daemon, "orphans")) == 2, "no daemon is needed"


def test_verify_finds_damage_beside_the_daemon_and_within_it(start: StartDaemon) -> None:
    daemon = start(configured())
    assert "the store has no databases yet" in said(daemon, "verify")
    daemon.post("/ann/one/add")
    said(daemon, "backup", "ann/one")
    assert "ok " in said(daemon, "verify", "ann/one")
    assert "the store has no database of bob" in said(daemon, "verify", "bob", code=1)
    daemon.until_reported("verified", tenant="ann/one", database="app.sqlite3", version="000001-000000001", within=20)
    said(daemon, "release", "ann")  # where a tenant runs, the store gets a new copy at once: see test_healing
    newest = max((daemon.folder / "store").glob("users/ann/one/**/*.zst"))
    good = newest.read_bytes()
    newest.write_bytes(good[:-7])
    [bad] = read(daemon, "verify", code=1)
    assert (bad["state"], bad["version"]) == ("damaged", "000001-000000001")
    daemon.until_reported("what the store has cannot be restored", tenant="ann/one", within=20)
    status = daemon.cli("status")
    assert status.returncode == 0
    assert "damaged: ann/one app.sqlite3 in the store: " in status.stderr
    [reported] = read(daemon, "status")["verified"]["bad"]
    assert reported["state"] == "damaged"
    newest.write_bytes(good)
    eventually(lambda: read(daemon, "status")["verified"]["bad"] == [], 20, "the drill of what is whole again")

    daemon.stop()
    assert read(daemon, "verify")[0]["state"] == "ok", "no daemon is needed"
    assert list((daemon.folder / "data" / ".flyatc" / "drills").iterdir()) == []


def test_ownership_is_shown_released_and_taken_over(start: StartDaemon) -> None:
    daemon = start(configured())
    assert "no user has an owner yet" in said(daemon, "ownership")
    daemon.post("/ann/one/add")
    daemon.post("/ann/two/add")
    daemon.post("/bob/add")
    ann, bob = read(daemon, "ownership")
    assert (ann["user"], ann["state"], ann["here"], ann["note"]) == ("ann", "held", True, "")
    assert ann["sign"] < 30
    assert bob["machine"] == ann["machine"]
    assert "held" in said(daemon, "ownership", "ann/one")

    denied = said(daemon, "takeover", "ann", "--yes", code=1)
    assert "stop ann there, or that machine" in denied
    assert said(daemon, "release", "ann").startswith("ann is saved, stopped and released")
    assert daemon.status("ann/one")["state"] == daemon.status("ann/two")["state"] == "stopped"
    assert daemon.status("bob")["state"] == "ready"
    assert read(daemon, "ownership", "ann")[0]["state"] == "released"
    assert "free already" in said(daemon, "release", "ann")
    assert "no machine has ever owned eve" in said(daemon, "release", "eve", code=1)
    assert "names no user" in said(daemon, "release", "ANN", code=2)
    assert count(daemon) == 1, "the next visit takes it again"

    daemon.kill()
    store = daemon.folder / "store"
    [machine] = (store / "machines").glob("*.json")
    reported = json.loads(machine.read_bytes())
    machine.write_text(json.dumps({**reported, "broken": reported["machine"]}))  # as others do when it has gone silent
    assert "the machine with the next request takes it" in read(daemon, "ownership", "ann")[0]["note"]
    asked = said(daemon, "takeover", "ann", code=1)
    assert "What may be lost: what machine local-" in asked
    assert "not confirmed" in asked
    on_terminal = Terminal(daemon, ("takeover", "ann"))
    on_terminal.until_shown("Take over ann?")
    on_terminal.type("y\n")
    code, shown = on_terminal.end()
    assert code == 0
    assert "ann is free: the machine with the next request takes it" in shown
    assert said(daemon, "release", "bob").startswith("bob is released")
    assert [one["state"] for one in read(daemon, "ownership")] == ["released", "released"]


def test_without_a_store_there_is_nothing_to_show(start: StartDaemon) -> None:
    daemon = start(config().replace("storage: {interval: 0}", "storage: {mode: none}"))
    for command in ("verify", "ownership"):
        assert "storage.mode is none: nothing is in a store" in said(daemon, command, code=1)
    assert "nothing was set aside" in said(daemon, "orphans")
