"""Times and texts as the CLI prints them."""

import pytest

from flyatc.cli import output
from flyatc.cli.status import row, standing
from flyatc.control.types import Closed, Daemon, Overview, Paused
from flyatc.tenants.state import State, Status

NOON = "2026-03-01T12:00:00.000000Z"
NOON_UNIX = 1772366400.0


@pytest.mark.parametrize(
    ("past", "said"),
    [
        (0, "now"),
        (0.9, "now"),
        (1, "1 s ago"),
        (59.4, "59 s ago"),
        (180, "3 min ago"),
        (5399, "1 h 29 min ago"),
        (7200, "2 h ago"),
        (86400, "1 d ago"),
        (3 * 86400, "3 d ago"),
        (-12, "in 12 s"),
        (-600, "in 10 min"),
    ],
)
def test_times_are_shown_relative_to_now(past: float, said: str) -> None:
    assert output.ago(NOON, NOON_UNIX + past) == said


def test_one_user_two_users() -> None:
    assert (output.count(1, "user"), output.count(0, "user"), output.count(2, "user")) == (
        "1 user",
        "0 users",
        "2 users",
    )


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
        "1 min ago",
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
    assert cells(one, NOON_UNIX - 30)[-1] == "stops in 30 s if no request comes"
    assert cells(one, None) == ["b", "ready", NOON, "0", "7", "40000", NOON, ""]


WINTER = Status(tenant="ann/winter", user="ann", state=State.READY, since=NOON)
DAEMON = Daemon(version="1", pid=1, started=NOON, listen="*:3000", config="tenants.yaml", running=1, limit=1)


def paused(scope: str | None, waiting: int = 0) -> Paused:
    return Paused(scope=scope, since=NOON, limit=30.0, waiting=waiting)


@pytest.mark.parametrize(
    ("closed", "pauses", "said"),
    [
        ([], [], ""),
        ([], [paused("bob", 3), paused("ann/summer", 3)], ""),
        ([], [paused("ann/winter")], "paused"),
        ([], [paused("ann", 3)], "paused with ann, 3 waiting"),
        ([], [paused(None, 1), paused("ann")], "paused with ann"),
        ([], [paused(None, 1)], "paused with everything, 1 waiting"),
        (["ann"], [paused("ann/winter")], "closed for maintenance"),
        ([None], [], "closed for maintenance"),
    ],
)
def test_a_tenants_note_says_whether_clients_reach_it(
    closed: list[str | None], pauses: list[Paused], said: str
) -> None:
    signs = [Closed(scope=scope, message="back at noon") for scope in closed]
    overview = Overview(tenants=[WINTER], daemon=DAEMON, closed=signs, paused=pauses)
    assert standing(WINTER, overview) == said
    assert row(WINTER, None, said)[-1].text == said
