"""Bytes into lines, with bounded cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.process.output import LONGEST, Budget, Lines


def reported(*pieces: bytes) -> list[str]:
    lines = Lines()
    return [line for piece in pieces for line in lines.feed(piece)] + lines.end()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\r", b"\ntwo"], ["one", "two"]),
        ([b"\n\n"], ["", ""]),
        ([b""], []),
        ([b"sm\xc3", b"\xb6rg\xff\n"], ["smörg\N{REPLACEMENT CHARACTER}"]),
        ([b"progress\rprogress\r\n"], ["progress\rprogress"]),
    ],
)
def test_lines_are_cut_wherever_the_pieces_end(pieces: list[bytes], expected: list[str]) -> None:
    assert reported(*pieces) == expected


@given(st.lists(st.text("ab€\n\r", max_size=30)), st.integers(1, 7))
def test_no_text_is_lost_or_changed_by_how_it_arrives(texts: list[str], size: int) -> None:
    data = "".join(texts).encode()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert reported(*pieces) == reported(data)
    assert "".join(reported(data)).replace("\r", "") == data.decode().replace("\n", "").replace("\r", "")


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1000, LONGEST * 3])
def test_a_long_line_is_logged_in_parts_and_no_character_is_cut(ending: bytes, size: int) -> None:
    data = ("x" + "€" * LONGEST).encode() + ending
    parts = reported(*(data[i : i + size] for i in range(0, len(data), size)))
    assert "".join(parts) == "x" + "€" * LONGEST
    assert all(LONGEST - 3 <= len(part.encode()) <= LONGEST for part in parts[:-1])


def test_a_long_line_of_nonsense_is_logged_in_parts_too() -> None:
    assert [len(part) for part in reported(b"\x80" * (LONGEST + 5))] == [LONGEST, 5]


def test_a_burst_is_free_and_what_comes_after_it_waits() -> None:
    budget = Budget(burst=100, rate=10, now=0.0)
    assert budget.spend(100, now=0.0) == 0
    assert budget.spend(20, now=0.0) == 2.0
    assert budget.spend(0, now=2.0) == 0
    assert budget.spend(100, now=1000.0) == 0, "rest refills it"
    assert budget.spend(1, now=1000.0) > 0, "but never above the burst"
