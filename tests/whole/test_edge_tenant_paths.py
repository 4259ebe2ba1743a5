"""Cookies and redirects of a tenant stay below its prefix, on every way that a response takes to the client."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from slowness import SLOWNESS
from whole.daemon import Daemon, eventually
from whole.visits import Line, Reply, get, parrot, request, say, serving
from whole.wrapped import wrapping

USERS = """users:
  ann: {strip_prefix: true, slash: false}
  bob: {tenants: [2025/winter]}
  eve: {strip_prefix: true, cookies: keep, redirects: keep}
  host: {strip_prefix: true}
  "*": {match: "[0-9]+", strip_prefix: true}"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("paths"), parrot(users=USERS, app="  directory: .")) as one:
        yield one


def answer(*lines: bytes, status: bytes = b"200 OK", body: bytes = b"hello") -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines)) + b"\r\n\r\n" + body


def to(user: str, path: str) -> str:
    return path.replace("/ann/", f"/{user}/")


def test_cookies_and_redirects_are_below_the_prefix_and_the_rest_is_as_it_came(daemon: Daemon) -> None:
    sent = b"Set-Cookie: a=1; Path=/", b"X-Other: Set-Cookie: a=1", b"Location: /x", b"set-cookie: b=2; Max-Age=5"
    reply = get(daemon, say(answer(*sent)))
    assert reply.all("set-cookie") == ["a=1; Path=/ann", "b=2; Max-Age=5; Path=/ann"]
    assert (reply.one("location"), reply.one("x-other"), reply.body) == ("/ann/x", "Set-Cookie: a=1", b"hello")
    reply = get(daemon, to("bob/2025/winter", say(answer(*sent))))
    assert reply.all("set-cookie") == ["a=1; Path=/bob/2025/winter", "b=2; Max-Age=5; Path=/bob/2025/winter"]
    assert reply.one("location") == "/x", "an app that knows its prefix writes it itself"
    reply = get(daemon, to("42", say(answer(*sent))))
    assert (reply.all("set-cookie")[0], reply.one("location")) == ("a=1; Path=/42", "/42/x")
    reply = get(daemon, to("eve", say(answer(*sent))))
    assert reply.all("set-cookie") == ["a=1; Path=/", "b=2; Max-Age=5"]
    assert reply.one("location") == "/x"


def test_a_redirect_to_the_host_of_the_request_or_to_another_tenant(daemon: Daemon) -> None:
    for location, expected in (
        (b"http://here.example/x", "http://here.example/ann/x"),
        (b"https://front.example/x", "https://front.example/ann/x"),
        (b"https://elsewhere.example/x", "https://elsewhere.example/x"),
        (b"/bob/2025/winter/x", "/bob/2025/winter/x"),
    ):
        target = say(answer(b"Location: " + location, status=b"302 Found"))
        reply = get(daemon, target, "X-Forwarded-Host: front.example")
        assert reply.one("location") == expected


@pytest.mark.parametrize("slash", ["", "/", "/deep/er"])
def test_a_client_sends_a_cookie_to_its_tenant_only(daemon: Daemon, slash: str) -> None:
    """By Python's cookie jar, whose rules for paths are those of RFC 6265 §5.1.4."""
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(url(daemon, say(answer(b"Set-Cookie: sid=ann; Path=/"))), timeout=10 * SLOWNESS).read()
    opener.open(url(daemon, to("bob/2025/winter", say(answer(b"Set-Cookie: sid=bob")))), timeout=10 * SLOWNESS).read()
    assert {cookie.path for cookie in jar} == {"/ann", "/bob/2025/winter"}
    for user, expected in (("ann", "sid=ann"), ("bob/2025/winter", "sid=bob"), ("host", None), ("annx", None)):
        asked = urllib.request.Request(url(daemon, f"/{user}{slash}"))
        jar.add_cookie_header(asked)
        assert asked.get_header("Cookie") == expected


def url(daemon: Daemon, path: str) -> str:
    return f"http://127.0.0.1:{daemon.port}{path}"


