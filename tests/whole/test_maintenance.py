"""Maintenance (navigator's case 53): clients get its page, what needs no app goes on."""

from pathlib import Path

from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually

BROWSER = {"Accept": "text/html"}
PUBLIC = "/ann/one/headers?set=Cache-Control:public,max-age=60"


def closed(start: StartDaemon, folder: Path) -> Daemon:
    folder.mkdir()
    (folder / "site.css").write_text("body {}")
    app = f"  ready: '{{prefix}}/up'\n  delivery: {{static: [{{path: /assets, folder: {folder}}}]}}"
    daemon = start(config(app=app, server="  health: /up"))
    assert daemon.get("/ann/one/echo").status == 200
    assert daemon.get(PUBLIC).headers["X-Cache"] == "miss"
    run = daemon.cli("maintenance", "on", "ann", "--message", "Back at <noon>")
    assert (run.returncode, run.stdout) == (0, "ann is closed for maintenance\n")
    return daemon


def test_clients_get_the_maintenance_page_and_what_needs_no_app_goes_on(start: StartDaemon, tmp_path: Path) -> None:
    daemon = closed(start, tmp_path / "assets")
    page = daemon.get("/ann/two/", BROWSER)
    assert (page.status, page.headers["Retry-After"], page.headers["Cache-Control"]) == (503, "60", "no-store")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Back at &lt;noon&gt;" in page.text
    answer = daemon.post("/ann/one/add")
    assert (answer.status, answer.headers["Retry-After"], answer.headers["Content-Type"]) == (
        503,
        "60",
        "application/json",
    )
    assert (answer.json["error"], answer.json["retry_after"]) == ("Back at <noon>", 60)
    assert daemon.get(PUBLIC).status == 503  # it would be odd to see a part of what is closed
    assert daemon.get("/ann/two/assets/site.css").text == "body {}"
    assert daemon.get("/up").status == 200
    assert daemon.get("/ann/one/up").text == daemon.get("/ann/two/up").text == "closed for maintenance (ann)\n"
    assert daemon.get("/bob/echo").status == 200  # not closed
    assert daemon.status("ann/two")["state"] == "stopped"
    daemon.until_reported("closed for maintenance", scope="ann", page="Back at <noon>")
    line = daemon.until_reported("request", path="/ann/two/", status=503)
    assert line["reason"] == "closed for maintenance (ann)"


def test_it_lasts_over_a_restart_until_it_is_lifted(start: StartDaemon, tmp_path: Path) -> None:
    daemon = closed(start, tmp_path / "assets")
    assert daemon.stop() == 0
    daemon.start()
    daemon.until_reported("still closed for maintenance", scope="ann")
    assert daemon.get("/ann/one/echo").json["error"] == "Back at <noon>"
    assert daemon.cli("maintenance", "on").stdout == "everything is closed for maintenance\n"
    assert daemon.get("/bob/echo").status == 503
    assert daemon.cli("maintenance", "off", "ann/one").stdout == "ann/one was not closed\n"
    assert daemon.cli("maintenance", "off").stdout == "everything is open\n"
    assert eventually(lambda: daemon.get("/ann/one/echo").status == 200)


def test_an_unknown_name_is_reported(start: StartDaemon) -> None:
    daemon = start(config())
    run = daemon.cli("maintenance", "on", "anm")
    assert run.returncode == 1
    assert "did you mean ann" in run.stderr
