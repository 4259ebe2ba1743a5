"""A tenant on the dashboard of a running daemon: its state, its last day, its versions, copies and log."""

import contextlib
import http.client
import json
import re
import sqlite3
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slowness import SLOWNESS
from whole import operator, visits
from whole.browser import Browser, Page
from whole.daemon import Daemon, config, eventually
from whole.operator import ENVIRON, HOME, SECTION

ONE, DATABASE = "ann/one", "app.sqlite3"
AGENT = f"Python-urllib/{sys.version_info[0]}.{sys.version_info[1]}"  # that of the browser, to which a session is bound


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("tenant")
    with visits.serving(folder, config(top=SECTION, app="  drain_timeout: 2s"), ENVIRON) as one:
        yield one


@pytest.fixture(scope="module")
def browser(daemon: Daemon) -> Browser:
    return operator.logged_in(daemon)


def look(browser: Browser, page: str = "tenant", address: str = ONE, **query: str) -> Page:
    found = browser.get(f"{HOME}{page}?{urllib.parse.urlencode({'address': address, **query})}")
    assert found.status == 200, found.text
    return found


def press(browser: Browser, page: Page, action: str, **fields: str) -> Page:
    """Send the form that does ``action``, with these fields."""
    return browser.submit(page, operator.form_to(page, action, **fields), {})


def agree(browser: Browser, page: Page) -> Page:
    """Say yes to the question."""
    return browser.submit(page, page.form("confirmed"), {})


def ended(browser: Browser, job: Page) -> str:
    """Wait for the end of a job; return its result."""
    assert job.path.startswith(f"{HOME}jobs/"), job.text

    def result() -> str | None:
        found = re.search(r'<p class="result"[^>]*>(.*?)</p>', browser.get(job.url).text)
        return found[1] if found is not None else None

    return str(eventually(result, 30, "the end of the job"))


def add(daemon: Daemon, number: int = 1, tenant: str = ONE) -> None:
    for _ in range(number):
        assert daemon.post(f"/{tenant}/add").status == 200


def count(daemon: Daemon, tenant: str = ONE) -> int:
    return int(daemon.get(f"/{tenant}/count").json["count"])


