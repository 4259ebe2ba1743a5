"""Static files: folders of the app, sent without it. Real files, no connections."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.config.schema_sections import Folder
from flyatc.delivery.files.file_response import FileRefused, FileResponse
from flyatc.delivery.files.static import Outcome, PassToApp, Redirect, Static
from flyatc.wire import head, head_parser

NOW = 1_800_000_000.0
MODIFIED = 1_700_000_000
STAMP = "Tue, 14 Nov 2023 22:13:20 GMT"
PREFIX = "/customers/bellevue"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return made(tmp_path)


def made(place: Path) -> Path:
    app = place / "app"
    for name, body in {
        "public/app.css": "body{}",
        "public/docs/index.html": "<p>docs",
        "public/empty/readme.txt": "x",
        "public/.env": "SECRET",
        "public/.git/config": "SECRET",
        "public/a b.txt": "odd",
        "public/zero.txt": "",
        "config/secret.yml": "SECRET",
    }.items():
        path = app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        os.utime(path, (MODIFIED, MODIFIED))
    (app / "public" / "link.yml").symlink_to("../config/secret.yml")
    (app / "public" / "folder").symlink_to("../config")
    return app


def asked(path: bytes, method: str = "GET", *lines: str) -> head.RequestHead:
    start = f"{method} {PREFIX}".encode() + path + b" HTTP/1.1\r\n"
    return head_parser.RequestParser().parse(start + "\r\n".join(["Host: a", *lines, "", ""]).encode())


def answer(app: Path, path: str | bytes, *lines: str, method: str = "GET", **how: Any) -> Outcome:
    raw = path if isinstance(path, bytes) else path.encode()
    request = asked(raw, method, *lines)
    static = Static([Folder(path="/", folder="public", **how)], str(app))
    return static.answer(request, request.path[len(PREFIX) :], now=NOW)


def taken(outcome: Outcome) -> tuple[int, dict[str, str], bytes]:
    assert isinstance(outcome, FileResponse), outcome
    lines = [line.split(": ", 1) for line in b"".join(outcome.lines).decode("latin-1").split("\r\n")[1:]]
    return outcome.status, {name.lower(): value for name, value in lines}, outcome.body()


def test_a_file_is_sent_with_validators(app: Path) -> None:
    status, headers, body = taken(answer(app, "/app.css?v=1"))
    assert (status, body) == (200, b"body{}")
    assert headers == {
        "content-type": "text/css; charset=utf-8",
        "content-length": "6",
        "last-modified": STAMP,
        "etag": f'"{MODIFIED * 10**9:x}-6"',
        "accept-ranges": "bytes",
    }
    assert taken(answer(app, "/a%20b.txt"))[2] == b"odd"
    assert taken(answer(app, "/zero.txt"))[2] == b""
    assert taken(answer(app, "/app.css", method="HEAD"))[1:] == (headers, b"")


def test_cache_control_is_the_folders(app: Path) -> None:
    assert taken(answer(app, "/app.css", max_age=0.0))[1]["cache-control"] == "public, max-age=0"
    year = taken(answer(app, "/app.css", max_age=31536000.0, immutable=True))[1]["cache-control"]
    assert year == "public, max-age=31536000, immutable"


def test_what_the_client_has_already_is_not_sent_again(app: Path) -> None:
    _, headers, _ = taken(answer(app, "/app.css"))
    for line in (f"If-Modified-Since: {STAMP}", f"If-None-Match: {headers['etag']}"):
        status, again, body = taken(answer(app, "/app.css", line, max_age=60.0))
        assert (status, body) == (304, b"")
        assert (again["etag"], again["cache-control"]) == (headers["etag"], "public, max-age=60")


def test_another_content_of_the_same_second_and_size_has_another_etag(app: Path) -> None:
    first = taken(answer(app, "/app.css"))[1]["etag"]
    os.utime(app / "public/app.css", ns=(0, MODIFIED * 10**9 + 1))
    assert taken(answer(app, "/app.css"))[1]["etag"] != first


def test_a_part_of_a_file(app: Path) -> None:
    assert taken(answer(app, "/app.css", "Range: bytes=1-2"))[::2] == (206, b"od")


SOURCES = ["index.php", "up/x.PHTML", "a.rb", "v.html.erb", "m.py", "m.pyc", "i.jsp", "db.inc", "c.php~", "c.php.gz"]


def test_source_code_is_never_sent_whatever_it_is_called(app: Path) -> None:
    for name in SOURCES:
        (app / "public" / name).parent.mkdir(exist_ok=True)
        (app / "public" / name).write_text("<?php $password = 'SECRET';")
        assert answer(app, f"/{name}") == PassToApp(None), name
        refused = answer(app, "/" + name.replace(".", "%2e"), fallthrough=False)
        assert (isinstance(refused, FileRefused), refused.status) == (True, 404), name  # type: ignore[union-attr]
    for name in ("php.css", "a.phpx.txt", "a.rbs", "Gemfile.py.html"):
        (app / "public" / name).write_text("fine")
        assert taken(answer(app, f"/{name}"))[2] == b"fine"


def test_source_code_is_not_sent_as_an_index_or_by_a_link(app: Path) -> None:
    (app / "public/index.php").write_text("SECRET")
    assert answer(app, "/", index=["index.php"]) == PassToApp(None)
    for name, target in {"page.txt": "index.php", "env.txt": ".env", "git": ".git"}.items():
        (app / "public" / name).symlink_to(target)
    assert {answer(app, path) for path in ("/page.txt", "/env.txt", "/git/config")} == {PassToApp(None)}


def test_a_folder_in_a_hidden_place_is_sent(tmp_path: Path) -> None:
    app = made(tmp_path / ".releases")
    assert taken(answer(app, "/app.css"))[2] == b"body{}"


def test_a_closed_path_is_not_sent_though_a_link_in_the_folder_leads_there(app: Path) -> None:
    (app / "public/data").mkdir()
    (app / "public/data/app.sqlite3").write_text("SECRET")
    (app / "public/x").symlink_to("data")
    static = Static([Folder(path="/", folder="public")], str(app), closed=[os.fsencode(app / "public/data")])
    for path in (b"/data/app.sqlite3", b"/x/app.sqlite3"):
        assert static.answer(asked(path), path, now=NOW) == PassToApp(None)


@pytest.mark.parametrize(
    "path", ["/none.css", "/.env", "/%2eenv", "/.git/config", "/empty/", "/empty", "/", "/app.css/"]
)
def test_what_is_not_there_is_asked_of_the_app_or_is_404(app: Path, path: str) -> None:
    assert answer(app, path) == PassToApp(None)
    refused = answer(app, path, fallthrough=False)
    assert isinstance(refused, FileRefused)
    assert (refused.status, refused.loud) == (404, False)


@pytest.mark.parametrize("path", ["/link.yml", "/folder/secret.yml"])
def test_links_out_of_the_folder_are_not_followed_and_reported(app: Path, path: str) -> None:
    passed = answer(app, path)
    assert isinstance(passed, PassToApp)
    assert passed.warning is not None
    assert "secret.yml" in passed.warning
    refused = answer(app, path, fallthrough=False)
    assert isinstance(refused, FileRefused)
    assert (refused.status, refused.loud) == (404, True)


def test_a_folder_has_an_index_at_its_address_with_a_slash(app: Path) -> None:
    status, headers, body = taken(answer(app, "/docs/"))
    assert (status, headers["content-type"], body) == (200, "text/html; charset=utf-8", b"<p>docs")
    assert answer(app, "/docs") == Redirect(b"/customers/bellevue/docs/")
    assert answer(app, "/docs?a=//b&c") == Redirect(b"/customers/bellevue/docs/?a=//b&c")
    assert answer(app, "/docs?") == Redirect(b"/customers/bellevue/docs/?")
    assert answer(app, "/docs/", index=[]) == PassToApp(None)
    assert taken(answer(app, "/empty/", index=["none.html", "readme.txt"]))[2] == b"x"


def test_files_are_for_reading(app: Path) -> None:
    refused = answer(app, "/app.css", method="POST")
    assert isinstance(refused, FileRefused)
    assert refused.status == 405
    for path in ("/docs/", "/docs", "/none.css"):
        assert answer(app, path, method="POST") == PassToApp(None)
        refused = answer(app, path, method="POST", fallthrough=False)
        assert isinstance(refused, FileRefused)
        assert refused.status == 405


def compressed(app: Path, name: str, body: bytes, *, older: bool = False) -> None:
    path = app / "public" / name
    path.write_bytes(body)
    os.utime(path, (MODIFIED, MODIFIED - 1 if older else MODIFIED))


@pytest.mark.parametrize(
    ("accepted", "coding", "body"),
    [
        ("gzip, deflate, br, zstd", "br", b"brotli"),
        ("gzip, zstd", "zstd", b"zstandard"),
        ("gzip", "gzip", b"zipped"),
        ("br;q=0, gzip;q=0.5", "gzip", b"zipped"),
        ("identity", None, b"body{}"),
        ("", None, b"body{}"),
    ],
)
def test_compressed_siblings_are_sent_to_clients_that_accept_them(
    app: Path, accepted: str, coding: str | None, body: bytes
) -> None:
    for name, data in (("br", b"brotli"), ("zst", b"zstandard"), ("gz", b"zipped")):
        compressed(app, f"app.css.{name}", data)
    status, headers, sent = taken(answer(app, "/app.css", f"Accept-Encoding: {accepted}"))
    assert (status, sent) == (200, body)
    assert headers.get("content-encoding") == coding
    assert headers["content-type"] == "text/css; charset=utf-8"
    assert headers["vary"] == "Accept-Encoding"
    assert headers["content-length"] == str(len(body))
    assert headers["etag"].endswith(f'-{coding}"') == (coding is not None)
    same = answer(app, "/app.css", f"Accept-Encoding: {accepted}", f"If-None-Match: {headers['etag']}")
    assert taken(same)[0] == 304
    assert taken(same)[1]["vary"] == "Accept-Encoding"


def test_siblings_which_cannot_be_right_are_passed_over(app: Path) -> None:
    compressed(app, "app.css.br", b"old", older=True)
    compressed(app, "app.css.zst", b"")
    (app / "public" / "app.css.gz").mkdir()
    _, headers, body = taken(answer(app, "/app.css", "Accept-Encoding: br, zstd, gzip"))
    assert body == b"body{}"
    assert not {"vary", "content-encoding"} & set(headers)


def test_a_sibling_outside_of_the_folder_is_not_sent(app: Path) -> None:
    (app / "public" / "app.css.br").symlink_to("../config/secret.yml")
    assert taken(answer(app, "/app.css", "Accept-Encoding: br"))[2] == b"body{}"


def test_siblings_are_not_looked_for_where_that_is_switched_off(app: Path) -> None:
    compressed(app, "app.css.br", b"brotli")
    _, headers, body = taken(answer(app, "/app.css", "Accept-Encoding: br", precompressed=False))
    assert (body, "vary" in headers) == (b"body{}", False)


def test_an_index_has_siblings_too(app: Path) -> None:
    compressed(app, "docs/index.html.br", b"brotli")
    assert taken(answer(app, "/docs/", "Accept-Encoding: br"))[2] == b"brotli"


def test_folders_are_tried_in_turn(app: Path) -> None:
    (app / "build").mkdir()
    (app / "build" / "new.css").write_text("new")
    folders = [Folder(path="/", folder="public"), Folder(path="/sub", folder="build", fallthrough=False)]
    (app / "public" / "sub").mkdir()
    (app / "public" / "sub" / "old.css").write_text("old")
    static = Static(folders, str(app))
    assert taken(static.answer(asked(b"/sub/new.css"), b"/sub/new.css", now=NOW))[2] == b"new"
    assert isinstance(static.answer(asked(b"/sub/old.css"), b"/sub/old.css", now=NOW), FileRefused)
    open_ = Static([folders[0], Folder(path="/sub", folder="build")], str(app))
    assert taken(open_.answer(asked(b"/sub/old.css"), b"/sub/old.css", now=NOW))[2] == b"old"


def test_nothing_is_left_open_by_responses_without_a_body(app: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path, method in [
        ("/docs", "GET"),
        ("/app.css", "HEAD"),
        ("/app.css", "POST"),
        ("/link.yml", "GET"),
        ("/zero.txt", "GET"),
    ]:
        answer(app, path, method=method)
    answer(app, "/app.css", f"If-Modified-Since: {STAMP}")
    answer(app, "/app.css", "Range: bytes=9-")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("static"))


_pieces = st.sampled_from(
    [
        b"..",
        b"%2e%2e",
        b"/",
        b"%2f",
        b"%5c",
        b"\\",
        b"%00",
        b"%25",
        b"2e",
        b"public",
        b"config",
        b"secret.yml",
        b".env",
        b"docs",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_pieces, max_size=8).map(lambda parts: b"/" + b"".join(parts)))
def test_no_secret_is_ever_sent(one: Path, path: bytes) -> None:
    outcome = answer(one, path)
    if isinstance(outcome, FileResponse):
        assert taken(outcome)[2] in (b"<p>docs",)
