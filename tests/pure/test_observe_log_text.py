"""Log lines for terminals."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.observe.log_text import inert_json, plain, plain_lines, readable, span

NOON = "2026-06-01T12:00:00.000Z"


def said(**record: object) -> str:
    """Without its clock, which is that of the reader's time zone."""
    line = json.dumps({"time": NOON, "level": "info"} | record).encode()
    return readable(line, colour=False).split(" ", 1)[1]


def test_a_request_is_one_readable_line() -> None:
    asked = {
        "msg": "request",
        "status": 200,
        "ms": 3.21,
        "method": "GET",
        "path": "/b/x",
        "query": "q=1",
        "tenant": "b",
    }
    assert said(**asked, wait_ms=None, reason=None) == "200     b GET /b/x?q=1 3.2 ms"
    assert said(**asked, wait_ms=812.4, reason=None) == "200     b GET /b/x?q=1 3.2 ms cold, waited 812 ms"
    assert said(status=404, ms=0.1, method="GET", path="/x", query=None, reason="no such user") == (
        "404     GET /x 0.1 ms no such user"
    )


def test_an_apps_output_and_our_events_are_distinguished() -> None:
    assert said(msg="Listening", tenant="b", stream="stdout") == "app     b | Listening"
    assert said(msg="refused", status=400, reason=None) == "info    refused status=400"
    assert said(msg="saved", ms=1500) == "info    saved 1.5 s"


def test_a_change_of_state_says_what_was_and_for_how_long() -> None:
    reported = said(msg="tenant ready", tenant="b", state="ready", was="starting", ms=85.0, why="someone came")
    assert reported == "info    b tenant ready (was starting for 85 ms) why=someone came"


def test_a_traceback_stands_below_line_by_line() -> None:
    assert said(level="error", msg="unexpected", trace="one\n  two\x1b[2J\n") == (
        "error   unexpected trace=\n    one\n      two\\x1b[2J"
    )


@pytest.mark.parametrize("line", [b"not json", b"[]", b'{"msg":"no time"}', b'{"time":7}', b'{"time":"soon"}', b"\xff"])
def test_a_line_which_is_not_ours_is_shown_as_it_is(line: bytes) -> None:
    assert readable(line, colour=True) == plain(line.decode(errors="replace"))


def test_colour_is_added_only_where_it_is_wanted() -> None:
    line = json.dumps({"time": NOON, "level": "warning", "msg": "careful", "tenant": "b"}).encode()
    assert "\x1b[33mwarning\x1b[0m" in readable(line, colour=True)
    assert "\x1b[1mb\x1b[0m" in readable(line, colour=True)
    assert "\x1b" not in readable(line, colour=False)


@given(word=st.text())
def test_whatever_was_sent_cannot_move_the_cursor(word: str) -> None:
    for record in (
        {"msg": "request", "status": 200, "method": word, "path": word, "query": word, "tenant": word, "reason": word},
        {"msg": word, "stream": "stdout", "tenant": word},
        {"msg": word, "field": word.replace("\n", ""), "was": word},
    ):
        assert said(**record).isprintable()


@pytest.mark.parametrize(("ms", "text"), [(0.26, "0.3 ms"), (85.4, "85 ms"), (20_000, "20 s"), (120_000, "2 min")])
def test_spans_are_shown_as_short_as_they_can_be(ms: float, text: str) -> None:
    assert span(ms) == text


def test_what_could_move_the_cursor_is_escaped() -> None:
    assert plain("a\x1b[2Jb\n\u202eü") == "a\\x1b[2Jb\\n\\u202eü"


CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_no_control_character_reaches_a_terminal_as_it_is(control: str) -> None:
    """Neither C0 nor DEL nor C1, of which U+009B begins a command."""
    text = f"a{control}31mb"
    line = inert_json(msgspec.json.encode({"time": NOON, "level": "info", "msg": text}))
    assert msgspec.json.decode(line)["msg"] == text, "JSON says the same as before"
    for shown in (
        line.decode(),
        readable(line, colour=False),
        plain(text),
        plain(text.encode("latin-1").decode(errors="replace")),
    ):
        assert shown.isprintable()
    assert plain_lines(f"one\n{control}").startswith("one\n")
    assert readable(f"no JSON {control}".encode(), colour=False).isprintable()