def rows(content: bytes, folder: Path) -> int:
    """The number of rows of a downloaded database, which is whole."""
    file = folder / "downloaded.sqlite3"
    file.write_bytes(content)
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (table,) = next(iter(database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")))
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def scratch(daemon: Daemon) -> list[Path]:
    return list((daemon.data / ".flyatc" / "drills").glob("*"))


# --- now ---


def test_a_tenant_is_started_restarted_and_stopped_by_buttons(daemon: Daemon, browser: Browser) -> None:
    page = look(browser, address="ann/two")
    assert "It does not run. The next request starts it." in page.text
    assert ended(browser, press(browser, page, "tenant/start")) == "ann/two is started."
    page = look(browser, address="ann/two")
    assert '<span class="badge good">ready</span>' in page.text
    first = daemon.status("ann/two")["pid"]
    assert ended(browser, press(browser, page, "tenant/restart")) == "ann/two is restarted."
    assert daemon.status("ann/two")["pid"] not in (None, first)
    assert ended(browser, press(browser, look(browser, address="ann/two"), "tenant/stop")) == "ann/two is stopped."
    assert daemon.status("ann/two")["state"] == "stopped"
    line = daemon.until_reported("dashboard: tenant to be stopped", tenant="ann/two")
    assert line["operator"] == "127.0.0.1"


def test_a_stop_that_would_cut_requests_asks_first(daemon: Daemon, browser: Browser) -> None:
    slow = threading.Thread(target=lambda: daemon.get("/bob/slow?s=1.5"))
    slow.start()
    eventually(lambda: daemon.status("bob")["requests"] == 1 and daemon.status("bob")["state"] == "ready", 10, "it")
    question = press(browser, look(browser, address="bob"), "tenant/stop")
    assert "1 request is in flight." in question.text
    assert daemon.status("bob")["state"] == "ready"
    assert ended(browser, agree(browser, question)) == "bob is stopped."
    slow.join()


def test_the_last_day_is_drawn_and_described(daemon: Daemon, browser: Browser) -> None:
    add(daemon)
    assert daemon.get(f"/{ONE}/status?code=503").status == 503
    eventually(lambda: daemon.tenant(ONE)["activity"][-1]["errors"], 10, "an error in the counts")
    page = look(browser)
    figures = re.findall(r'<figure class="card picture">(.*?)</figure>', page.text, re.DOTALL)
    titles = [re.findall(r"<title[^>]*>(.*?)</title>", figure) for figure in figures]
    assert titles == [["Requests in five minutes"], ["Time of a response"], ["Memory of its processes"]]
    assert re.search(r"\d+ in 24 hours, 1 of them failed\. At most \d+ in five minutes", figures[0])
    assert 'class="plot-area tone-errors" d="M' in figures[0]
    assert re.search(r"Lately half took \d+ ms or less", figures[1])
    assert " style=" not in page.text


def test_websockets_are_counted_apart_and_have_no_time(daemon: Daemon, browser: Browser) -> None:
    add(daemon, tenant="bob")
    eventually(lambda: daemon.status("bob")["requests"] == 0, 10, "no request")
    before = sum(slot["requests"] for slot in daemon.tenant("bob")["activity"])
    with daemon.connect() as line:
        line.sendall(
            b"GET /bob/upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
        )
        assert line.recv(100).startswith(b"HTTP/1.1 101 ")
        found = re.findall(r"<dt>(\w+) now</dt><dd>(\d+)</dd>", look(browser, address="bob").text)
        assert found == [("Requests", "0"), ("WebSockets", "1")]
    eventually(lambda: daemon.tenant("bob")["tunnels"] == 0, 10, "the end of the tunnel")
    assert sum(slot["requests"] for slot in daemon.tenant("bob")["activity"]) == before


def test_a_tenant_that_does_not_exist_is_not_found(browser: Browser) -> None:
    for page in ("tenant", "tenant/versions", "tenant/log"):
        found = browser.get(f"{HOME}{page}?address=nonesuch")
        assert found.status == 404
        assert "nonesuch" in found.text


# --- versions ---


def saved(daemon: Daemon, tenant: str = ONE) -> list[dict[str, Any]]:
    found = daemon.cli("history", tenant, "--json")
    assert found.returncode == 0, found.stderr
    return list(json.loads(found.stdout)["versions"])


def test_versions_are_restored_after_a_question_and_nothing_is_lost(daemon: Daemon, browser: Browser) -> None:
    tenant = "ann/two"
    counts = []
    for _ in range(3):
        add(daemon, 2, tenant)
        counts.append(count(daemon, tenant))
        page = look(browser, address=tenant)
        assert ended(browser, press(browser, page, "tenant/save")) == f"{tenant} is saved."
    newest, middle, oldest = saved(daemon, tenant)[:3]
    page = look(browser, "tenant/versions", tenant)
    places = [page.text.index(one["id"]) for one in (newest, middle, oldest)]
    assert places == sorted(places)
    question = press(browser, page, "tenant/restore", version=oldest["id"], database=DATABASE)
    assert f"Replace {DATABASE} of {tenant} by version {oldest['id']}?" in question.text
    assert count(daemon, tenant) == counts[2], "nothing has changed yet"
    result = ended(browser, agree(browser, question))
    assert result.startswith(f"{DATABASE} of {tenant} is now version {oldest['id']}.")
    assert count(daemon, tenant) == counts[0]
    form = operator.form_to(look(browser, "tenant/versions", tenant), "tenant/restore", when="")
    when = middle["saved"].removesuffix("Z")
    question = browser.submit(page, form, {"when": when, "database": ""})
    assert f"Replace all databases of {tenant} by the newest of {when[:10]} {when[11:19]} UTC?" in question.text
    ended(browser, agree(browser, question))
    assert count(daemon, tenant) == counts[1]
    assert {newest["id"], middle["id"], oldest["id"]} < {one["id"] for one in saved(daemon, tenant)}


def test_what_was_set_aside_is_downloaded_and_restored(daemon: Daemon, browser: Browser, tmp_path: Path) -> None:
    tenant = "bob"
    add(daemon, 2, tenant)
    before = count(daemon, tenant)
    ended(browser, press(browser, look(browser, address=tenant), "tenant/save"))
    add(daemon, 3, tenant)
    page = look(browser, "tenant/versions", tenant)
    version = saved(daemon, tenant)[0]["id"]
    ended(browser, agree(browser, press(browser, page, "tenant/restore", version=version)))
    add(daemon, 7, tenant)
    page = eventually(lambda: _with_orphan(look(browser, "tenant/versions", tenant)), 20, "an orphan")
    forms = [one for one in page.elements.forms if "orphan" in one.fields]
    copied = [browser.submit(page, one, {}) for one in forms if one.action == f"{HOME}tenant/copy"]
    counts = [rows(one.body, tmp_path) for one in copied]
    assert before + 3 in counts
    chosen = [one for one in forms if one.action == f"{HOME}tenant/restore"][counts.index(before + 3)]
    question = browser.submit(page, chosen, {})
    assert f"by what was set aside as {chosen.fields['orphan']}?" in question.text
    ended(browser, agree(browser, question))
    assert count(daemon, tenant) == before + 3


def _with_orphan(page: Page) -> Page | None:
    return page if any("orphan" in one.fields for one in page.elements.forms) else None


@pytest.mark.parametrize(
    ("when", "reason"), [("yesterday", "is not a time: write 2026-"), ("2999-01-01T00:00", "is in the future")]
)
def test_a_time_that_cannot_be_restored_is_refused(browser: Browser, when: str, reason: str) -> None:
    page = look(browser, "tenant/versions")
    found = browser.submit(page, operator.form_to(page, "tenant/restore", when=""), {"when": when})
    assert found.path == f"{HOME}tenant/versions"
    assert reason in found.text
    assert 'class="notice bad"' in found.text


def test_a_copy_has_what_the_running_app_has_committed(daemon: Daemon, browser: Browser, tmp_path: Path) -> None:
    add(daemon, 3)
    before = count(daemon)
    page = look(browser)
    ended(browser, press(browser, page, "tenant/save"))
    add(daemon, 2)  # not saved
    page = look(browser, "tenant/versions")
    newest = browser.submit(page, operator.form_to(page, "tenant/copy", database=DATABASE), {})
    assert newest.headers["Content-Type"] == "application/vnd.sqlite3"
    assert re.fullmatch(
        r'attachment; filename="ann-one-app-\d{8}T\d{6}Z\.sqlite3"', newest.headers["Content-Disposition"]
    )
    assert int(newest.headers["Content-Length"]) == len(newest.body)
    assert rows(newest.body, tmp_path) == before + 2
    version = saved(daemon)[0]["id"]
    earlier = press(browser, page := look(browser, "tenant/versions"), "tenant/copy", version=version)
    assert f'filename="ann-one-app-{version}.sqlite3"' in earlier.headers["Content-Disposition"]
    assert rows(earlier.body, tmp_path) == before
    eventually(lambda: not scratch(daemon), 10, "the end of the copy")
    daemon.until_reported("dashboard: database downloaded", tenant=ONE, version=f"version {version}")
    form = operator.form_to(page, "tenant/copy", database=DATABASE)
    refused = browser.submit(page, form, {"database": "../../../../etc/passwd", "version": ""})
    assert refused.path == f"{HOME}tenant/versions"
    assert "has no database" in refused.text


def test_the_command_copy_writes_the_same_to_a_file(daemon: Daemon, tmp_path: Path) -> None:
    add(daemon)
    assert daemon.cli("backup", ONE).returncode == 0
    version, before = saved(daemon)[0]["id"], count(daemon)
    add(daemon, 2)
    for name, options, expected in (("now.db", [], before + 2), ("then.db", ["--version", version], before)):
        file = tmp_path / name
        run = daemon.cli("copy", ONE, DATABASE, str(file), *options)
        assert run.returncode == 0, run.stderr
        assert rows(file.read_bytes(), tmp_path) == expected
        assert file.stat().st_mode & 0o777 == 0o600
        assert daemon.cli("copy", ONE, DATABASE, str(file)).returncode == 2, "it exists"
    for arguments, reason in (
        (["nonesuch", DATABASE], "nonesuch"), ([ONE, "../x"], "has no database '../x'"), ([ONE, ""], "has no database"),
    ):  # fmt: skip
        run = daemon.cli("copy", *arguments, str(tmp_path / "none.db"))
        assert run.returncode == 1
        assert reason in run.stderr
    assert daemon.cli("copy", ONE, DATABASE, str(tmp_path / "no" / "folder")).returncode == 1
    assert {file.name for file in tmp_path.iterdir()} == {"now.db", "then.db", "downloaded.sqlite3"}


def test_a_client_that_leaves_leaves_no_copy(daemon: Daemon, browser: Browser) -> None:
    assert daemon.post("/bob/grow?mb=24").status == 200
    page = look(browser, "tenant/versions", "bob")
    form = operator.form_to(page, "tenant/copy", database=DATABASE)
    cookies = "; ".join(f"{one.name}={one.value}" for one in browser.jar)
    body = urllib.parse.urlencode(form.fields)
    line = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30 * SLOWNESS)
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded", "User-Agent": AGENT}
    line.request("POST", form.action, body, headers)
    response = line.getresponse()
    assert response.status == 200, response.read()
    assert int(response.headers["Content-Length"]) > 20_000_000
    assert response.read(1000).startswith(b"SQLite format 3\0")
    assert len(scratch(daemon)) == 1
    line.close()
    response.close()
    eventually(lambda: not scratch(daemon), 20, "the end of the copy")
    assert not daemon.reported("a page of the dashboard failed")


# --- live ---


def events(daemon: Daemon, browser: Browser, page: Page) -> Iterator[dict[str, str]]:
    """The live parts of a page, by the address that it names."""
    found = re.search(r'data-live="([^"]+)"', page.text)
    assert found is not None
    cookies = "; ".join(f"{one.name}={one.value}" for one in browser.jar)
    line = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20 * SLOWNESS)
    with contextlib.closing(line):
        line.request("GET", found[1].replace("&amp;", "&"), None, {"Cookie": cookies, "User-Agent": AGENT})
        response = line.getresponse()
        assert response.status == 200, response.read()
        while read := response.readline():
            if read.startswith(b"data: "):
                yield json.loads(read[6:])


