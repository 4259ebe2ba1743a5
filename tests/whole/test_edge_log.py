"""One JSON line a request, whatever the request."""

import json
from collections.abc import Iterator
from datetime import datetime

import pytest

from whole.daemon import Daemon
from whole.visits import Line, ask, get, parrot, request, say, serving

FIELDS = {
    "time", "level", "msg", "status", "ms", "method", "host", "path", "query", "user", "tenant", "start", "wait_ms",
    "cache", "bytes", "req_content_length", "req_content_type", "resp_content_length", "resp_content_type", "proto",
    "remote", "request_id", "user_agent", "reason",
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("log"), parrot(users="users: {ann: {tenants: [one]}, bob: null}")) as one:
        yield one


def test_the_line_has_all_of_a_request(daemon: Daemon) -> None:
    reply = get(
        daemon, "/ann/one/seen?a=1&b", "User-Agent: Test/1.0 (x)", "X-Request-Id: cold-one", method="PUT", body=b"xyz"
    )
    cold = daemon.until_reported("request", request_id="cold-one")
    assert set(cold) == FIELDS
    assert (cold["level"], cold["status"], cold["method"], cold["host"]) == ("info", 200, "PUT", "here.example")
    assert (cold["path"], cold["query"], cold["user"], cold["tenant"]) == ("/ann/one/seen", "a=1&b", "ann", "ann/one")
    assert (cold["start"], cold["remote"], cold["user_agent"], cold["reason"]) == (
        "cold",
        "127.0.0.1",
        "Test/1.0 (x)",
        None,
    )
    assert 0 < cold["wait_ms"] <= cold["ms"]
    assert cold["bytes"] > len(reply.body)
    assert datetime.fromisoformat(cold["time"]).utcoffset() is not None
    get(daemon, "/ann/one/seen", "X-Request-Id: warm-one")
    warm = daemon.until_reported("request", request_id="warm-one")
    assert set(warm) == FIELDS
    assert (warm["start"], warm["wait_ms"], warm["query"], warm["user_agent"]) == ("warm", None, None, None)
    assert warm["ms"] > 0


def test_the_octets_are_those_of_the_wire(daemon: Daemon) -> None:
    answer = say(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", more="&pause=0.02"
    )
    with Line(daemon) as line:
        line.send(request(answer.replace("/ann/", "/bob/"), "Connection: close", "X-Request-Id: octets"))
        whole = line.rest()
    assert daemon.until_reported("request", request_id="octets")["bytes"] == len(whole)


@pytest.mark.parametrize(
    ("agent", "path"),
    [
        ('evil", "status": 200, "x": "', '/bob/"quoted"/seen'),
        ("back\\slash \\u0000 \\", "/bob/seen{}"),
        ("latin-1: \xe9\xff\x80\xa0", "/bob/seen%e9"),
        ("a\tb", "/bob/`~^|/seen"),
        ("\x85\xad", "/bob/<script>/seen"),
        ("x" * 8000, "/bob/" + "y" * 8000),
        ("", "/bob/seen"),
    ],
)
def test_hostile_words_stay_words(daemon: Daemon, agent: str, path: str) -> None:
    for target, query in ((path, '"\\'), ("/nonesuch" + path, "\\n")):
        reply = get(daemon, f"{target}?{query}", f"User-Agent: {agent}", f"Referer: {agent}")
        reported = daemon.until_reported("request", request_id=reply.one("X-Request-Id"))
        assert set(reported) == FIELDS
        assert (reported["path"], reported["query"]) == (target, query)
        assert (reported["user_agent"] or "") == agent.strip(" \t")


def test_an_unparsable_request_is_logged_without_its_bytes(daemon: Daemon) -> None:
    reply = ask(daemon, b'GET / HTTP/1.1\r\nHost: x\r\nX: \x00"\x1b[2J\r\n\r\n')
    reported = daemon.until_reported("refused", request_id=reply.one("X-Request-Id"))
    assert (reported["status"], reported["remote"]) == (400, "127.0.0.1")


def test_every_line_of_the_log_is_json(daemon: Daemon) -> None:
    for line in daemon.log_file.read_bytes().splitlines():
        assert isinstance(json.loads(line), dict)


def test_what_comes_from_the_pipeline_has_a_line_each(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(b"".join(request("/nonesuch" if n % 2 else "/bob/seen", f"X-Request-Id: p{n}") for n in range(20)))
        statuses = [line.reply().status for _ in range(20)]
    assert statuses == [200, 404] * 10
    for n in range(20):
        assert daemon.until_reported("request", request_id=f"p{n}")["status"] == statuses[n]
