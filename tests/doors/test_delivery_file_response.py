"""Responses for files: X-Sendfile, conditions, ranges. Real files, no connections."""

import email.parser
import email.policy
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.delivery.files.file_response import FileRefused, FileResponse
from flyatc.delivery.files.open_file import Opened
from flyatc.delivery.files.x_sendfile import Sendfile, build
from flyatc.wire import head, head_parser

NOW = 1_800_000_000.0
MODIFIED = 1_700_000_000
STAMP = "Tue, 14 Nov 2023 22:13:20 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"
BODY = bytes(range(256)) * 8


def asked(method: str = "GET", *lines: str) -> head.RequestHead:
    data = "\r\n".join([f"{method} /x HTTP/1.1", "Host: a", *lines, "", ""])
    return head_parser.RequestParser().parse(data.encode())


def reported(status: int = 200, *lines: str, **named: str) -> head.ResponseHead:
    """As the wire hands it on: the named headers are cut out and noted."""
    answer = head_parser.ResponseParser().parse(
        "\r\n".join([f"HTTP/1.1 {status} Said", "Content-Length: 0", *lines, "", ""]).encode(), b"GET"
    )
    answer.noted |= {name.replace("_", "-").encode(): [value.encode()] for name, value in named.items()}
    return answer


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "app"


def write(app: Path, name: str, body: bytes = BODY, modified: int = MODIFIED) -> Path:
    path = app / name
    path.write_bytes(body)
    os.utime(path, (modified, modified))
    return path


def sent(
    app: Path, answer_head: head.ResponseHead, request: head.RequestHead | None = None
) -> tuple[int, dict[str, str], bytes]:
    file = Sendfile(str(app), [str(app)]).find(answer_head)
    assert isinstance(file, Opened), file
    return taken(build(file, request or asked(), answer_head, now=NOW))


def taken(answer: FileResponse) -> tuple[int, dict[str, str], bytes]:
    lines = [line.split(": ", 1) for line in b"".join(answer.lines).decode("latin-1").split("\r\n")[1:]]
    headers = {name.lower(): value for name, value in lines}
    assert len(headers) == len(lines), "a header twice"
    body = answer.body()
    assert len(body) == answer.length
    return answer.status, headers, body


def refused(app: Path, answer_head: head.ResponseHead) -> FileRefused:
    answer = Sendfile(str(app), [str(app)]).find(answer_head)
    assert isinstance(answer, FileRefused), answer
    return answer


def test_a_named_file_is_sent_with_its_type_length_and_time(app: Path) -> None:
    path = write(app, "a.txt")
    status, headers, body = sent(app, reported(x_sendfile=str(path)))
    assert (status, body) == (200, BODY)
    assert headers == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(BODY)),
        "accept-ranges": "bytes",
        "last-modified": STAMP,
        "etag": f'"{MODIFIED * 10**9:x}-800"',
    }


def test_the_apps_own_headers_are_kept(app: Path) -> None:
    path = write(app, "a.css.gz", b"\x1f\x8bzipped")
    own = {
        "content-type": "text/css",
        "content-encoding": "gzip",
        "content-disposition": "inline",
        "etag": '"app"',
        "cache-control": "public, max-age=60",
        "set-cookie": "a=b",
    }
    lines = [f"{name}: {value}" for name, value in own.items()]
    status, headers, body = sent(
        app, reported(200, "Last-Modified: x", "Accept-Ranges: none", *lines, x_sendfile=str(path))
    )
    assert (status, body) == (200, b"\x1f\x8bzipped")
    assert headers == own | {"content-length": "8", "last-modified": STAMP, "accept-ranges": "bytes"}


def test_relative_paths_are_relative_to_the_apps_directory(app: Path) -> None:
    write(app, "a.txt", b"here")
    assert sent(app, reported(x_sendfile="a.txt"))[2] == b"here"
    (app / "x").mkdir()
    assert sent(app, reported(x_sendfile="./x/../a.txt"))[2] == b"here"
    assert refused(app, reported(x_sendfile="../secret")).loud


def test_x_accel_redirect_is_decoded_and_x_sendfile_is_not(app: Path) -> None:
    write(app, "a b%20.txt", b"odd")
    odd = str(app / "a b%20.txt")
    assert sent(app, reported(x_sendfile=odd))[2] == b"odd"
    assert sent(app, reported(x_accel_redirect=odd.replace("%", "%25").replace(" ", "%20") + "?x=1"))[2] == b"odd"
    assert refused(app, reported(x_accel_redirect=odd)).status == 404


