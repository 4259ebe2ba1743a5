"""The dashboard of a running daemon: who gets in, what else is refused, and what it leaves alone."""

import concurrent.futures
import http.cookies
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from passlib.hash import bcrypt

from whole import operator, visits
from whole.browser import Browser, Form
from whole.daemon import Answer, Daemon, config, eventually
from whole.operator import ENVIRON, HOME, PASSWORD, SECTION

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("dashboard")
    hops = "  trusted_hops: 1"  # each test is a client of its own
    with visits.serving(folder, config(server=hops, top=SECTION), ENVIRON) as one:
        yield one


class Client:
    """One that sends its cookie and headers itself."""

    def __init__(self, daemon: Daemon, address: str) -> None:
        self.daemon, self.cookie, self.known = daemon, "", ""
        self.headers = {"X-Forwarded-For": address, "User-Agent": AGENT}

    def get(self, page: str = "", **headers: str) -> Answer:
        return self._sent("GET", page, None, headers)

    def post(self, page: str, fields: dict[str, str], **headers: str) -> Answer:
        body = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in fields.items()).encode()
        return self._sent("POST", page, body, {"Content-Type": "application/x-www-form-urlencoded", **headers})

    def _sent(self, method: str, page: str, body: bytes | None, more: dict[str, str]) -> Answer:
        named = {name.replace("_", "-"): value for name, value in more.items()}
        headers = {**self.headers, **({"Cookie": self.cookie} if self.cookie else {}), **named}
        return self.daemon.request(method, page if page.startswith("/") else HOME + page, body, headers)

    def log_in(self) -> "Client":
        answer = self.post("login", {"password": PASSWORD})
        assert answer.status == 303, answer.text
        cookies = http.cookies.SimpleCookie("; ".join(answer.headers.get_all("Set-Cookie", [])))
        morsel, self.known = cookies["flyatc_dashboard"], cookies["flyatc_dashboard_known"].value
        assert (morsel["path"], morsel["httponly"], morsel["samesite"]) == ("/_flyatc", True, "Strict")
        self.cookie = f"flyatc_dashboard={morsel.value}"
        return self

    @property
    def token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get().text)
        assert found is not None
        return found[1]


# --- getting in ---


def test_the_operator_logs_in_sees_the_overview_and_logs_out(daemon: Daemon) -> None:
    browser = operator.logged_in(daemon)
    page = browser.get(f"{HOME}?x=1")
    assert "<h1>Overview</h1>" in page.text
    assert [sheet.status for sheet in browser.styles(page)] == [200]
    left = browser.submit(page, operator.form_to(page, "logout"), {})
    assert left.path == f"{HOME}login"
    assert browser.get(HOME).path == f"{HOME}login"


def test_after_the_login_the_wanted_page_is_shown_and_no_other_site(daemon: Daemon) -> None:
    one = Client(daemon, "1.0.0.1")
    answer = one.get("jobs?a=b")
    assert (answer.status, answer.headers["Location"]) == (303, f"{HOME}login?next=%2F_flyatc%2Fjobs%3Fa%3Db")
    for wanted, shown in (("/_flyatc/jobs", "/_flyatc/jobs"), ("https://evil/", HOME), ("//evil", HOME),
                          ("/_flyatc/\\evil", HOME), ("/ann/one/", HOME), ("/_flyatc/logout", HOME)):  # fmt: skip
        answer = one.post("login", {"password": PASSWORD, "next": wanted})
        assert answer.headers["Location"] == shown


def test_a_page_may_not_be_framed_stored_or_given_scripts_of_others(daemon: Daemon) -> None:
    for answer in (Client(daemon, "1.0.0.2").get("login"), Client(daemon, "1.0.0.2").log_in().get()):
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cross-Origin-Opener-Policy"] == "noopener-allow-popups"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "flyatc"
        assert not re.search(r"<script(?! src=)|<style| style=| on[a-z]+=", answer.text)


