"""X-Sendfile of a wrapped app: thruster's cases 25 to 28, with the differences that are meant. It runs in a folder of
its own, and that is the only one whose files it may name."""

import os
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from whole.daemon import eventually
from whole.visits import Line, Reply, get, say, seen
from whole.wrapped import PARROT_APP, Wrapped, answering, wrapped, wrapping

CONTENT = b"0123456789" * 200
MODIFIED = 1_700_000_000


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "public").mkdir()
    (folder / "public/file.txt").write_bytes(CONTENT)
    (folder / "public/app.css.gz").write_bytes(CONTENT)
    os.utime(folder / "public/file.txt", (MODIFIED, MODIFIED))
    with wrapped(folder, *PARROT_APP) as running:
        yield running


def named(one: Wrapped, path: str | Path, *more: str) -> str:
    return answering(f"X-Sendfile: {one.folder / path}", *more, body=b"")


def test_the_app_learns_that_it_may_name_files(one: Wrapped) -> None:
    """Case 1. No visitor can say so."""
    asked = seen(get(one, "/seen", "X-Sendfile-Type: X-Accel-Redirect", "X-Accel-Mapping: /=/etc"))
    assert (asked.all("x-sendfile-type"), asked.all("x-accel-mapping")) == (["X-Sendfile"], [])


@pytest.mark.parametrize("absolute", [True, False])
def test_the_file_is_sent_in_place_of_the_response(one: Wrapped, absolute: bool) -> None:
    """Case 25. A relative path begins where the wrapper was started."""
    reply = get(one, answering(f"X-Sendfile: {one.folder / 'public/file.txt' if absolute else 'public/file.txt'}"))
    assert (reply.status, reply.body) == (200, CONTENT)
    assert reply.one("content-type") == "text/plain; charset=utf-8"
    assert (reply.one("content-length"), reply.one("accept-ranges")) == ("2000", "bytes")
    assert reply.one("last-modified") == formatdate(MODIFIED, usegmt=True)
    assert reply.one("x-sendfile") is None


@pytest.mark.parametrize(
    ("header", "status", "body", "reported"),
    [
        ("Range: bytes=0-4", 206, CONTENT[:5], "bytes 0-4/2000"),
        ("Range: bytes=-3", 206, CONTENT[-3:], "bytes 1997-1999/2000"),
        ("Range: bytes=5000-", 416, None, "bytes */2000"),
        (f"If-Modified-Since: {formatdate(MODIFIED, usegmt=True)}", 304, b"", None),
        ('If-None-Match: "tag"', 304, b"", None),
        ('If-Match: "other"', 412, None, None),
    ],
)
def test_parts_and_conditions_are_ours_to_judge(
    one: Wrapped, header: str, status: int, body: bytes | None, reported: str | None
) -> None:
    """Case 26."""
    reply = get(one, named(one, "public/file.txt", 'ETag: "tag"'), header)
    assert (reply.status, reply.one("content-range")) == (status, reported)
    assert body in (None, reply.body)


def test_a_file_that_is_encoded_already_has_its_own_length(one: Wrapped) -> None:
    """Rails' assets: thruster's issue 8."""
    reply = get(one, named(one, "public/app.css.gz", "Content-Encoding: gzip"), "Accept-Encoding: gzip")
    assert (reply.one("content-encoding"), reply.body) == ("gzip", CONTENT)


def test_a_missing_file_is_404_without_what_the_app_said_of_it(one: Wrapped) -> None:
    """Case 28."""
    reply = get(one, named(one, "public/missing", "Cache-Control: public, max-age=60", 'ETag: "a"'))
    assert (reply.status, reply.one("cache-control"), reply.one("etag")) == (404, "no-store", None)


def test_a_body_beside_it_is_thrown_away(one: Wrapped) -> None:
    """A difference from thruster that is meant: there the connection is cut."""
    with Line(one) as line:
        reply = line.get(answering("X-Sendfile: public/file.txt", body=b"not this"))
        assert (reply.body, line.get("/seen").status) == (CONTENT, 200)


@pytest.mark.parametrize("path", ["public", "public/", "/etc/hostname", "public/../../../etc/hostname"])
def test_folders_and_what_is_outside_are_404(one: Wrapped, path: str) -> None:
    """A difference from thruster that is meant: there a folder is listed, and everything may be sent."""
    assert get(one, named(one, path)).status == 404


@pytest.mark.parametrize("prefix", ["/a/../say?", "/a//say?", "/index.html?", "/a/index.html?"])
def test_the_address_has_no_say_in_it(one: Wrapped, prefix: str) -> None:
    """A difference from thruster that is meant: there these are refused or redirected."""
    reply = get(one, named(one, "public/file.txt").replace("/ann/say?", prefix))
    assert (reply.status, reply.body) == (200, CONTENT)


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_other_methods_get_it_too(one: Wrapped, method: str) -> None:
    reply: Reply = get(one, named(one, "public/file.txt"), method=method)
    assert (reply.status, reply.one("content-length")) == (200, "2000")
    assert reply.body == (CONTENT if method == "POST" else b"")


def test_a_long_file_is_not_compressed_into_a_part(one: Wrapped) -> None:
    lines = say(b"HTTP/1.1 200 OK\r\nX-Sendfile: public/file.txt\r\nContent-Length: 0\r\n\r\n")
    reply = get(one, lines, "Accept-Encoding: gzip", "Range: bytes=0-1499")
    assert (reply.status, reply.one("content-encoding"), reply.body) == (206, None, CONTENT[:1500])


def test_a_file_that_was_edited_is_sent_as_it_is_now_though_the_response_came_from_the_cache(one: Wrapped) -> None:
    """Case 29."""
    file = one.folder / "public/edited.txt"
    file.write_bytes(b"before")
    address = named(one, "public/edited.txt", "Cache-Control: public, max-age=60")
    first, second = get(one, address), get(one, address)
    file.write_bytes(b"and after")
    third = get(one, address)
    assert [(reply.one("x-cache"), reply.body) for reply in (first, second, third)] == [
        ("miss", b"before"),
        ("hit", b"before"),
        ("hit", b"and after"),
    ]


def test_folders_of_the_file_are_open_and_what_is_outside_is_logged_with_the_setting(tmp_path: Path) -> None:
    uploads, folder = tmp_path / "uploads", tmp_path / "app"
    for place in (uploads, folder):
        place.mkdir()
        (place / "file.txt").write_bytes(CONTENT)
    text = "app: {delivery: {sendfile: {roots: [../uploads]}}}\nstorage: {mode: none}\n"
    (folder / "app.yaml").write_text(text)
    options, env = ("--config", "app.yaml"), {"FLYATC_HOST": "127.0.0.1"}
    with wrapping(folder, *PARROT_APP, options=options, env=env) as one:
        one.start()
        assert one.until_reported("listening")["on"] == f"127.0.0.1:{one.port}"
        assert get(one, answering(f"X-Sendfile: {uploads / 'file.txt'}", body=b"")).body == CONTENT
        assert get(one, answering(f"X-Sendfile: {folder / 'file.txt'}", body=b"")).status == 404
        setting = "app.delivery.sendfile.roots in the file of --config lists them"
        eventually(lambda: any(setting in str(line.get("reason")) for line in one.lines()), what="the setting")
