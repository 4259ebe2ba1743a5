"""The tenant of a path, and the path that the app gets."""

from collections.abc import Iterator

import pytest

from whole.daemon import Daemon
from whole.visits import Line, ask, get, parrot, request, seen, serving

USERS = """
users:
  ann: {tenants: ["2025", 2025/winter, 2025/winter/finals]}
  bob: null
  cat:
    tenants:
      cut: {strip_prefix: true}
      bare: {slash: false}
      both: {slash: false, strip_prefix: true}
  dog: {ready: "{prefix}/up"}
  "*": {match: "[0-9]{1,4}", tenants: [x]}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("routing"), parrot(users=USERS)) as one:
        yield one


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    config = parrot(server="  root: /shows\n  health: /up", users="users: {ann: {tenants: [one]}, bob: null}")
    with serving(tmp_path_factory.mktemp("rooted"), config) as one:
        yield one


def served_by(daemon: Daemon, target: str) -> str | None:
    """The tenant of the log line."""
    reply = get(daemon, target)
    line = daemon.until_reported("request", request_id=reply.one("x-request-id"))
    tenant = line["tenant"]
    return None if tenant is None else str(tenant)


@pytest.mark.parametrize(
    ("target", "tenant"),
    [
        ("/ann/2025/x", "ann/2025"),
        ("/ann/2025/winterly", "ann/2025"),
        ("/ann/2025/winter/x", "ann/2025/winter"),
        ("/ann/2025/winter/finals/x", "ann/2025/winter/finals"),
        ("/ann/2025/winter/finalists", "ann/2025/winter"),
        ("/bob/", "bob"),
        ("/bob/2025/winter/", "bob"),
        ("/17/x/seen", "17/x"),
    ],
)
def test_the_longest_name_on_whole_segments_wins(daemon: Daemon, target: str, tenant: str) -> None:
    assert served_by(daemon, target) == tenant


@pytest.mark.parametrize(
    "target",
    [
        "/", "/ann", "/ann/", "/ann/2026/", "/ann/2025x/", "/annx/2025/", "/Ann/2025/", "/nonesuch/", "//ann/2025/",
        "/ann//2025/", "/ann%2F2025/", "/ann/%32025/", "/12345/x/", "/1a/x/", "/17/y/", "/*/x/", "/~/",
    ],
)  # fmt: skip
def test_a_path_of_no_user_is_404(daemon: Daemon, target: str) -> None:
    assert get(daemon, target).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/bob/../ann/2025/", "/bob/..", "/bob/./seen", "/bob/%2e%2e/ann/2025/", "/bob/%2E./x", "/bob/%2f../ann/",
        "/bob/..%2fann/2025/", "/bob/..\\ann\\2025/", "/bob/%5c..%5cann/", "/bob/%252e%252e/ann/", "/bob/%00",
        "/bob/x%2500",
        "/bob/..;/ann/", "/../ann/2025/seen", "/ann/2025/../../bob/seen",
    ],
)  # fmt: skip
def test_dot_segments_lead_nowhere(daemon: Daemon, target: str) -> None:
    reply = get(daemon, target)
    assert reply.status == 400
    line = daemon.until_reported("request", request_id=reply.one("x-request-id"))
    assert line["tenant"] is None
    assert line["path"] == target


@pytest.mark.parametrize(
    "byte", [b"\x00", b"\x01", b"\x0b", b"\x1b", b"\x7f", b"\x80", b"\xff", b"\t", b" ", b"\r", b"\n"]
)
def test_raw_control_bytes_in_the_target_are_refused(daemon: Daemon, byte: bytes) -> None:
    with Line(daemon) as line:
        line.send(b"GET /bob/se" + byte + b"en HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.reply().status == 400
        assert line.ended()


@pytest.mark.parametrize(
    "target",
    [
        "/bob/seen?a=1;b=2&c=%zz&d",
        "/bob/seen?",
        "/bob/seen?x=/../y",
        "/bob/a//b/%2F%7e%C3%A4/seen?q=%2e%2e&q=+",
        "/bob/;jsessionid=1/:@!$&'()*+,=/seen",
        "/bob/.well-known/seen",
        "/bob/..x/x../...//seen",
        "/bob/a%0d%0ab/seen",
        '/bob/"<>^`{|}/seen',
    ],
)
def test_path_and_query_reach_the_app_byte_for_byte(daemon: Daemon, target: str) -> None:
    assert seen(get(daemon, target)).line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_missing_final_slash_is_added_by_308_with_the_query(daemon: Daemon, method: str) -> None:
    reply = get(daemon, "/ann/2025/winter?x=1&y=;", method=method)
    assert (reply.status, reply.one("location"), reply.body) == (308, "/ann/2025/winter/?x=1&y=;", b"")
    assert get(daemon, "/bob").one("location") == "/bob/"
    assert get(daemon, "/17/x?").one("location") == "/17/x/?"


def test_an_app_may_have_its_address_without_a_slash_too(daemon: Daemon) -> None:
    assert seen(get(daemon, "/cat/bare?x")).line == "GET /cat/bare?x HTTP/1.1"
    assert seen(get(daemon, "/cat/bare/")).line == "GET /cat/bare/ HTTP/1.1"
    assert seen(get(daemon, "/cat/both?x")).line == "GET /?x HTTP/1.1"


def test_a_stripped_prefix_is_named_in_a_header(daemon: Daemon) -> None:
    for target, cut in [("/cat/cut/a/seen?x", "/a/seen?x"), ("/cat/cut/?x", "/?x"), ("/cat/cut//seen", "//seen")]:
        app_saw = seen(get(daemon, target, "X-Forwarded-Prefix: /evil"))
        assert app_saw.line == f"GET {cut} HTTP/1.1"
        assert app_saw.one("X-Forwarded-Prefix") == "/cat/cut"
    assert get(daemon, "/cat/cut").status == 308
    assert seen(get(daemon, "/bob/seen", "X-Forwarded-Prefix: /evil")).one("X-Forwarded-Prefix") is None


def test_an_absolute_target_names_host_and_path(daemon: Daemon) -> None:
    app_saw = seen(get(daemon, "http://Other.example:81/bob/seen?q"))
    assert app_saw.line == "GET /bob/seen?q HTTP/1.1"
    assert app_saw.one("Host") == app_saw.one("X-Forwarded-Host") == "Other.example:81"
    assert get(daemon, "http://other.example").status == 404
    assert get(daemon, "https://other.example?x").status == 404


@pytest.mark.parametrize(
    "target", ["http:///bob/seen", "http://", "http://a b/", "http://a\\b/bob/", "ftp://x/bob/", "bob/"]
)
def test_other_targets_are_refused(daemon: Daemon, target: str) -> None:
    assert get(daemon, target).status == 400


def test_options_of_everything_is_answered_here(daemon: Daemon) -> None:
    reply = get(daemon, "*", method="OPTIONS")
    assert (reply.status, reply.body) == (200, b"")
    assert get(daemon, "*").status == 400


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"CONNECT db.internal:5432 HTTP/1.1\r\nHost: db.internal:5432\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS hello: reported at once, not after a time-out
        (b"GET /bob/seen HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        (b"GET /bob/seen\r\n\r\n", 400),
        (b"HELO there\r\n\r\n", 501),
        (b"GET  /bob/seen HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /bob/seen HTTP/1.1\r\n\r\n", 400),
        (b"GET /bob/seen HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /bob/seen HTTP/1.1\r\nHost: x/../y\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(daemon: Daemon, sent: bytes, status: int) -> None:
    with Line(daemon) as line:
        assert line.send(sent).reply().status == status
        assert line.ended()


def test_what_stands_before_the_user_is_the_root(rooted: Daemon) -> None:
    assert seen(get(rooted, "/shows/ann/one/seen")).line == "GET /shows/ann/one/seen HTTP/1.1"
    assert seen(get(rooted, "/shows/bob/seen")).line == "GET /shows/bob/seen HTTP/1.1"
    assert get(rooted, "/shows/ann/one?q").one("location") == "/shows/ann/one/?q"
    for target in ("/ann/one/seen", "/shows", "/shows/", "/showsann/one/seen", "/shows/../shows/bob/seen"):
        assert get(rooted, target).status in (400, 404), target


def test_the_daemons_own_health_path_is_answered_without_a_tenant(rooted: Daemon) -> None:
    assert ask(rooted, request("/up?x")).body == b"ok\n"
    assert ask(rooted, request("/up", version="1.0")).status == 200
    marker = get(rooted, "/nonesuch").one("x-request-id")
    rooted.until_reported("request", request_id=marker)
    assert not rooted.reported("request", path="/up")  # health checks leave no line


def test_asking_a_tenant_for_its_health_is_no_visit(daemon: Daemon) -> None:
    assert get(daemon, "/dog/up").body == b"asleep\n"
    assert get(daemon, "/dog/up", method="HEAD").body == b""
    assert not daemon.reported("tenant", tenant="dog")  # it was left asleep
    assert get(daemon, "/dog/seen").status == 200
    assert seen(get(daemon, "/dog/up?x")).line == "GET /dog/up?x HTTP/1.1"
    marker = get(daemon, "/dog/seen").one("x-request-id")
    daemon.until_reported("request", request_id=marker)
    assert not daemon.reported("request", path="/dog/up")
