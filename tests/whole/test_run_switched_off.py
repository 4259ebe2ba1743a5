"""A wrapper with everything switched off that can be: it changes nothing."""

from collections.abc import Iterator

import pytest

from whole.visits import Line, get, seen
from whole.wrapped import PARROT_APP, Wrapped, answering, wrapped

OFF = {
    "FORWARD_HEADERS": "false",
    "THRUSTER_CACHE_SIZE": "0",
    "CACHE_SIZE": "64MB",  # that does not count
    "GZIP_COMPRESSION_ENABLED": "0",
    "X_SENDFILE_ENABLED": "0",
}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    folder = tmp_path_factory.mktemp("off")
    (folder / "file").write_bytes(b"of the disk")
    with wrapped(folder, *PARROT_APP, env=OFF) as running:
        yield running


def test_only_our_own_word_counts(one: Wrapped) -> None:
    """Case 3."""
    spoofed = (
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: a.b",
        "Forwarded: for=9.9.9.9",
    )
    asked = seen(get(one, "/seen", *spoofed))
    assert asked.all("x-forwarded-for") == ["127.0.0.1"]
    assert (asked.one("x-forwarded-proto"), asked.one("x-forwarded-host")) == ("http", "here.example")
    assert asked.all("forwarded") == []


def test_nothing_is_cached(one: Wrapped) -> None:
    """Cases 17 and 43."""
    with Line(one) as line:
        replies = [line.get(answering("Cache-Control: public, max-age=60")) for _ in range(2)]
        assert [reply.one("x-cache") for reply in replies] == [None, None]
        assert line.get("/tally").json["say"] == 2


def test_nothing_is_compressed_and_no_vary_is_added(one: Wrapped) -> None:
    """Case 22."""
    reply = get(one, answering("Content-Type: text/html", body=b"x" * 2000), "Accept-Encoding: gzip, br, zstd")
    assert (reply.one("content-encoding"), reply.one("vary"), reply.body) == (None, None, b"x" * 2000)


def test_no_file_is_sent_and_the_apps_path_is_not_revealed(one: Wrapped) -> None:
    """Case 30. That the header is cut out is a difference that is meant."""
    assert seen(get(one, "/seen", "X-Sendfile-Type: X-Sendfile")).all("x-sendfile-type") == []
    reply = get(one, answering(f"X-Sendfile: {one.folder / 'file'}", body=b"of the app"))
    assert (reply.body, reply.one("x-sendfile")) == (b"of the app", None)
