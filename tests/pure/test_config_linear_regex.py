"""Patterns for user names match what Python's re would match, and no pattern is slow."""

import re
import sys
import time
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.config.linear_regex import MOST_POSITIONS, PatternError, compiled

_atoms = st.sampled_from(
    ["a", "b", "0", "-", "_", ".", r"\d", r"\w", r"\D", r"\-", "[a-c]", "[^a]", "[-a]", "[]a]", r"[\d_]", "A", "/", "}"]
)
_bounds = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{0}", "{1,}", "{,2}", "{0,3}", "{2,3}"])
_patterns = st.recursive(
    st.tuples(_atoms, _bounds).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join).map("({})".format),
        st.tuples(inner.map("(?:{})".format), _bounds).map("".join),
    ),
    max_leaves=8,
)
_names = st.text("ab0-_c", max_size=8)


@settings(deadline=None, max_examples=500)
@given(_patterns, st.lists(_names, max_size=8), st.sampled_from(["{}", "^{}$", "^{}", "{}$"]))
def test_it_matches_what_re_matches(pattern: str, names: list[str], frame: str) -> None:
    whole = frame.format(pattern)
    try:
        made = compiled(whole)
    except PatternError:
        return  # repetitions of repetitions may become too long
    expected = re.compile(pattern)
    assert [made.matches(name) for name in names] == [expected.fullmatch(name) is not None for name in names], whole


@pytest.mark.parametrize(
    ("pattern", "named", "at"),
    [
        (r"(a)\1", r"'\1' is not supported", 4),
        (r"(?=a)a", "look-around", 1),
        (r"x(?!a)a", "look-around", 2),
        (r"(?<=a)a", "look-around", 1),
        (r"(?i)a", "flags", 1),
        (r"(?P<n>a)", "named groups", 1),
        (r"(?>a)", "(?", 1),
        (r"a+?", "lazy", 3),
        (r"a*+", "possessive", 3),
        (r"a**", "repetition of a repetition", 3),
        (r"\ba", r"'\b' is not supported", 1),
        (r"a\Z", r"'\Z' is not supported", 2),
        ("\\", "is not supported", 1),
        (r"a^b", "whole name must match anyway", 2),
        (r"a$b", "whole name must match anyway", 2),
        ("(a", "is not closed", 1),
        ("a)", "closes no group", 2),
        ("[a", "is not closed", 1),
        ("[b-a]", "no range", 2),
        ("*a", "nothing before", 1),
        ("a{x}", "begins a repetition", 2),
        ("a{3,2}", "below the first", 2),
        ("a{501}", "written out", 2),
        ("((a{50}){50})", "written out", 9),
        ("((((){9999}){9999}){9999})", "written out", 6),
        ("a" * (MOST_POSITIONS + 1), "written out", MOST_POSITIONS + 1),
        ("(" * 60 + ")" * 60, "groups within each other", 51),
    ],
)
def test_what_cannot_be_done_in_linear_time_or_means_nothing_is_refused(pattern: str, named: str, at: int) -> None:
    with pytest.raises(PatternError) as raised:
        compiled(pattern)
    assert named in str(raised.value)
    assert raised.value.at == at


def steps(pattern: str, name: str) -> int:
    """The lines of Python which a match takes."""
    made, number = compiled(pattern), 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal number
        number += 1
        return count

    sys.settrace(count)
    try:
        made.matches(name)
    finally:
        sys.settrace(None)
    return number


@pytest.mark.parametrize("pattern", ["([a-z]+)+[0-9]", "(a|a)*b", "(a?){30}a{30}", "(.*)(.*)(.*)(.*)(.*)!", "(a*)*b"])
def test_each_character_is_read_once(pattern: str) -> None:
    few, many = steps(pattern, "a" * 15), steps(pattern, "a" * 60)
    assert many < 6 * few + 200
    began = time.thread_time()
    assert not compiled(pattern).matches("a" * 62 + "-")
    assert time.thread_time() - began < 1.0, "re takes longer than the universe has"


def test_what_is_remembered_of_names_is_bounded() -> None:
    made = compiled("(a|b)*a(a|b){40}")
    for number in range(3000):
        made.matches(f"{number:b}".replace("0", "a").replace("1", "b") * 5)
    assert len(made._known) <= 2000
