"""The media type of a file."""

import pytest

from flyatc.delivery.files import file_response


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"index.html", b"text/html; charset=utf-8"),
        (b"app.css", b"text/css; charset=utf-8"),
        (b"app.js", b"text/javascript; charset=utf-8"),
        (b"app.mjs", b"text/javascript; charset=utf-8"),
        (b"a.txt", b"text/plain; charset=utf-8"),
        (b"a.b.JSON", b"application/json"),
        (b"app.js.map", b"application/json"),
        (b"app.webmanifest", b"application/manifest+json"),
        (b"logo.svg", b"image/svg+xml"),
        (b"p.PNG", b"image/png"),
        (b"p.avif", b"image/avif"),
        (b"p.webp", b"image/webp"),
        (b"f.woff2", b"font/woff2"),
        (b"m.wasm", b"application/wasm"),
        (b"v.mp4", b"video/mp4"),
        (b"d.pdf", b"application/pdf"),
        (b"backup.tar.gz", b"application/gzip"),
        (b"/srv/v1.2/LICENSE", b"application/octet-stream"),
        (b"/srv/.css", b"application/octet-stream"),
        (b".css", b"application/octet-stream"),
        (b"odd.\xff", b"application/octet-stream"),
        (b"", b"application/octet-stream"),
    ],
)
def test_the_end_of_the_name_says_what_it_is(name: bytes, kind: bytes) -> None:
    assert file_response.of(name) == kind