def test_the_cookie_is_for_https_where_the_proxy_says_so(daemon: Daemon) -> None:
    answer = Client(daemon, "1.0.0.3").post("login", {"password": PASSWORD}, X_Forwarded_Proto="https")
    assert all("; Secure" in cookie for cookie in answer.headers.get_all("Set-Cookie", []))


# --- staying out ---


def test_a_stolen_session_is_worth_nothing_at_another_address_or_in_another_browser(daemon: Daemon) -> None:
    owner = Client(daemon, "2.0.0.1").log_in()
    assert owner.get().status == 200
    thief = Client(daemon, "2.0.0.2")
    thief.cookie = owner.cookie
    assert thief.get().status == 303
    assert thief.post("logout", {"csrf": owner.token}).status == 403
    assert thief.get(X_Forwarded_For="2.0.0.1, 2.0.0.2").status == 303, "only the last proxy is believed"
    assert thief.get(Flyatc_Client="2.0.0.1").status == 303
    assert owner.get(User_Agent="curl/8").status == 303
    assert owner.get(Flyatc_Client="2.0.0.2").status == 200, "a client's own header is removed"


def test_a_session_ends_with_the_logout_and_with_another_cookie_beside_it_does_not(daemon: Daemon) -> None:
    one = Client(daemon, "2.0.0.3").log_in()
    before = one.cookie
    one.cookie = f"flyatc_dashboard=x.1.y; {before}; flyatc_dashboard=z"
    assert one.get().status == 200
    assert one.post("logout", {"csrf": one.token}).status == 303
    one.cookie = before
    assert one.get().status == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "http://127.0.0.1", "Host": "127.0.0.1"}, 303),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1.evil.example", "Host": "127.0.0.1"}, 403),
    ],
)
def test_a_form_of_another_site_is_refused(daemon: Daemon, headers: dict[str, str], status: int) -> None:
    one = Client(daemon, "2.0.0.4").log_in()
    assert one.post("logout", {"csrf": one.token}, **headers).status == status


@pytest.mark.parametrize("token", [None, "", "x", "other"])
def test_a_form_without_the_token_of_its_session_changes_nothing(daemon: Daemon, token: str | None) -> None:
    one = Client(daemon, "2.0.0.5").log_in()
    if token == "other":
        token = Client(daemon, "2.0.0.5").log_in().token
    answer = one.post("logout", {} if token is None else {"csrf": token})
    assert answer.status == 403
    assert "The form is from another session" in answer.text
    assert one.get().status == 200


def test_a_page_of_an_app_can_neither_fetch_nor_frame_the_dashboard(daemon: Daemon) -> None:
    one = Client(daemon, "2.0.0.6").log_in()
    for kind in ("empty", "iframe", "frame", "embed", "object", "image", "script", "worker", "serviceworker"):
        answer = one.get(Sec_Fetch_Dest=kind, Sec_Fetch_Site="same-origin")
        assert answer.status == 403
        assert "Overview" not in answer.text
    assert one.get(Sec_Fetch_Dest="document", Sec_Fetch_Site="same-origin").status == 200
    for live in ("overview/live", "maintenance/live?token=x", "jobs/none/live", "nothing/live"):
        answer = one.get(live, Sec_Fetch_Dest="empty")
        assert (answer.status, "csrf" in answer.text) == (403, False), "it needs the token of the page"
    assert one.post("login", {"password": PASSWORD}, Sec_Fetch_Dest="empty").status == 403


