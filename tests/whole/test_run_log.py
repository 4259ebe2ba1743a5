"""The log lines of a wrapped app: thruster's case 44, and what thruster logs wrongly or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from whole.visits import Line, request, say
from whole.wrapped import PARROT_APP, Wrapped, answering, wrapped, wrapping


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    with wrapped(tmp_path_factory.mktemp("log"), *PARROT_APP) as running:
        yield running


def reported(one: Wrapped, identity: str) -> dict[str, Any]:
    return one.until_reported("request", request_id=identity)


def test_a_request_is_one_line_with_all_of_thrusters_fields(one: Wrapped) -> None:
    """Case 44. Of the first visit too, which waited for the app."""
    with Line(one) as line:
        for identity in ("first", "second"):
            asked = ("Content-Type: text/css", "User-Agent: visitor/1", f"X-Request-Id: {identity}")
            target = answering("content-type: text/html", more="a=%zz;b")
            reply = line.get(target, *asked, method="POST", body=b"body")
            found = reported(one, identity)
            assert (
                found.items()
                >= {
                    "path": "/ann/say",
                    "query": target.partition("?")[2],
                    "status": 200,
                    "method": "POST",
                    "req_content_length": 4,
                    "req_content_type": "text/css",
                    "resp_content_length": len(reply.body),
                    "resp_content_type": "text/html",
                    "remote": "127.0.0.1",
                    "user_agent": "visitor/1",
                    "cache": "bypass",
                    "proto": "HTTP/1.1",
                }.items()
            )
            assert found["ms"] > 0
            assert found["user"] is found["tenant"] is found["reason"] is None


def test_bodies_in_chunks_have_no_announced_length_and_http_1_0_is_logged(one: Wrapped) -> None:
    with Line(one) as line:
        line.send(request("/seen", "Transfer-Encoding: chunked", "X-Request-Id: chunks", method="POST"))
        assert line.send(b"2\r\nxx\r\n0\r\n\r\n").reply().status == 200
    assert reported(one, "chunks").items() >= {"req_content_length": None, "req_content_type": None}.items()
    with Line(one) as line:
        line.send(request("/seen", "X-Request-Id: old", version="1.0")).reply()
    assert reported(one, "old").items() >= {"proto": "HTTP/1.0", "req_content_length": 0}.items()


@pytest.mark.parametrize("kind", ['text/"odd\\', "x/" + "y" * 5000, "\xe9", ""])
def test_an_odd_type_of_the_apps_stays_a_word(one: Wrapped, kind: str) -> None:
    with Line(one) as line:
        reply = line.get(answering(f"CONTENT-TYPE: {kind}"))
    assert reported(one, reply.one("x-request-id") or "")["resp_content_type"] == kind


def test_the_cache_status_is_logged(one: Wrapped) -> None:
    with Line(one) as line:
        for cache, start in (("miss", "warm"), ("hit", None)):
            reply = line.get(answering("Cache-Control: public, max-age=60", "Content-Type: a/b", more="reported"))
            line_of_log = reported(one, reply.one("x-request-id") or "")
            assert (line_of_log["cache"], reply.one("x-cache"), line_of_log["start"]) == (cache, cache, start)
            assert (line_of_log["resp_content_length"], line_of_log["resp_content_type"]) == (5, "a/b")


def test_a_response_that_breaks_off_is_logged_as_such(one: Wrapped) -> None:
    """A difference from thruster that is meant: it tells nothing of this."""
    half = say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", more="&close=1")
    with Line(one) as line:
        assert not line.get(half, "X-Request-Id: broken").complete
    line_of_log = reported(one, "broken")
    assert (line_of_log["status"], line_of_log["resp_content_length"]) == (200, 4)
    assert line_of_log["reason"] == "the app closed the connection in the middle of its response"


def test_a_client_that_leaves_amid_a_response_is_logged(one: Wrapped) -> None:
    """A difference from thruster that is meant: it tells nothing of this."""
    with Line(one) as line:
        line.send(request("/clock?n=1000&pause=0.01", "X-Request-Id: left")).until(b"data:")
    assert reported(one, "left").items() >= {"status": 200, "reason": "the client left"}.items()


@pytest.mark.parametrize("header", ["X-Forwarded-For: 6.6.6.6", "Fly-Client-IP: 6.6.6.6", "X-Real-IP: 6.6.6.6"])
def test_no_client_can_choose_its_address(one: Wrapped, header: str) -> None:
    """A difference from thruster that is meant: it believes X-Forwarded-For."""
    with Line(one) as line:
        reply = line.get("/seen", header)
    assert reported(one, reply.one("x-request-id") or "")["remote"] == "127.0.0.1"


def test_request_lines_can_be_switched_off_and_debug_logs_more(tmp_path: Path) -> None:
    """Case 44."""
    with wrapping(tmp_path, env={"LOG_REQUESTS": "0", "DEBUG": "1"}) as one:
        one.start()
        assert one.get("/up").status == 200
        assert one.stop() == 0
        assert not one.reported("request")
        assert one.reported("app ended", code=0)
        assert one.reported("", level="debug")
