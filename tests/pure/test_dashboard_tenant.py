"""Decisions of a tenant's pages: reasons, times, the version that a form means, names of files, the search in a log."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from flyatc.control.types import TenantDetails, Version
from flyatc.dashboard import plots
from flyatc.dashboard.tenant_log import MOST_LINES, Search, Tail
from flyatc.dashboard.tenant_page import Pictures, ago, lasting, why
from flyatc.dashboard.tenant_versions import MOST_SHOWN, choice_of, fields_of, file_name, lines, named
from flyatc.databases.decisions.version_choice import Moment, OrphanChoice
from flyatc.kit.errors import FlyatcError
from flyatc.observe.activity import Slot
from flyatc.observe.log import Journal
from flyatc.observe.log_text import shown
from flyatc.tenants.state import State, Status

NOON = 1_790_856_000.0  # 2026-10-01, 12:00 in UTC
STAMP = "2026-10-01T12:00:00.000000Z"
READY = Status(tenant="ann/one", user="ann", state=State.READY, since=STAMP)


@pytest.mark.parametrize("state", State)
def test_each_state_has_a_reason(state: State) -> None:
    assert why(structs.replace(READY, state=state)).endswith(".")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (structs.replace(READY, requests=1), "It serves requests."),
        (structs.replace(READY, busy="a job"), "It keeps running without requests: a job."),
        (structs.replace(READY, idle_at=STAMP), "It is idle, and is stopped at 12:00:00 UTC unless a request comes."),
        (structs.replace(READY, state=State.QUEUED, queued=3), "It waits for its turn among limits.starting: place 3."),
    ],
)
def test_the_reason_says_what_comes_next(status: Status, reason: str) -> None:
    assert why(status) == reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (4, "just now"), (34, "30 s ago"), (3599, "59 min ago"), (7300, "2 h 1 min ago")],
)
def test_times_are_rough_so_that_a_page_is_calm(seconds: float, text: str) -> None:
    assert ago(STAMP, NOON + seconds) == text
    assert ago(None, NOON) == "never"
    if seconds > 10:
        assert lasting(STAMP, NOON + seconds) == f"for {text.removesuffix(' ago')}"


def test_the_pictures_of_an_open_page_are_drawn_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[float]()

    def draw(slots: object, now: float) -> list[plots.Picture]:
        drawn.append(now)
        return []

    monkeypatch.setattr(plots, "pictures", draw)
    details = TenantDetails(status=READY, path="/", tunnels=0, activity=[], databases=[], files=[])
    pictures = Pictures()
    for now in range(31):
        pictures.draw(details, NOON + now)
    assert drawn == [NOON, NOON + 15, NOON + 30]


# --- pictures ---


def test_the_pictures_of_a_day_without_anything_say_so() -> None:
    words = [one.words for one in plots.pictures([], NOON)]
    assert words == [
        "None in the last 24 hours.", "No responses in the last 24 hours.", "Its app did not run in the last 24 hours.",
    ]  # fmt: skip


def test_the_pictures_describe_the_day_in_words() -> None:
    at = int(NOON) - 3600
    slots = [
        Slot(at, 1200, 12, 0.012, 3.0, 80 << 20),
        Slot(at + 300, 0, 0, 0, 0, 90 << 20),
        Slot(at + 600, 2, 0, 0.1, 0.2, 1 << 20),
    ]
    assert [one.words for one in plots.pictures(slots, NOON)] == [
        "1,202 in 24 hours, 12 of them failed. At most 1,200 in five minutes, at 11:00 UTC.",
        "Lately half took 100 ms or less, and 99 of 100 200 ms. Slowest: 3 s, at 11:00 UTC.",
        "Last 1.0 MB. At most 90.0 MB, at 11:05 UTC.",
    ]


@pytest.mark.parametrize(
    ("shown", "value", "text"),
    [
        (plots.short_count, 8000, "8000"), (plots.short_count, 40000, "40k"), (plots.short_count, 3e6, "3M"),
        (plots.short_size, 0, "0"), (plots.short_size, 96 << 20, "96 MB"), (plots.short_seconds, 0.0001, "100 µs"),
        (plots.short_seconds, 0.01, "10 ms"), (plots.short_seconds, 100, "100 s"),
    ],
)  # fmt: skip
def test_labels_of_an_axis_are_short(shown: Callable[[float], str], value: float, text: str) -> None:
    assert shown(value) == text


# --- versions ---


def version(number: int, *, day: int = 1, database: str = "a.db", name: str | None = None) -> Version:
    saved = f"2026-10-{day:02d}T12:00:00.123456Z"
    return Version(
        database=database, id=name or f"000001-{number:09d}", saved=saved, size=1, compressed=1, current=False
    )


def test_a_time_line_has_a_part_for_each_day_and_a_bound() -> None:
    many = [version(number, day=2 if number > 5 else 1) for number in range(MOST_SHOWN + 3, 0, -1)]
    first, second, third = lines(many, ["a.db", "b.db", "files/"])
    assert [(day.date, len(day.versions)) for day in first.days] == [("2026-10-02", MOST_SHOWN - 2), ("2026-10-01", 2)]
    assert (first.more, second.days, third.is_folder, first.is_folder) == (3, [], True, False)
    assert [line.database for line in lines([version(1, database="found.db")], ["a.db"])] == ["a.db", "found.db"]


def test_the_form_of_a_version_means_that_version() -> None:
    snapshot = version(7)
    assert choice_of(fields_of("ann", snapshot), NOON) == "000001-000000007"
    saved = datetime.fromisoformat("2026-10-01T12:00:00.123456Z").timestamp()
    assert choice_of(fields_of("ann", version(1, name="e000005")), NOON + 86400) == Moment(saved)


def test_a_form_may_mean_a_time_an_orphan_or_the_newest() -> None:
    assert choice_of({"when": "2026-10-01T11:30"}, NOON) == Moment(NOON - 1800)
    assert choice_of({"when": " 2026-10-01 11:30:15+02:00"}, NOON) == Moment(NOON - 1785 - 7200)
    assert choice_of({"orphan": "x"}, NOON) == OrphanChoice("x")
    assert choice_of({"when": "", "version": ""}, NOON) is None
    assert named(Moment(NOON)) == "the newest of 2026-10-01 12:00:00 UTC"


@given(st.text(max_size=50))
def test_a_time_that_is_none_is_refused(text: str) -> None:
    try:
        found = choice_of({"when": text}, NOON)
    except FlyatcError:
        return
    assert found is None or isinstance(found, Moment)


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_the_name_of_a_copy_is_safe_in_a_header_and_in_a_folder(address: str, database: str, choice: str) -> None:
    name = file_name(address, database, choice, NOON)
    assert name.isascii()
    assert not set(name) & set('/\\"\r\n;: ')
    assert len(name) < 200


def test_the_name_of_a_copy_says_of_what_it_is() -> None:
    assert file_name("ann/one", "db/app.sqlite3", "000001-000000042", NOON) == "ann-one-app-000001-000000042.sqlite3"
    assert file_name("ann", "app", None, NOON) == "ann-app-20261001T120000Z.sqlite3"
    assert file_name("ann", "a.db", Moment(NOON - 60), NOON) == "ann-a-20261001T115900Z.db"
    assert file_name("ann", "a.db", OrphanChoice("o"), NOON) == "ann-a-o.db"


# --- the log ---


def test_a_line_of_each_kind_is_split_for_a_page() -> None:
    app = {"time": STAMP, "level": "info", "msg": "<b>", "tenant": "ann", "stream": "stderr"}
    request = {
        "time": STAMP,
        "level": "info",
        "msg": "request",
        "status": 503,
        "ms": 12.0,
        "method": "GET",
        "path": "/x",
    }
    event = {"time": STAMP, "level": "warning", "msg": "not saved", "tenant": "ann", "error": "away\x1b"}
    found = [shown(msgspec.json.encode(one)) for one in (app, request, event)]
    assert found[0] == ("12:00:00", "app", "info", "stderr", "<b>")
    assert found[1] == ("12:00:00", "request", "info", "503", "GET /x 12 ms")
    assert found[2] == ("12:00:00", "event", "warning", "warning", "not saved error=away\\x1b")
    assert shown(b"no JSON\x07") == ("", "event", "", "", "no JSON\\x07")


async def test_the_tail_of_a_log_has_the_newest_lines_that_fit() -> None:
    journal, search = Journal(), Search("ann", text="SAVED", level="warning", kind="event")
    tail = Tail(journal, search)
    assert await tail.lines() == ([], False)

    def log(tenant: str, message: str, level: str = "warning") -> None:
        journal.add(tenant, msgspec.json.encode({"time": STAMP, "level": level, "msg": message}))

    for tenant, message, level in (
        ("ann", "saved 1", "warning"), ("ann/one", "not saved 2", "error"), ("bob", "saved 3", "error"),
        ("ann", "saved 4", "info"), ("ann", "ended", "error"),
    ):  # fmt: skip
        log(tenant, message, level)
    found, new = await tail.lines()
    assert ([one.text for one in found], new) == (["not saved 2", "saved 1"], True)
    log("ann", "something")
    assert await tail.lines() == (found, False)
    for number in range(MOST_LINES + 5):
        log("ann", f"saved {number}")
    found, new = await tail.lines()
    assert (len(found), found[0].text) == (MOST_LINES, f"saved {MOST_LINES + 4}")
    assert not replace(search, kind="app").fits(found[0])