@pytest.mark.parametrize("value", ["@fallback", "files/a.txt", "/a%zz", "?"])
def test_an_x_accel_redirect_which_names_no_file_is_loudly_refused(app: Path, value: str) -> None:
    answer = refused(app, reported(x_accel_redirect=value))
    assert (answer.status, answer.loud) == (404, True)


def test_a_missing_file_is_404_and_quiet_one_outside_is_404_and_loud(app: Path) -> None:
    missing, outside = refused(app, reported(x_sendfile="none")), refused(app, reported(x_sendfile="/etc/passwd"))
    assert (missing.status, missing.loud) == (404, False)
    assert (outside.status, outside.loud) == (404, True)
    assert "/etc/passwd" in outside.reason
    assert refused(app, reported(x_accel_redirect="/a%00b")).status == 404


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body_stay_without(app: Path, status: int) -> None:
    path = write(app, "a.txt")
    assert Sendfile(str(app), [str(app)]).find(reported(status, x_sendfile=str(path))) is None
    assert Sendfile(str(app), [str(app)]).find(reported()) is None


def test_an_error_page_keeps_its_status_and_is_whole(app: Path) -> None:
    path = write(app, "404.html")
    request = asked("GET", "Range: bytes=0-1", f"If-Modified-Since: {STAMP}")
    status, headers, body = sent(app, reported(404, x_sendfile=str(path)), request)
    assert (status, body) == (404, BODY)
    assert "accept-ranges" not in headers


def test_a_206_of_the_app_is_reckoned_anew(app: Path) -> None:
    path = write(app, "a.bin")
    status, headers, body = sent(app, reported(206, "Content-Range: bytes 0-1/2", x_sendfile=str(path)))
    assert (status, body) == (200, BODY)
    assert "content-range" not in headers


def test_any_method_may_be_answered_with_a_file(app: Path) -> None:
    path = write(app, "a.bin")
    request = asked("POST", "Content-Length: 0", "Range: bytes=0-1", 'If-None-Match: "a"')
    assert sent(app, reported(200, 'ETag: "a"', x_sendfile=str(path)), request)[::2] == (200, BODY)
    status, headers, body = sent(app, reported(x_sendfile=str(path)), asked("HEAD", "Range: bytes=0-1"))
    assert (status, headers["content-length"], body) == (200, str(len(BODY)), b"")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (['If-None-Match: "x", "app"'], 304),
        (['If-None-Match: W/"app"'], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "x"', f"If-Modified-Since: {STAMP}"], 200),
        ([f"If-Modified-Since: {STAMP}"], 304),
        ([f"If-Modified-Since: {LATER}"], 304),
        (["If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT"], 200),
        (['If-Match: "app"'], 200),
        (['If-Match: "x"'], 412),
        (["If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT"], 412),
        ([f"If-Unmodified-Since: {STAMP}"], 200),
        (["Range: bytes=0-4", 'If-Range: "app"'], 206),
        (["Range: bytes=0-4", 'If-Range: "x"'], 200),
        (["Range: bytes=0-4", f"If-Range: {STAMP}"], 206),
        (["Range: bytes=0-4", f"If-Range: {LATER}"], 200),
        (["Range: lines=0-4"], 200),
        (["Range: bytes=0-4", 'If-None-Match: "app"'], 304),
    ],
)
def test_conditions_are_judged_by_the_apps_etag_and_the_files_time(app: Path, lines: list[str], status: int) -> None:
    path = write(app, "a.txt")
    own = reported(200, 'ETag: "app"', "Content-Encoding: br", "Cache-Control: public", x_sendfile=str(path))
    given_status, headers, body = sent(app, own, asked("GET", *lines))
    assert given_status == status
    assert len(body) == {200: len(BODY), 206: 5}.get(status, 0)
    if status in (304, 412):
        assert not {"content-type", "content-encoding"} & set(headers)
        assert ("etag" in headers) == ("cache-control" in headers) == (status == 304)
        assert headers.get("content-length") == (None if status == 304 else "0")