@pytest.mark.parametrize(
    "path",
    [
        "//_flyatc/", "/_FLYATC/", "/%5fflyatc/", "/./_flyatc/", "/ann/../_flyatc/", "/ann/one/..%2f..%2f_flyatc/",
        "/_flyatc//", "/_flyatc/../ann/one/echo", "/_flyatc/%2e%2e/ann/one/echo", "/_flyatc/..;/ann/one/echo",
        "/_flyatc/.%2e/", "/_flyatc/%00", "/_flyatc%2f", "/_flyatc\\", "/_flyatcx", "/_flyatc/login/..", "/_flyatc/;",
        "/_flyatc/static/../login", "/_flyatc/static/%2e%2e%2fpages.py", "/_flyatc/static/base.html", "/_flyatc/x/",
    ],
)  # fmt: skip
def test_no_trick_with_a_path_reaches_the_dashboard_or_an_app(daemon: Daemon, path: str) -> None:
    one = Client(daemon, "2.0.0.7").log_in()
    reply = visits.get(daemon, path, f"Cookie: {one.cookie}", "X-Forwarded-For: 2.0.0.7", f"User-Agent: {AGENT}")
    assert reply.status in (400, 404), reply
    assert b"Overview</h1>" not in reply.body
    assert daemon.status("ann/one")["starts"] == 0


# --- beside the apps ---


def test_an_app_sees_nothing_of_the_dashboard_and_it_is_no_use_of_a_tenant(daemon: Daemon) -> None:
    one = Client(daemon, "4.0.0.1").log_in()
    seen = daemon.get("/bob/echo", {"Cookie": f"a=1; {one.cookie}; b=2"}).json["headers"]
    assert dict(map(tuple, seen))["Cookie"] == "a=1; b=2"
    environ = Path(f"/proc/{daemon.status('bob')['pid']}/environ").read_bytes()
    assert b"DASHBOARD_PASSWORD" not in environ
    answer = daemon.get("/bob/headers?set=Set-Cookie:flyatc_dashboard%3Dx&set=Service-Worker-Allowed:/")
    assert "Set-Cookie" not in answer.headers
    assert "Service-Worker-Allowed" not in answer.headers
    assert one.get().status == 200
    line = daemon.until_reported("request", path=HOME, status=200)
    assert (line["tenant"], line["user"], line["cache"], line["start"]) == (None, None, None, None)


def test_maintenance_of_everything_leaves_the_dashboard_open(daemon: Daemon) -> None:
    one = Client(daemon, "4.0.0.2").log_in()
    assert daemon.cli("maintenance", "on").returncode == 0
    try:
        assert daemon.get("/bob/").status == 503
        assert "Closed for maintenance" in one.get().text
    finally:
        assert daemon.cli("maintenance", "off").returncode == 0


def test_the_overview_is_renewed_while_it_is_open(daemon: Daemon) -> None:
    one = Client(daemon, "4.0.0.3").log_in()
    found = re.search(r'data-live="([^"]+)"', one.get().text)
    assert found is not None
    head = f"GET {found[1]} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 4.0.0.3\r\nUser-Agent: {AGENT}\r\n"
    with daemon.connect(20) as raw:
        raw.sendall(f"{head}Cookie: {one.cookie}\r\n\r\n".encode())
        seen = b""
        while b'"id":"active"' not in seen:
            seen += raw.recv(65536)
        assert b"text/event-stream" in seen
        assert daemon.get("/ann/two/").status in (200, 404)
        seen = b""
        while b"address=ann%2Ftwo" not in seen:
            data = raw.recv(65536)
            assert data, seen
            seen += data
        assert one.post("logout", {"csrf": one.token}).status == 303
        while b"event: end" not in seen:
            data = raw.recv(65536)
            assert data, seen
            seen += data
    daemon.until_reported("request", path=f"{HOME}overview/live", query="token=hidden", status=200)
    assert found[1].partition("token=")[2] not in daemon.log_file.read_text()


# --- maintenance and pauses ---