def test_what_the_cache_keeps_is_rewritten_once(daemon: Daemon) -> None:
    lines = b"Cache-Control: public, max-age=3600", b"Location: /x", b"Content-Location: /y"
    target = say(answer(*lines, status=b"301 Moved Permanently"), more="&name=kept")
    replies = [get(daemon, target) for _ in range(3)]
    assert [reply.one("x-cache") for reply in replies] == ["miss", "hit", "hit"]
    assert {(reply.one("location"), reply.one("content-location")) for reply in replies} == {("/ann/x", "/ann/y")}


def test_what_is_refreshed_in_the_background_is_rewritten(daemon: Daemon) -> None:
    lines = b"Cache-Control: public, max-age=0, stale-while-revalidate=60", b"Location: /x", b"Set-Cookie: a=1; Path=/"
    target = say(answer(*lines, status=b"301 Moved Permanently"), more="&name=anew")

    def tally() -> int:
        return int(get(daemon, "/ann/tally").json["say"])

    get(daemon, target)
    before = tally()
    stale = get(daemon, target)
    eventually(lambda: tally() > before, what="the refresh")
    for reply in (stale, get(daemon, target)):
        assert (reply.one("location"), reply.all("set-cookie")) == ("/ann/x", [])


def test_an_upgrade_and_a_file_have_cookies_too(daemon: Daemon) -> None:
    upgraded = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nSet-Cookie: a=1; Path=/\r\n\r\n"
    )
    with Line(daemon) as line:
        line.send(request(say(upgraded), "Connection: Upgrade", "Upgrade: x"))
        assert line.reply().all("set-cookie") == ["a=1; Path=/ann"]
    (daemon.folder / "file.txt").write_text("a file")
    reply = get(daemon, say(answer(b"X-Sendfile: file.txt", b"Set-Cookie: a=1; Path=/", body=b"")))
    assert (reply.body, reply.all("set-cookie")) == (b"a file", ["a=1; Path=/ann"])


def test_a_response_that_is_compressed_or_passes_in_the_kernel_is_rewritten(daemon: Daemon) -> None:
    page = answer(b"Content-Type: text/html", b"Set-Cookie: a=1; Path=/", body=b"<p>paragraph</p>" * 200)
    with Line(daemon) as line:
        reply: Reply = line.get(to("host", say(page)), "Accept-Encoding: gzip")
    assert (reply.one("content-encoding"), reply.all("set-cookie")) == ("gzip", ["a=1; Path=/host"])
    long = answer(b"Set-Cookie: a=1; Path=/", body=b"x" * 500_000)
    with Line(daemon) as line:
        reply = line.get(
            "/host/say?" + "&".join(f"hex={part.hex()}" for part in (long[:9000], long[9000:18000])) + "&close=1"
        )
    assert (reply.all("set-cookie"), reply.complete, len(reply.body)) == (
        ["a=1; Path=/host"],
        False,
        18000 - len(long) + 500_000,
    )


def test_the_log_warns_once_of_a_cookie_that_demands_the_root(daemon: Daemon) -> None:
    for _ in range(3):
        reply = get(daemon, to("host", say(answer(b"Set-Cookie: __Host-sid=s3cret; Path=/; Secure"))))
        assert reply.all("set-cookie") == ["__Host-sid=s3cret; Path=/host; Secure"]
    daemon.until_reported("browsers refuse the cookie __Host-sid below /host", tenant="host")
    get(daemon, to("host", say(answer())))
    assert len(daemon.reported("browsers refuse the cookie", tenant="host")) == 1
    assert "s3cret" not in "".join(str(line) for line in daemon.reported("browsers refuse"))


def test_a_wrapped_app_has_its_cookies_and_redirects_as_they_are(tmp_path: Path) -> None:
    script = (
        "import http.server, os\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(302)\n"
        "        self.send_header('Set-Cookie', '__Host-a=1; Path=/')\n"
        "        self.send_header('Location', '/x')\n"
        "        self.send_header('Content-Length', '0')\n"
        "        self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Page).serve_forever()\n"
    )
    with wrapping(tmp_path, "python3", "-c", script) as one:
        one.start()
        with socket.create_connection(("127.0.0.1", one.port), 10 * SLOWNESS) as raw:
            raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
            seen = b"".join(iter(lambda: raw.recv(65536), b""))
        assert b"Set-Cookie: __Host-a=1; Path=/\r\n" in seen
        assert b"Location: /x\r\n" in seen
        assert not one.reported("browsers refuse")
