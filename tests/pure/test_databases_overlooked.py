"""Tests of what is said of databases that are not saved."""

import pytest

from flyatc.databases.decisions.alarms import overlooked


@pytest.mark.parametrize(
    ("missing", "outside", "beside", "unlisted", "said"),
    [
        ([], [], [], [], []),
        (["a.db"], [], [], [], []),
        (
            ["a.db"],
            ["/x"],
            [],
            [],
            ["a.db does not exist; the app has opened /x, which is not saved. Does it use {data}?"],
        ),
        ([], ["/x"], [], [], ["the app writes /x, which is outside of {data} and not saved"]),
        (
            ["a.db", "b.db"],
            [],
            ["/x"],
            [],
            ["a.db, b.db do not exist; /x was written since the start, and is not saved. Does the app use {data}?"],
        ),
        ([], [], ["/x"], [], []),
        ([], [], [], ["q"], ["q in {data} is a database, not named in databases, and not saved"]),
        (
            [],
            [],
            [],
            list("abcdefg"),
            ["a, b, c, d, e and 2 more in {data} are databases, not named in databases, and not saved"],
        ),
        ([], ["/x\n\udcff"], [], [], [r"the app writes '/x\n\udcff', which is outside of {data} and not saved"]),
        (
            [],
            [],
            [],
            ["a\nb", "q", "c~d"],
            [
                "q in {data} is a database, not named in databases, and not saved",
                r"'a\nb', c~d in {data} are databases, and not saved because of the name: '~', '\', "
                "control characters, or longer than 200 bytes. Let the app use another name, or leave it out with !",
            ],
        ),
    ],
)
def test_each_kind_has_its_sentence(
    missing: list[str], outside: list[str], beside: list[str], unlisted: list[str], said: list[str]
) -> None:
    assert overlooked(missing, outside, beside, unlisted) == said
