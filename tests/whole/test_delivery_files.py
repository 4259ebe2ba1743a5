"""Files sent by the daemon: static folders, and files named in X-Sendfile."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import pytest

from whole.daemon import Daemon, eventually
from whole.visits import Line, Reply, get, parrot, say, seen, serving

PAGE = b"".join(b"<p>paragraph %d of a page</p>\n" % n for n in range(300))
LARGE = os.urandom(1 << 20) * 20
STATIC = """
  delivery:
    static: [{path: /assets, folder: public, max_age: 1h}, {path: /only, folder: public, fallthrough: false}]
"""
OFF = "off: {delivery: {sendfile: {enabled: false}}}, bare: {delivery: {cache: {enabled: false}}}"
USERS = f"users: {{ann: null, idle: null, {OFF}}}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "public").mkdir()
    (folder / "public/app.css").write_bytes(b"body {}")
    (folder / "public/app.css.gz").write_bytes(b"packed")
    (folder / "public/page.html").write_bytes(PAGE)
    (folder / "public/larger.html").write_bytes(PAGE * 20)
    (folder / "public/noise.txt").write_bytes(os.urandom(2000))
    (folder / "public/.secret").write_bytes(b"secret")
    (folder / "public/large.bin").write_bytes(LARGE)
    (folder / "public/loop").symlink_to("/etc/hostname")
    with serving(folder, parrot(app=STATIC, users=USERS)) as one:
        yield one


def named(path: Path | str, *more: bytes, header: bytes = b"X-Sendfile") -> str:
    lines = (b"HTTP/1.1 200 OK", header + b": " + os.fsencode(path), b"Content-Length: 0", *more)
    return say(b"\r\n".join(lines) + b"\r\n\r\n")


# --- static ---


def test_a_stylesheet_starts_no_app(daemon: Daemon) -> None:
    reply = get(daemon, "/idle/assets/app.css")
    assert (reply.status, reply.body) == (200, b"body {}")
    assert reply.one("content-type") == "text/css; charset=utf-8"
    assert reply.one("cache-control") == "public, max-age=3600"
    assert reply.one("date")
    assert reply.one("x-request-id")
    assert daemon.status("idle")["state"] == "stopped"
    line = daemon.until_reported("request", tenant="idle")
    assert (line["status"], line["start"]) == (200, None)


def test_a_known_file_is_not_sent_again_and_a_part_is(daemon: Daemon) -> None:
    with Line(daemon) as line:
        whole = line.get("/ann/assets/app.css")
        again = line.get("/ann/assets/app.css", f"If-None-Match: {whole.one('etag')}")
        part = line.get("/ann/assets/app.css", "Range: bytes=0-3")
        assert (again.status, part.status, part.body) == (304, 206, b"body")
        assert line.get("/ann/assets/app.css", method="HEAD").one("content-length") == "7"


def test_the_precompressed_sibling_is_sent_to_clients_that_accept_it(daemon: Daemon) -> None:
    reply = get(daemon, "/ann/assets/app.css", "Accept-Encoding: gzip")
    assert (reply.one("content-encoding"), reply.body) == ("gzip", b"packed")


def test_what_is_not_there_is_asked_of_the_app_or_is_not_found(daemon: Daemon) -> None:
    assert seen(get(daemon, "/ann/assets/other")).line.startswith("GET /ann/assets/other")
    assert get(daemon, "/ann/only/other").status == 404
    assert get(daemon, "/ann/only/.secret").status == 404
    assert get(daemon, "/ann/only/loop").status == 404
    assert daemon.until_reported("static: ", level="warning")["tenant"] == "ann"


def test_files_are_only_read(daemon: Daemon) -> None:
    reply = get(daemon, "/ann/assets/app.css", method="POST", body=b"x")
    assert (reply.status, reply.one("allow")) == (405, "GET, HEAD")


def test_a_large_file_comes_whole_and_the_connection_goes_on(daemon: Daemon) -> None:
    with Line(daemon, 30) as line:
        assert line.get("/ann/assets/large.bin").body == LARGE
        assert line.get("/ann/assets/app.css").status == 200


@pytest.mark.parametrize(("user", "kept"), [("ann", True), ("bare", False)])
def test_a_file_without_precompressed_sibling_is_compressed_here(daemon: Daemon, user: str, kept: bool) -> None:
    address, accept = f"/{user}/assets/page.html", "Accept-Encoding: gzip"
    with Line(daemon) as line:
        plain = line.get(address)
        assert (plain.body, plain.one("vary"), plain.one("accept-ranges")) == (PAGE, "Accept-Encoding", "bytes")
        for _ in range(2):
            packed = line.get(address, accept)
            assert (packed.one("content-encoding"), gzip.decompress(packed.body)) == ("gzip", PAGE)
            assert (packed.one("vary"), packed.one("accept-ranges")) == ("Accept-Encoding", None)
        tag = packed.one("etag") or ""
        assert tag.startswith('"')
        assert tag != plain.one("etag")
        assert line.get(address, accept, f"If-None-Match: {tag}").status == 304
        bare = line.get(address, accept, method="HEAD")
        assert (bare.one("content-length"), bare.one("etag")) == (str(len(packed.body)), tag)
        part = line.get(address, accept, "Range: bytes=0-3")
        assert (part.status, part.body, part.one("content-encoding")) == (206, PAGE[:4], None)

        def larger() -> Reply | None:
            reply = line.get(f"/{user}/assets/larger.html", "Accept-Encoding: br")
            return reply if reply.one("content-encoding") == "br" else None

        if kept:
            assert brotli.decompress(eventually(larger, what="the encoded form").body) == PAGE * 20
        else:
            assert larger() is None
        assert line.get(f"/{user}/assets/noise.txt", accept).one("content-encoding") is None


def test_an_edited_file_is_compressed_anew(daemon: Daemon) -> None:
    file = daemon.folder / "public/anew.html"
    for text in (PAGE, PAGE[::-1]):
        file.write_bytes(text)
        assert gzip.decompress(get(daemon, "/ann/assets/anew.html", "Accept-Encoding: gzip").body) == text


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


def test_a_file_outside_is_not_found_and_logged_as_warning(daemon: Daemon) -> None:
    reply = get(daemon, named("/etc/hostname", b"Cache-Control: public"))
    assert reply.status == 404
    assert reply.one("cache-control") == "no-store"
    assert daemon.until_reported("X-Sendfile: '/etc/hostname'", level="warning")["tenant"] == "ann"


def test_a_tenants_own_data_is_open_and_anothers_is_not(daemon: Daemon) -> None:
    for user, status in (("ann", 200), ("off", 404)):
        (daemon.folder / f"data/tenants/{user}/~").mkdir(parents=True, exist_ok=True)
        file = daemon.folder / f"data/tenants/{user}/~/upload"
        file.write_bytes(b"upload")
        assert get(daemon, named(file)).status == status


def test_the_app_learns_that_it_may_and_no_client_can_claim_so(daemon: Daemon) -> None:
    spoof = ("X-Sendfile-Type: X-Accel-Redirect", "X-Accel-Mapping: /=/etc", "X_Accel_Mapping: /=/etc")
    request = seen(get(daemon, "/ann/seen", *spoof))
    assert request.all("x-sendfile-type") == ["X-Sendfile"]
    assert request.all("x-accel-mapping") == request.all("x_accel_mapping") == []


def test_switched_off_the_header_still_does_not_get_through(daemon: Daemon) -> None:
    reply = get(daemon, named(daemon.folder / "public/app.css").replace("/ann/", "/off/"))
    assert (reply.status, reply.body, reply.one("x-sendfile")) == (200, b"", None)
    assert seen(get(daemon, "/off/seen", "X-Sendfile-Type: x")).all("x-sendfile-type") == []


# --- what the app names, in the cache ---

PUBLIC = b"Cache-Control: public, max-age=3600"


def reported(reply: Reply) -> tuple[str | None, int, bytes]:
    return reply.one("x-cache"), reply.status, reply.body


def test_a_public_response_that_names_a_file_is_kept_as_its_head_and_the_file_is_read_anew(daemon: Daemon) -> None:
    file = daemon.folder / "public/edited.txt"
    file.write_bytes(b"before")
    address = named(file, PUBLIC, b'ETag: "theirs"', b"Content-Disposition: inline")
    with Line(daemon) as line:
        assert reported(line.get(address)) == ("miss", 200, b"before")
        assert reported(line.get(address, 'If-None-Match: "theirs"')) == ("hit", 304, b"")
        again = line.get(address)
        assert reported(again) == ("hit", 200, b"before")
        assert (again.one("etag"), again.one("content-disposition")) == ('"theirs"', "inline")
        file.write_bytes(b"and after")
        edited = line.get(address)
        assert reported(edited) == ("hit", 200, b"and after")
        assert edited.one("content-length") == "9"
        assert edited.one("etag") not in (None, '"theirs"')
        assert reported(line.get(address, 'If-None-Match: "theirs"')) == ("hit", 200, b"and after")
        assert reported(line.get(address, f"If-None-Match: {edited.one('etag')}")) == ("hit", 304, b"")
        assert reported(line.get(address, "Range: bytes=-5")) == ("hit", 206, b"after")
        assert line.get(address, method="HEAD").one("content-length") == "9"


def test_a_kept_file_that_vanished_is_not_found_and_the_app_is_asked_again(daemon: Daemon) -> None:
    file = daemon.folder / "public/vanishing.txt"
    file.write_bytes(b"here")
    address = named(file, PUBLIC)
    assert [reported(get(daemon, address))[0] for _ in range(2)] == ["miss", "hit"]
    file.unlink()
    lost = get(daemon, address)
    assert (lost.status, lost.one("cache-control"), lost.one("age")) == (404, "no-store", None)
    file.write_bytes(b"back")
    assert reported(get(daemon, address)) == ("miss", 200, b"back")
    assert reported(get(daemon, address)) == ("hit", 200, b"back")


def test_a_file_that_is_not_there_is_not_kept(daemon: Daemon) -> None:
    address = named(daemon.folder / "public/none.txt", PUBLIC)
    for _ in range(2):
        reply = get(daemon, address)
        assert (reply.status, reply.one("cache-control"), reply.one("etag")) == (404, "no-store", None)
        assert reply.one("x-cache") != "hit"


def test_a_stale_file_is_sent_and_refreshed_behind_it(daemon: Daemon) -> None:
    file = daemon.folder / "public/stale.txt"
    file.write_bytes(b"stale")
    address = named(file, b"Cache-Control: max-age=0, stale-while-revalidate=600")
    before = get(daemon, "/ann/tally").json.get("say", 0)
    assert reported(get(daemon, address)) == ("miss", 200, b"stale")
    assert reported(get(daemon, address)) == ("hit", 200, b"stale")
    eventually(lambda: get(daemon, "/ann/tally").json["say"] == before + 2, what="the refresh")
    assert reported(get(daemon, address)) == ("hit", 200, b"stale")