@pytest.mark.parametrize(
    ("asked_for", "part"), [("0-4", slice(0, 5)), ("-3", slice(-3, None)), ("2000-", slice(2000, None))]
)
def test_a_range_is_a_part(app: Path, asked_for: str, part: slice) -> None:
    path = write(app, "a.txt", BODY[:2000] + b"tail")
    status, headers, body = sent(app, reported(x_sendfile=str(path)), asked("GET", f"Range: bytes={asked_for}"))
    assert (status, body) == (206, (BODY[:2000] + b"tail")[part])
    first, last = part.indices(2004)[0], part.indices(2004)[1] - 1
    assert headers["content-range"] == f"bytes {first}-{last}/2004"


def test_a_range_behind_the_end_is_416(app: Path) -> None:
    path = write(app, "a.txt")
    own = reported(200, "Cache-Control: public, max-age=60", x_sendfile=str(path))
    status, headers, body = sent(app, own, asked("GET", "Range: bytes=5000-"))
    assert (status, headers, body) == (416, {**headers, "content-range": "bytes */2048", "content-length": "0"}, b"")
    assert not {"cache-control", "content-type", "last-modified"} & set(headers)


@pytest.mark.parametrize(("size", "status", "part"), [(0, 200, None), (1, 206, "bytes 0-0/1")])
def test_the_smallest_files(app: Path, size: int, status: int, part: str | None) -> None:
    path = write(app, "a", b"x" * size)
    assert sent(app, reported(x_sendfile=str(path)))[::2] == (200, b"x" * size)
    given_status, headers, body = sent(app, reported(x_sendfile=str(path)), asked("GET", "Range: bytes=0-"))
    assert (given_status, body) == (status, b"x" * size)
    assert headers.get("content-range") == part


@pytest.mark.parametrize("modified", [0, 1])
def test_times_of_reproducible_builds_vouch_for_nothing(app: Path, modified: int) -> None:
    path = write(app, "a.txt", modified=modified)
    status, headers, _ = sent(app, reported(x_sendfile=str(path)), asked("GET", f"If-Modified-Since: {STAMP}"))
    assert status == 200
    assert not {"last-modified", "etag"} & set(headers)


def test_a_file_from_the_future_is_of_now(app: Path) -> None:
    path = write(app, "a.txt", modified=int(NOW) + 1000)
    assert sent(app, reported(x_sendfile=str(path)))[1]["last-modified"] == "Fri, 15 Jan 2027 08:00:00 GMT"


_numbers = st.integers(0, 60)
_specs = st.lists(
    st.one_of(
        st.tuples(_numbers, _numbers).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        _numbers.map(lambda first: f"{first}-"),
        _numbers.map(lambda last: f"-{last}"),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    app = tmp_path_factory.mktemp("small")
    write(app, "a.bin", bytes(range(50)))
    return app


@settings(max_examples=150, deadline=None)
@given(_specs)
def test_ranges_are_what_a_simple_slice_yields(small: Path, specs: list[str]) -> None:
    whole = bytes(range(50))
    wanted = [part for part in (naive(spec, whole) for spec in specs) if part]
    request = asked("GET", "Range: bytes=" + ", ".join(specs))
    status, headers, body = sent(small, reported(x_sendfile="a.bin"), request)
    assert headers["content-length"] == str(len(body))
    if not wanted:
        assert status == 416
    elif sum(map(len, wanted)) > len(whole):
        assert (status, body) == (200, whole)
    elif len(wanted) == 1:
        assert (status, body) == (206, wanted[0])
    else:
        assert status == 206
        assert parts(headers["content-type"], body) == wanted


def naive(spec: str, whole: bytes) -> bytes:
    first, _, last = spec.partition("-")
    if not first:
        return whole[-int(last) :] if int(last) else b""
    return whole[int(first) : int(last) + 1 if last else None]


def parts(kind: str, body: bytes) -> list[bytes]:
    """As a mail reader takes a multipart body apart."""
    boundary = kind.partition("boundary=")[2].encode()
    assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
    found = []
    for part in body.split(b"\r\n--" + boundary)[1:-1]:
        head_, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = email.parser.BytesHeaderParser(policy=email.policy.HTTP).parsebytes(head_ + b"\r\n\r\n")
        assert fields["Content-Type"] == "application/octet-stream"
        first, last = fields["Content-Range"].removeprefix("bytes ").removesuffix("/50").split("-")
        assert len(data) == int(last) - int(first) + 1
        found.append(data)
    return found
