"""The example of the repository, as `make serve` runs it."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

from whole.conftest import StartDaemon
from whole.daemon import Daemon, eventually

ROOT = Path(__file__).parents[2]


def begin(start: StartDaemon, folder: Path) -> Daemon:
    text = (ROOT / "tenants.yaml").read_text()
    for old, new in (
        ("listen: 3000 ", "listen: 127.0.0.1:0 "),
        ("idle: 20s ", "idle: 2s "),
        ("idle: 2m,", "idle: 1h,"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return start(text, env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}, folder=folder)


def visits(daemon: Daemon, address: str) -> int:
    page = daemon.get(address, {"Accept": "text/html"})
    assert page.status == 200, page.text
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    found = re.search(r"<title>(\d+) ", page.text)
    assert found is not None
    return int(found[1])


def test_the_example_counts_stops_and_goes_on_counting_after_its_data_was_deleted(
    start: StartDaemon, tmp_path: Path
) -> None:
    daemon = begin(start, tmp_path / "example")
    assert len(daemon.reported("open http://")) == 3
    assert [visits(daemon, "/bellevue/2025/winter/") for _ in range(3)] == [1, 2, 3]
    assert visits(daemon, "/boston/2025/april/") == 1, "each counts for itself"
    assert visits(daemon, "/100/") == 1, "a user by pattern"
    hit = daemon.post("/bellevue/2025/winter/hit")
    assert (hit.status, hit.headers["Location"]) == (303, "/bellevue/2025/winter/")
    assert daemon.request("HEAD", "/bellevue/2025/winter/").body == b""
    assert daemon.get("/bellevue/2025/winter?x=1").headers["Location"] == "/bellevue/2025/winter/?x=1"
    daemon.until_reported("tenant stopped", 20, tenant="bellevue/2025/winter")
    daemon.until_reported("tenant stopped", 20, tenant="100")
    assert daemon.status("boston/2025/april")["state"] == "ready"
    daemon.stop()
    eventually(lambda: not daemon.children(), 5, "no child on record")
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    assert visits(daemon, "/bellevue/2025/winter/") == 5
    assert visits(daemon, "/100/") == 2
    assert visits(daemon, "/boston/2025/april/") == 2
    assert daemon.get("/up").status == 200
    assert daemon.stop() == 0


def test_the_address_without_a_tenant_shows_a_page_with_links_to_all(start: StartDaemon, tmp_path: Path) -> None:
    daemon = begin(start, tmp_path / "serve")
    page = daemon.get("/", {"Accept": "text/html"})
    assert page.status == 404
    assert page.headers["Content-Type"].startswith("text/html")
    links = re.findall(r'href="([^"]+)"', page.text)
    assert {f"/{one['tenant']}/" for one in json.loads(daemon.cli("status", "--json").stdout)["tenants"]} | {
        "/100/"
    } == set(links)
    for link in links:
        assert visits(daemon, link) == 1
