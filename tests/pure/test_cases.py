"""The tests that tests/CASES.md names exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
NAMED = re.compile(r"`(\w+/test_\w+\.py)::(test_\w+)`")
LISTED = {
    *(f"T{number}" for number in (1, 2, 3, 6, 7, 8, 9, 10, 15, *range(17, 26), 27, 29, 30)),
    *(f"N{number}" for number in (*range(15, 30), 31, 33)),
    *(f"D{number}" for number in range(1, 24)),
    *(f"0.{number}" for number in range(1, 12)),
}


def rows() -> list[tuple[str, str]]:
    lines = (TESTS / "CASES.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return [(case.strip(), shown.strip()) for case, shown in cells][1:]


def test_every_test_which_is_named_exists() -> None:
    named = {found for _, shown in rows() for found in NAMED.findall(shown)}
    missing = [f"{file}::{name}" for file, name in sorted(named) if f"def {name}(" not in (TESTS / file).read_text()]
    assert missing == []


def test_every_case_is_listed_with_a_test_or_a_reason() -> None:
    assert {word for case, _ in rows() for word in re.findall(r"\b(?:[TND]|0\.)\d+\b", case)} >= LISTED
    assert [case for case, shown in rows() if not NAMED.search(shown) and len(shown) < len("issue 5")] == []
    assert [shown for _, shown in rows() if shown.count("::") != len(NAMED.findall(shown))] == []
