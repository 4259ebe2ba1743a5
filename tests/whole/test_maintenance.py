"""Closed for maintenance (navigator's case 53): visitors are told so, what needs no app goes on."""

from pathlib import Path

from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually

BROWSER = {"Accept": "text/html"}


def closed(start: StartDaemon, folder: Path) -> Daemon:
    folder.mkdir()
    (folder / "site.css").write_text("body {}")
    app = f"  delivery: {{static: [{{path: /assets, folder: {folder}}}]}}"
    daemon = start(config(app=app, server="  health: /up"))
    assert daemon.get("/ann/one/echo").status == 200
    run = daemon.cli("maintenance", "on", "ann", "--message", "Back at <noon>")
    assert (run.returncode, run.stdout) == (0, "ann is closed for maintenance\n")
    return daemon


def test_visitors_are_told_and_what_needs_no_app_goes_on(start: StartDaemon, tmp_path: Path) -> None:
    daemon = closed(start, tmp_path / "assets")
    page = daemon.get("/ann/two/", BROWSER)
    assert (page.status, page.headers["Retry-After"], page.headers["Cache-Control"]) == (503, "60", "no-store")
    assert "Back at &lt;noon&gt;" in page.text
    assert daemon.post("/ann/one/add").json["error"] == "Back at <noon>"
    assert daemon.get("/ann/two/assets/site.css").text == "body {}"
    assert daemon.get("/up").status == 200
    assert daemon.get("/bob/echo").status == 200  # not closed
    assert not daemon.told("tenant starting", tenant="ann/two")


def test_it_lasts_over_a_restart_until_it_is_lifted(start: StartDaemon, tmp_path: Path) -> None:
    daemon = closed(start, tmp_path / "assets")
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.get("/ann/one/echo").status == 503
    assert daemon.cli("maintenance", "off", "ann/one").stdout == "ann/one was not closed\n"
    assert daemon.cli("maintenance", "off").stdout == "everything is open\n"
    assert eventually(lambda: daemon.get("/ann/one/echo").status == 200)


def test_a_name_that_nobody_has_is_told(start: StartDaemon) -> None:
    daemon = start(config())
    run = daemon.cli("maintenance", "on", "anm")
    assert run.returncode == 1
    assert "did you mean ann" in run.stderr
