"""Snapshot mode after litestream has written."""

from flyatc.databases.decisions.keep_or_restore import Here, Keep, Refuse, Streamed, plan
from flyatc.databases.manifest import Entry

STREAMED = Entry(line=3, txid=9)


def test_the_machine_which_streamed_it_last_goes_on_and_saves_it_whole() -> None:
    found = plan(Here.SQLITE, STREAMED, Streamed(), touched=False, sole=True)
    assert isinstance(found, Keep)
    assert found.anew
    assert found.verify


def test_a_machine_which_knows_an_older_state_starts_nothing() -> None:
    for here, entry, sole in (
        (Here.ABSENT, Entry(), True),
        (Here.SQLITE, Entry(), True),
        (Here.SQLITE, STREAMED, False),
        (Here.EMPTY, STREAMED, True),
    ):
        found = plan(here, entry, Streamed(), touched=False, sole=sole)
        assert isinstance(found, Refuse)
        assert "litestream" in found.reason