def test_the_page_is_renewed_while_it_is_open(daemon: Daemon, browser: Browser) -> None:
    add(daemon, tenant="ann/two")
    page = look(browser, address="ann/two")
    parts = events(daemon, browser, page)
    first = {part["id"]: part["html"] for part, _ in zip(parts, range(5), strict=False)}
    assert first.keys() == {"state", "actions", "now", "day", "saved"}
    assert all(f'id="{name}"' in page.text for name in first)
    assert daemon.cli("stop", "ann/two").returncode == 0
    assert any(part["id"] == "state" and ">stopped</span>" in part["html"] for part in parts)
    parts.close()  # type: ignore[attr-defined]


def test_the_log_is_searched_escaped_and_renewed(daemon: Daemon, browser: Browser) -> None:
    for name in ("alpha", "beta", "%3Cscript%3Ealert(1)%3C/script%3E", "beta?q=<b>"):
        daemon.get(f"/{ONE}/{name}")
    text = look(browser, "tenant/log").text
    assert "/ann/one/alpha" in text
    assert "q=&lt;b&gt;" in text
    assert "q=<b>" not in text
    found = look(browser, "tenant/log", q="BETA", kind="request").text
    assert "/ann/one/beta" in found
    assert "/ann/one/alpha" not in found
    assert "No line fits." in look(browser, "tenant/log", q="no such text").text
    assert "/ann/one/beta" not in look(browser, "tenant/log", level="error").text
    assert look(browser, "tenant/log", level="x", kind="y", q="x" * 5000).status == 200
    page = look(browser, "tenant/log", q="gamma")
    parts = events(daemon, browser, page)
    assert "No line fits." in next(parts)["html"]
    daemon.get(f"/{ONE}/delta")
    daemon.get(f"/{ONE}/gamma")
    renewed = next(parts)
    assert renewed["id"] == "lines"
    assert "/ann/one/gamma" in renewed["html"]
    assert "/ann/one/delta" not in renewed["html"]
    parts.close()  # type: ignore[attr-defined]