def test_the_operator_closes_a_tenant_with_a_message_after_a_second_question_and_opens_it_again(
    daemon: Daemon,
) -> None:
    browser = operator.logged_in(daemon)
    page = browser.get(f"{HOME}maintenance")
    assert "All is open." in page.text
    given = {"address": f"http://127.0.0.1:{daemon.port}/ann/two/x", "message": "Back at <b>9</b>"}
    asked = browser.submit(page, operator.form_to(page, "maintenance/close"), given)
    assert "Close ann/two?" in asked.text
    assert daemon.get("/ann/two/").status != 503, "it is only asked so far"
    done = browser.submit(asked, operator.form_to(asked, "maintenance/close"), {})
    assert done.path == f"{HOME}maintenance"
    assert "ann/two: closed for maintenance." in done.text
    assert "Back at &lt;b&gt;9&lt;/b&gt;" in done.text
    assert "ann/two: closed" not in browser.get(f"{HOME}maintenance").text, "a notice is shown once"
    assert daemon.get("/ann/two/").status == 503
    assert daemon.get("/ann/one/").status != 503
    opened = browser.submit(done, operator.form_to(done, "maintenance/open", address="ann/two"), {})
    assert "All is open." in opened.text
    assert daemon.get("/ann/two/").status != 503
    line = daemon.reported("dashboard: closed for maintenance")[-1]
    assert (line["operator"], line["scope"], line["page"]) == ("127.0.0.1", "ann/two", "Back at <b>9</b>")


def test_a_pause_is_a_job_that_ends_when_the_apps_have_no_request(daemon: Daemon) -> None:
    browser = operator.logged_in(daemon)
    page = browser.get(f"{HOME}maintenance?address=ann/one")
    assert daemon.get("/ann/one/").status != 503
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = pool.submit(daemon.get, "/ann/one/slow?s=2")
        eventually(lambda: daemon.status("ann/one")["requests"] == 1, 10, "the app has the request")
        job = browser.submit(page, operator.form_to(page, "maintenance/pause"), {"address": "ann/one", "limit": "50s"})
        assert job.path.startswith(f"{HOME}jobs/here-")
        assert "<progress" in job.text
        assert "Pause ann/one" in browser.get(f"{HOME}jobs").text
        eventually(lambda: "no app has a request any more" in browser.get(job.path).text, 20, "the job is done")
        assert slow.result().status == 200
        waiting = pool.submit(daemon.get, "/ann/one/")
        eventually(lambda: "1 request waiting" in browser.get(f"{HOME}maintenance").text, 10, "the pause holds it")
        page = browser.get(f"{HOME}maintenance")
        page = browser.submit(page, operator.form_to(page, "maintenance/resume", address="ann/one"), {})
        assert "resumed, 1 requests went on" in page.text
        assert waiting.result().status != 503


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"address": "no-such"}, "is no user and no tenant"),
        ({"address": "ann/one", "limit": "soon"}, "is not a duration"),
        ({"address": "ann/one", "limit": "2h"}, "must be from 1 s to 3600 s"),
    ],
)
def test_what_is_not_possible_is_said_on_the_page(daemon: Daemon, given: dict[str, str], words: str) -> None:
    browser = operator.logged_in(daemon)
    page = browser.get(f"{HOME}maintenance")
    page = browser.submit(page, operator.form_to(page, "maintenance/pause"), given)
    assert page.path == f"{HOME}maintenance"
    assert words in page.text
    assert 'role="alert"' in page.text
    assert "All is open." in page.text


# --- store and cost ---


def test_the_cost_is_that_of_each_user_by_the_assumptions_that_the_operator_chooses(daemon: Daemon) -> None:
    browser = operator.logged_in(daemon)
    page = browser.get(f"{HOME}cost?days=7&size=performance-1x&region=fra")
    assert "performance-1x with 2048 MB in fra" in page.text
    assert all(f"<b>{user}</b>" in page.text for user in ("ann", "bob"))
    assert "is no size of a machine" in browser.get(f"{HOME}cost?size=<huge>").text
    assert browser.get(f"{HOME}cost?days=-1&region=nowhere").status == 200


