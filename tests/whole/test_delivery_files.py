"""Files which the daemon sends: static folders, and what the app names in X-Sendfile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import Daemon
from whole.visits import Line, get, parrot, say, seen, serving

LARGE = os.urandom(1 << 20) * 20
STATIC = """
  delivery:
    static: [{path: /assets, folder: public, max_age: 1h}, {path: /only, folder: public, fallthrough: false}]
"""
USERS = "users: {ann: null, idle: null, off: {delivery: {sendfile: {enabled: false}}}}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "public").mkdir()
    (folder / "public/app.css").write_bytes(b"body {}")
    (folder / "public/app.css.gz").write_bytes(b"packed")
    (folder / "public/.secret").write_bytes(b"secret")
    (folder / "public/large.bin").write_bytes(LARGE)
    (folder / "public/loop").symlink_to("/etc/hostname")
    with serving(folder, parrot(app=STATIC, users=USERS)) as one:
        yield one


def named(path: Path | str, *more: bytes, header: bytes = b"X-Sendfile") -> str:
    lines = (b"HTTP/1.1 200 OK", header + b": " + os.fsencode(path), b"Content-Length: 0", *more)
    return say(b"\r\n".join(lines) + b"\r\n\r\n")


# --- static ---


def test_a_stylesheet_wakes_nobody(daemon: Daemon) -> None:
    reply = get(daemon, "/idle/assets/app.css")
    assert (reply.status, reply.body) == (200, b"body {}")
    assert reply.one("content-type") == "text/css; charset=utf-8"
    assert reply.one("cache-control") == "public, max-age=3600"
    assert reply.one("date")
    assert reply.one("x-request-id")
    assert daemon.status("idle")["state"] == "stopped"
    line = daemon.until_told("request", tenant="idle")
    assert (line["status"], line["start"]) == (200, None)


def test_a_known_file_is_not_sent_again_and_a_part_is(daemon: Daemon) -> None:
    with Line(daemon) as line:
        whole = line.get("/ann/assets/app.css")
        again = line.get("/ann/assets/app.css", f"If-None-Match: {whole.one('etag')}")
        part = line.get("/ann/assets/app.css", "Range: bytes=0-3")
        assert (again.status, part.status, part.body) == (304, 206, b"body")
        assert line.get("/ann/assets/app.css", method="HEAD").one("content-length") == "7"


def test_the_packed_sibling_is_sent_to_whom_takes_it(daemon: Daemon) -> None:
    reply = get(daemon, "/ann/assets/app.css", "Accept-Encoding: gzip")
    assert (reply.one("content-encoding"), reply.body) == ("gzip", b"packed")


def test_what_is_not_there_is_asked_of_the_app_or_is_not_found(daemon: Daemon) -> None:
    assert seen(get(daemon, "/ann/assets/other")).line.startswith("GET /ann/assets/other")
    assert get(daemon, "/ann/only/other").status == 404
    assert get(daemon, "/ann/only/.secret").status == 404
    assert get(daemon, "/ann/only/loop").status == 404
    assert daemon.until_told("static: ", level="warning")["tenant"] == "ann"


def test_files_are_only_read(daemon: Daemon) -> None:
    reply = get(daemon, "/ann/assets/app.css", method="POST", body=b"x")
    assert (reply.status, reply.one("allow")) == (405, "GET, HEAD")


def test_a_large_file_comes_whole_and_the_connection_goes_on(daemon: Daemon) -> None:
    with Line(daemon, 30) as line:
        assert line.get("/ann/assets/large.bin").body == LARGE
        assert line.get("/ann/assets/app.css").status == 200


# --- X-Sendfile ---


def test_the_file_that_the_app_names_is_sent_in_its_place(daemon: Daemon) -> None:
    with Line(daemon, 30) as line:
        reply = line.get(named(daemon.folder / "public/large.bin", b'ETag: "x"', b"Content-Type: text/plain"))
        assert reply.status == 200
        assert reply.body == LARGE
        assert (reply.one("etag"), reply.one("content-type")) == ('"x"', "text/plain")
        assert reply.one("x-sendfile") is None
        assert reply.one("date")
        part = line.get(named(daemon.folder / "public/app.css"), "Range: bytes=-2")
        assert (part.status, part.body) == (206, b"{}")
        accel = line.get(named(daemon.folder / "public/app.css", header=b"X-Accel-Redirect"))
        assert (accel.status, accel.body, accel.one("x-accel-redirect")) == (200, b"body {}", None)


def test_a_body_beside_the_header_is_thrown_away(daemon: Daemon) -> None:
    lines = f"HTTP/1.1 200 OK\r\nX-Sendfile: {daemon.folder}/public/app.css\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Line(daemon) as line:
        assert line.get(say(lines.encode(), b"5\r\nhello\r\n0\r\n\r\n")).body == b"body {}"
        assert line.get("/ann/seen").status == 200


def test_a_file_outside_is_not_found_and_told_loudly(daemon: Daemon) -> None:
    reply = get(daemon, named("/etc/hostname", b"Cache-Control: public"))
    assert reply.status == 404
    assert reply.one("cache-control") == "no-store"
    assert daemon.until_told("X-Sendfile: '/etc/hostname'", level="warning")["tenant"] == "ann"


def test_a_tenants_own_data_is_open_and_anothers_is_not(daemon: Daemon) -> None:
    for user, status in (("ann", 200), ("off", 404)):
        (daemon.folder / f"data/tenants/{user}/~").mkdir(parents=True, exist_ok=True)
        file = daemon.folder / f"data/tenants/{user}/~/upload"
        file.write_bytes(b"upload")
        assert get(daemon, named(file)).status == status


def test_the_app_is_told_that_it_may_and_no_visitor_can_say_so(daemon: Daemon) -> None:
    spoof = ("X-Sendfile-Type: X-Accel-Redirect", "X-Accel-Mapping: /=/etc", "X_Accel_Mapping: /=/etc")
    request = seen(get(daemon, "/ann/seen", *spoof))
    assert request.all("x-sendfile-type") == ["X-Sendfile"]
    assert request.all("x-accel-mapping") == request.all("x_accel_mapping") == []


def test_switched_off_the_header_still_does_not_get_through(daemon: Daemon) -> None:
    reply = get(daemon, named(daemon.folder / "public/app.css").replace("/ann/", "/off/"))
    assert (reply.status, reply.body, reply.one("x-sendfile")) == (200, b"", None)
    assert seen(get(daemon, "/off/seen", "X-Sendfile-Type: x")).all("x-sendfile-type") == []
