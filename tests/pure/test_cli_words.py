"""Times, texts and log lines as people read them."""

import json

import pytest

from flyatc.cli import lines, words
from flyatc.cli.status import row
from flyatc.tenants.lifecycle import State
from flyatc.tenants.status import Status

NOON = "2026-03-01T12:00:00.000000Z"
NOON_UNIX = 1772366400.0


@pytest.fixture(autouse=True)
def _no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("past", "said"),
    [
        (0, "now"),
        (0.9, "now"),
        (1, "1s ago"),
        (59.4, "59s ago"),
        (180, "3m ago"),
        (5399, "90m ago"),
        (7200, "2h ago"),
        (86400, "24h ago"),
        (3 * 86400, "3d ago"),
        (-12, "in 12s"),
        (-600, "in 10m"),
    ],
)
def test_times_are_told_from_now(past: float, said: str) -> None:
    assert words.ago(NOON, NOON_UNIX + past) == said


def test_what_could_move_the_cursor_is_escaped() -> None:
    assert words.plain("a\x1b[2Jb\n\u202eü") == "a\\x1b[2Jb\\n\\u202eü"


def test_one_user_two_users() -> None:
    assert (words.count(1, "user"), words.count(0, "user"), words.count(2, "user")) == ("1 user", "0 users", "2 users")


def said(**record: object) -> str:
    return lines.readable(json.dumps({"time": NOON, "level": "info"} | record).encode()).split(" ", 1)[1]


def test_a_request_is_one_readable_line() -> None:
    told = said(
        msg="request",
        status=200,
        ms=3.21,
        method="GET",
        path="/b/x",
        query="q=1",
        tenant="b",
        wait_ms=812.4,
        reason=None,
    )
    assert told == "200     b GET /b/x?q=1 3.2 ms, cold, waited 812 ms"
    assert said(status=404, ms=0.1, method="GET", path="/x", query=None, reason="no such user") == (
        "404     GET /x 0.1 ms, no such user"
    )


def test_an_apps_output_and_our_events_are_told_apart() -> None:
    assert said(msg="Listening\x1b[2J", tenant="b", stream="stdout") == "app     b | Listening\\x1b[2J"
    assert said(msg="tenant ready", tenant="b", state="ready", why=None) == "info    b tenant ready state=ready"


@pytest.mark.parametrize("line", [b"not json", b"[]", b'{"msg":"no time"}', b'{"time":7}', b'{"time":"soon"}', b"\xff"])
def test_a_line_which_is_not_ours_is_shown_as_it_is(line: bytes) -> None:
    assert lines.readable(line) == words.plain(line.decode(errors="replace"))


def cells(one: Status, now: float | None) -> list[str]:
    return [cell.text for cell in row(one, now)]


def test_a_failed_tenant_says_why() -> None:
    one = Status(
        tenant="b",
        user="b",
        state=State.FAILED,
        since=NOON,
        crashes=2,
        last_exit="exit code 3",
        reason="it does not start",
        unsaved=True,
    )
    assert cells(one, NOON_UNIX + 60) == [
        "b",
        "failed",
        "1m ago",
        "0",
        "",
        "",
        "unsaved",
        "it does not start; crashes: 2; last: exit code 3",
    ]


def test_an_idle_tenant_says_when_it_stops_to_people_and_when_it_began_to_programs() -> None:
    one = Status(
        tenant="b",
        user="b",
        state=State.READY,
        since=NOON,
        pid=7,
        port=40000,
        idle_at=NOON,
        saved_at=NOON,
        last_exit="x",
    )
    assert cells(one, NOON_UNIX - 30)[-1] == "stops in 30s if nobody comes"
    assert cells(one, None) == ["b", "ready", NOON, "0", "7", "40000", NOON, ""]