@pytest.mark.parametrize(
    ("action", "given", "words"),
    [
        ("tenant/restore", {"address": "ann/one", "database": "app.sqlite3", "orphan": "../x"}, "no orphaned copy"),
        ("tenant/restore", {"address": "no-such/x", "database": "app.sqlite3", "orphan": "x"}, "no-such"),
        ("store/verify", {"address": "no-such/<x>"}, "The store has no database of no-such/&lt;x&gt;."),
    ],
)
def test_what_is_not_possible_with_the_store_is_said(
    daemon: Daemon, action: str, given: dict[str, str], words: str
) -> None:
    browser = operator.logged_in(daemon)
    page = browser.get(f"{HOME}store")
    form = Form("post", f"{HOME}{action}", {"csrf": operator.form_to(page, "store/verify").fields["csrf"]})
    page = browser.submit(page, form, {**given, "confirmed": "yes"})
    if page.path.startswith(f"{HOME}jobs/"):
        page = eventually(lambda: (now := browser.get(page.url)) and "running</span>" not in now.text and now)
    assert words in page.text


# --- its settings ---


def test_a_reload_moves_it_changes_its_password_and_turns_it_off(tmp_path: Path) -> None:
    other = "a second password"
    environ = {**ENVIRON, "FLYATC_OTHER": bcrypt.using(rounds=10).hash(other)}
    with visits.serving(tmp_path, visits.parrot(top=SECTION), environ) as one:
        client = Client(one, "-").log_in()
        assert client.get().status == 200
        one.write(visits.parrot(top='dashboard: {path: /ops, password: "${FLYATC_OTHER}"}'))
        assert one.cli("reload").returncode == 0
        assert client.get().status == 404
        answer = client.get("/ops/")
        assert (answer.status, answer.headers["Location"]) == (303, "/ops/login?next=%2Fops%2F")
        assert client.post("/ops/login", {"password": PASSWORD}).status == 403
        assert client.post("/ops/login", {"password": environ["FLYATC_OTHER"]}).status == 403, "the hash is no password"
        answer = client.post("/ops/login", {"password": other})
        assert (answer.status, answer.headers["Location"]) == (303, "/ops/")
        client.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        one.stop()
        one.start()
        assert client.get("/ops/").status == 200, "the session survives a restart"
        key = tmp_path / "data" / ".flyatc" / "dashboard.key"
        assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
        one.write(visits.parrot())
        assert one.cli("reload").returncode == 0
        assert client.get("/ops/login").status == 404


def test_without_a_password_it_is_for_this_computer_only(tmp_path: Path) -> None:
    one = Daemon(tmp_path, visits.parrot(top="dashboard: {host: admin.example.com}"))
    try:
        one.start("--insecure")
        browser = Browser(f"http://127.0.0.1:{one.port}")
        assert one.reported(f"open {browser.origin}{HOME}"), "the log names its address"
        page = browser.get(HOME)
        assert "Without a password: for this computer only." in page.text
        page = browser.get(f"{HOME}maintenance")
        asked = browser.submit(page, operator.form_to(page, "maintenance/close"), {})
        assert "Close everything?" in asked.text
        client = Client(one, "-")
        assert client.get(Host="localhost:3000").status == 403, "through a proxy"
        del client.headers["X-Forwarded-For"]
        assert client.get(Host="localhost:3000").status == 200
        assert client.get(Host="localhost:3000", X_Real_IP="203.0.113.9").status == 403
        assert client.get(Host="evil.example").status == 403, "a name that leads to 127.0.0.1"
        assert client.post("maintenance/close", {"confirmed": "yes"}).status == 403
        ask = f"import http.client as h; c = h.HTTPConnection('localhost', {one.port}); c.request('GET', '{HOME}')"
        ask += "; a = c.getresponse(); print(a.status, a.read())"
        assert one.cli("exec", "ann", "--", sys.executable, "-c", ask).stdout.startswith("403 b'"), "an app's process"
        assert subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True).stdout.startswith(b"200 b'")
    finally:
        one.stop()
        one.clean_up()


