"""Decisions on the separation of apps, and what is said of it."""

from pathlib import Path

import pytest

from flyatc.config.schema import App, Tenant
from flyatc.config.schema_sections import Isolation
from flyatc.process.isolation import refusals, rules
from flyatc.process.isolation.rules import Machine

ROOT = Machine(root=True, abi=7)
PLAIN = Machine(root=False, abi=7, no_user_ids="not root")
OLD = Machine(root=True, abi=0, no_landlock="no Landlock")
NOTHING = Machine(root=False, abi=0, no_landlock="no Landlock", no_user_ids="not root")

CASES: list[tuple[Isolation, Machine, str, tuple[bool, bool] | str]] = [
    ("auto", ROOT, "", (True, True)),
    ("auto", ROOT, "/root is closed", (False, True)),
    ("auto", PLAIN, "", (False, True)),
    ("auto", OLD, "", (True, False)),
    ("auto", NOTHING, "", (False, False)),
    ("user", ROOT, "", (True, True)),
    ("user", OLD, "", (True, False)),
    ("user", ROOT, "/root is closed", "it cannot have a user id of its own: /root is closed"),
    ("user", PLAIN, "", "it cannot have a user id of its own: not root"),
    ("landlock", ROOT, "", (False, True)),
    ("landlock", PLAIN, "", (False, True)),
    ("landlock", OLD, "", "there is no Landlock: no Landlock"),
    ("strict", ROOT, "", (True, True)),
    ("strict", OLD, "", "there is no Landlock"),
    ("strict", PLAIN, "", "it cannot have a user id of its own"),
    ("off", ROOT, "", (False, False)),
]


@pytest.mark.parametrize(("isolation", "machine", "hindrance", "expected"), CASES)
def test_what_is_demanded_is_used_or_refuses_the_start(
    isolation: Isolation, machine: Machine, hindrance: str, expected: tuple[bool, bool] | str
) -> None:
    found = rules.decide(isolation, machine, hindrance)
    if isinstance(expected, str):
        assert expected in found.refusal
        assert not found.confined
    else:
        assert (found.refusal, found.user_ids, found.landlock) == ("", *expected)
        assert found.shared_temp == (isolation != "strict")
        assert found.own_directory == (isolation == "auto")


def test_what_is_not_separated_is_said_with_the_reason() -> None:
    assert rules.lacking({"auto", "strict"}, ROOT) == []
    assert "(no Landlock)" in rules.lacking({"auto"}, OLD)[0]
    assert "(not root)" in rules.lacking({"auto"}, PLAIN)[0]
    assert rules.OPEN_DIRECTORY in rules.lacking({"auto"}, PLAIN)
    assert rules.OPEN_DIRECTORY not in rules.lacking({"landlock"}, PLAIN)
    assert "(not root; no Landlock)" in rules.lacking({"auto"}, NOTHING)[0]
    assert "(app.isolation is off)" in rules.lacking({"off"}, ROOT)[0]
    assert rules.lacking({"user"}, PLAIN) == [
        "app.isolation is user, and it cannot have a user id of its own: not root"
    ]


@pytest.mark.parametrize(("abi", "truncates", "signals"), [(1, True, True), (3, False, True), (6, False, False)])
def test_an_older_landlock_says_what_it_lacks(abi: int, truncates: bool, signals: bool) -> None:
    said = " ".join(rules.lacking({"auto"}, Machine(root=False, abi=abi, no_user_ids="not root")))
    assert ("can truncate files" in said, "can signal and kill" in said) == (truncates, signals)


def test_the_status_names_what_holds() -> None:
    assert rules.describe(rules.decide("auto", ROOT), 200_001, 7) == "user 200001, Landlock 7"
    assert rules.describe(rules.decide("auto", NOTHING), None, 0) == "none"


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("Errno::EACCES: Permission denied @ rb_sysopen - /app/db", True),
        ("Error: EROFS: read-only", True),
        ("sqlite3.OperationalError: attempt to write a readonly database", True),
        ("unable to open database file", True),
        ("GET /permissions 200", False),
        ("EACCESS", False),
    ],
)
def test_lines_that_show_a_refusal_are_noticed(line: str, refused: bool) -> None:
    assert refusals.shows_refusal(line) == refused


def test_the_advice_names_what_may_be_written() -> None:
    tenant = Tenant(user="u", name="", prefix="/u", data=Path("/d"), app=App(writable=["tmp", "cache"]))
    assert "app.writable (tmp, cache). If" in refusals.advice(tenant, "Landlock 7")
    assert "but nothing new in /tmp, where the data" in refusals.advice(tenant, "Landlock 7", ["/tmp"])
