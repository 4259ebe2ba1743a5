"""backup and restore against a running daemon: the store's contents, and what the app then counts."""

import json
from typing import Any

from whole.conftest import StartDaemon
from whole.daemon import Daemon, config
from whole.terminals import Terminal


def versions(daemon: Daemon, tenant: str, *database: str) -> list[dict[str, Any]]:
    run = daemon.cli("restore", "--list", tenant, *database, "--json")
    assert run.returncode == 0, run.stderr
    return list(json.loads(run.stdout)["versions"])


def snapshots(daemon: Daemon, tenant: str) -> int:
    return len(list((daemon.folder / "store").rglob(f"*{tenant}/**/*.sqlite3.zst")))


def add(daemon: Daemon, times: int) -> int:
    return [int(daemon.post("/ann/one/add").json["count"]) for _ in range(times)][-1]


def test_a_running_app_is_saved_and_goes_back_in_history_which_is_kept(start: StartDaemon) -> None:
    daemon = start(config())
    assert add(daemon, 2) == 2
    pid = daemon.status("ann/one")["pid"]
    saved = daemon.cli("backup", "ann/one")
    assert saved.returncode == 0, saved.stderr
    [two] = versions(daemon, "ann/one")
    assert two["id"] in saved.stdout
    assert snapshots(daemon, "ann") == 1
    assert daemon.status("ann/one")["pid"] == pid, "it goes on meanwhile"
    assert daemon.status("ann/one")["saved_at"] is not None
    assert add(daemon, 3) == 5
    daemon.cli("backup", "ann/one", "app.sqlite3")

    back = daemon.cli("restore", "ann/one", "app.sqlite3", "--version", two["id"])
    assert back.returncode == 0, back.stderr
    assert daemon.get("/ann/one/count").json["count"] == 2
    assert daemon.status("ann/one")["pid"] != pid, "it was stopped first and started after"
    later = versions(daemon, "ann/one")
    assert [one["current"] for one in later] == [True, False, False]
    assert later[-1]["id"] == two["id"], "history is not rewritten, it goes on"
    assert daemon.cli("restore", "ann/one", "--version", later[1]["id"]).returncode == 0
    assert daemon.get("/ann/one/count").json["count"] == 5
    assert daemon.stop() == 0


def test_a_stopped_app_is_saved_and_restored_without_being_started(start: StartDaemon) -> None:
    daemon = start(config())
    add(daemon, 1)
    daemon.cli("stop", "ann/one")
    [one] = versions(daemon, "ann/one")
    assert daemon.cli("backup", "ann/one").returncode == 0
    assert [v["id"] for v in versions(daemon, "ann/one")] == [one["id"]], "nothing had changed"
    assert daemon.cli("restore", "ann/one").returncode == 0
    assert daemon.status("ann/one")["state"] == "stopped"
    assert daemon.get("/ann/one/count").json["count"] == 1


def test_a_stopped_app_is_saved_to_another_store_than_before(start: StartDaemon) -> None:
    daemon = start(config(app="  files: [up]"))
    assert add(daemon, 1) == 1
    (daemon.data / "tenants/ann/one/up").mkdir(exist_ok=True)
    (daemon.data / "tenants/ann/one/up/a.txt").write_text("uploaded")
    daemon.stop()
    (daemon.folder / "store").rename(daemon.folder / "former")
    daemon.start()
    saved = json.loads(daemon.cli("backup", "ann/one", "--json").stdout)
    assert {one["database"] for one in saved["versions"] if one["current"]} == {"app.sqlite3", "up/"}
    assert daemon.status("ann/one")["state"] == "stopped"
    assert daemon.cli("backup", "ann/two").stderr == "nothing of it is in the store: it was never saved\n"
    assert "ann/two" not in {path.name for path in (daemon.folder / "store/users").glob("*/*")}, "it has no data"


def test_an_impossible_restore_is_reported_and_changes_nothing(start: StartDaemon) -> None:
    daemon = start(config())
    empty = daemon.cli("restore", "--list", "ann/two")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "never saved" in empty.stderr
    add(daemon, 1)
    daemon.cli("backup", "ann/one")
    for arguments, why in (
        (["restore", "ann/one", "--version", "7"], "has no version '7'"),
        (["restore", "ann/one", "other.sqlite3"], "has no database 'other.sqlite3'; it has app.sqlite3"),
        (["backup", "ann/one", "other.sqlite3"], "other.sqlite3"),
        (["restore", "ann/two"], "no current version"),
    ):
        reported = daemon.cli(*arguments)
        assert reported.returncode == 1
        assert why in reported.stderr
    assert daemon.get("/ann/one/count").json["count"] == 1


def test_restore_asks_on_a_terminal_and_shows_how_far_it_is(start: StartDaemon) -> None:
    daemon = start(config())
    add(daemon, 1)
    saving = Terminal(daemon, ("backup", "ann/one"))
    code, shown = saving.end()
    assert code == 0
    assert "━" in shown, "a bar"
    assert "8.0 KB of 8.0 KB" in shown
    assert "current" in shown
    add(daemon, 1)
    asked = Terminal(daemon, ("restore", "ann/one"))
    asked.until_shown("Replace all databases of ann/one by the store's current version?")
    asked.type("n\n")
    code, shown = asked.end()
    assert code == 1
    assert "nothing was changed" in shown
    assert daemon.get("/ann/one/count").json["count"] == 2
    agreed = Terminal(daemon, ("restore", "ann/one"), {"NO_COLOR": "1"})
    agreed.until_shown("[y/N]")
    agreed.type("y\n")
    code, shown = agreed.end()
    assert code == 0
    assert "app.sqlite3" in shown
    assert "\x1b[3" not in shown, "no colours"
    yes = Terminal(daemon, ("restore", "ann/one", "--yes"))
    assert yes.end()[0] == 0