def test_a_host_of_its_own_has_the_dashboard_and_no_app(tmp_path: Path) -> None:
    section = 'dashboard: {host: admin.example.com, password: "${DASHBOARD_PASSWORD}"}'
    with visits.serving(tmp_path, visits.parrot(top=section), ENVIRON) as one:
        client = Client(one, "-")
        for _ in range(3):  # the path of the app is remembered
            assert client.get("/ann/echo", Host="example.com").status == 200
            assert client.get("/ann/echo", Host="Admin.example.com:443").status == 404
        assert client.get("login", Host="example.com").status == 404
        answer = client.get("/", Host="admin.example.com")
        assert (answer.status, answer.headers["Location"]) == (308, HOME)
        assert client.get("login", Host="admin.example.com").status == 200
        client.headers["Host"] = "admin.example.com"
        client.log_in()
        assert client.get().status == 200


# --- too much ---


def test_a_body_that_is_too_large_is_refused_unread(daemon: Daemon) -> None:
    one = Client(daemon, "3.0.0.2").log_in()
    assert one.post("logout", {"csrf": "x" * (1 << 20)}).status == 413
    large = one.post("maintenance/pause", {"csrf": one.token, "address": "x" * 900_000})
    assert large.status == 303, "a form may be as large as a configuration"
    many = {f"f{number}": "" for number in range(2000)}
    assert Client(daemon, "3.0.0.2").post("login", many).status == 400, "a login is short"
    assert Client(daemon, "3.0.0.2").get("login?" + "a&" * 8000).status == 414
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = (
        f"POST {HOME}logout HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 3.0.0.2\r\nUser-Agent: {AGENT}\r\n"
        f"Cookie: {one.cookie}\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    ).encode()
    with daemon.connect() as raw:
        raw.sendall(head)
        answer = b""
        raw.settimeout(0.05)
        for _ in range(40):
            try:
                raw.sendall(chunk)
                answer += raw.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if b"\r\n" in answer:
                break
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_slow_clients_do_not_keep_the_operator_out(daemon: Daemon) -> None:
    one = Client(daemon, "3.0.0.3").log_in()
    head = (
        f"POST {HOME}login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 3.2.%d.1\r\nContent-Length: 100\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\np"
    )
    slow = []
    try:
        for number in range(150):
            raw = socket.create_connection(("127.0.0.1", daemon.port), 10)
            raw.sendall((head % (number // 5)).encode())
            slow.append(raw)
        began = time.monotonic()
        assert one.get().status == 200
        assert time.monotonic() - began < 5
        assert Client(daemon, "3.0.0.4").get("login").status in (200, 429)
    finally:
        for raw in slow:
            raw.close()
    eventually(lambda: Client(daemon, "3.0.0.4").get("login").status == 200, 20, "the places are free again")


def attempts(one: Client) -> tuple[int, Answer]:
    """Return how many wrong passwords are checked until one is refused, ten and another every 6 s; and the refusal."""
    began, checked = time.monotonic(), 0
    while (answer := one.post("login", {"password": f"wrong {checked}"})).status == 403:
        checked += 1
    assert 10 <= checked <= 11 + (time.monotonic() - began) / 6
    return checked, answer


def test_wrong_passwords_are_limited_by_client_and_in_all_before_they_are_checked(daemon: Daemon) -> None:
    known, one = Client(daemon, "3.9.9.9").log_in(), Client(daemon, "3.0.0.1").log_in()
    checked, refused = attempts(one)
    assert refused.status == 429
    assert "csrf" not in refused.text, "the page is the same for all clients"
    assert 1 <= int(refused.headers["Retry-After"]) <= 6
    statuses = [Client(daemon, f"3.1.{n}.1").post("login", {"password": "wrong"}).status for n in range(110)]
    assert 429 in statuses, "others have guessed too often"
    known.cookie = f"flyatc_dashboard_known={known.known}"
    known.log_in()  # the failures of others do not concern a browser that has logged in before
    assert known.get().status == 200
    known.cookie = f"flyatc_dashboard_known={known.known}"
    assert attempts(known)[1].status == 429, "its own do"
    log = daemon.log_file.read_text()
    assert "wrong 1" not in log
    assert PASSWORD not in log
    assert len(daemon.reported("dashboard: wrong password", operator="3.0.0.1")) == checked
    assert daemon.reported("dashboard: logged in", operator="3.9.9.9")