# --- litestream ---


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    text = config(top=SECTION, users="users: {ann: null}").replace(
        "storage: {interval: 0}", "storage: {mode: litestream}"
    )
    with visits.serving(tmp_path_factory.mktemp("streaming"), text, ENVIRON) as one:
        yield one


def test_a_streamed_database_is_copied_and_restored_at_a_time(streaming: Daemon, tmp_path: Path) -> None:
    browser = operator.logged_in(streaming)

    def save() -> str:
        ended(browser, press(browser, look(browser, address="ann"), "tenant/save"))
        return str(saved(streaming, "ann")[0]["saved"])

    add(streaming, 3, "ann")
    before = count(streaming, "ann")
    first = save()
    add(streaming, 2, "ann")
    save()
    add(streaming, 1, "ann")
    page = look(browser, "tenant/versions", "ann")
    newest = browser.submit(page, operator.form_to(page, "tenant/copy", database=DATABASE), {})
    assert rows(newest.body, tmp_path) == before + 3
    form = operator.form_to(page, "tenant/copy", database=DATABASE)
    then = browser.submit(page, form, {"when": first})
    assert then.body.startswith(b"SQLite"), re.findall(r"<p class=.notice.*", then.text)
    assert rows(then.body, tmp_path) == before
    question = browser.submit(
        page, operator.form_to(page, "tenant/restore", when=""), {"when": first, "database": DATABASE}
    )
    assert f"Replace {DATABASE} of ann by the newest of" in question.text
    assert ended(browser, agree(browser, question)).startswith(f"{DATABASE} of ann is now the newest of")
    assert count(streaming, "ann") == before
    assert streaming.cli("stop", "ann").returncode == 0
    page = look(browser, "tenant/versions", "ann")
    stopped = browser.submit(page, operator.form_to(page, "tenant/copy", database=DATABASE), {})
    assert rows(stopped.body, tmp_path) == before, "from the store"
    eventually(lambda: not scratch(streaming), 10, "the end of the copy")
