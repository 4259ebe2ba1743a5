"""Plans for a database before its app starts, for each state of it."""

from itertools import product

import pytest

from flyatc.databases.decisions.keep_or_restore import (
    Adopt,
    Create,
    Current,
    Here,
    Keep,
    Nothing,
    Plan,
    Refuse,
    Restore,
    There,
    Unknown,
    plan,
)
from flyatc.databases.manifest import Entry, Link

OLD = Link("000001-000000001.sqlite3.zst", "a" * 64)
NEW = Link("000001-000000002.sqlite3.zst", "b" * 64)
OTHER_STORE = Link(OLD.key, "c" * 64)  # the same number, another content

STRANGER = Entry()
FRESH = Entry(base=NEW)
STALE = Entry(base=OLD)
PUBLISHING = Entry(base=OLD, pending=(NEW,), in_use=True)
FIRST = Entry(pending=(NEW,), in_use=True)


@pytest.mark.parametrize(
    ("here", "entry", "there", "expected", "because"),
    [
        (Here.ABSENT, STRANGER, Nothing(), Create, "it is new"),
        (Here.ABSENT, STRANGER, Nothing((NEW.key,)), Refuse, "no current.json"),
        (Here.ABSENT, FRESH, Nothing(), Refuse, "neither here nor in the store"),
        (Here.ABSENT, FIRST, Nothing(), Refuse, "neither here nor in the store"),
        (Here.ABSENT, STRANGER, Current(NEW), Restore, "nothing is here"),
        (Here.ABSENT, FRESH, Current(NEW), Restore, "nothing is here"),
        (Here.SQLITE, STRANGER, Nothing(), Keep, "never saved"),
        (Here.EMPTY, STRANGER, Nothing(), Keep, "never saved"),
        (Here.SQLITE, FRESH, Nothing(), Keep, "lost it"),
        (Here.SQLITE, FRESH, Current(NEW), Keep, "or newer"),
        (Here.SQLITE, PUBLISHING, Current(NEW), Keep, "or newer"),
        (Here.SQLITE, PUBLISHING, Current(OLD), Keep, "or newer"),
        (Here.SQLITE, FIRST, Current(NEW), Keep, "or newer"),
        (Here.SQLITE, STALE, Current(NEW), Restore, "comes from 000001-000000001"),
        (Here.SQLITE, FIRST, Current(OLD), Restore, "comes from 000001-000000002"),
        (Here.SQLITE, Entry(base=OLD), Current(OTHER_STORE), Restore, "comes from"),
        (Here.SQLITE, STRANGER, Current(NEW), Restore, "the origin of the local copy is unknown"),
        (Here.EMPTY, STRANGER, Current(NEW), Restore, "the origin of the local copy is unknown"),
        (Here.EMPTY, FRESH, Current(NEW), Refuse, "empty although it had content"),
        (Here.EMPTY, FRESH, Nothing(), Refuse, "empty although it had content"),
        (Here.OTHER, STRANGER, Nothing(), Refuse, "not a SQLite database"),
        (Here.OTHER, FRESH, Current(NEW), Refuse, "not a SQLite database"),
    ],
)
def test_each_state_has_one_plan_and_its_reason(
    here: Here, entry: Entry, there: There, expected: type[Plan], because: str
) -> None:
    decided = plan(here, entry, there, touched=False)
    assert type(decided) is expected
    assert because in decided.reason


@pytest.mark.parametrize(("here", "entry"), tuple(product(Here, (STRANGER, FRESH, STALE, PUBLISHING))))
def test_an_unknown_store_always_refuses(here: Here, entry: Entry) -> None:
    decided = plan(here, entry, Unknown("the store is away"), touched=True)
    assert decided == Refuse("the store is away. Nothing was changed; try again later")


@pytest.mark.parametrize(
    ("here", "entry", "there", "touched"),
    tuple(
        product(
            Here,
            (STRANGER, FRESH, STALE, PUBLISHING, FIRST),
            (Nothing(), Nothing((OLD.key,)), Current(NEW)),
            (False, True),
        )
    ),
)
def test_an_empty_database_starts_only_where_nothing_was_ever_known(
    here: Here, entry: Entry, there: There, touched: bool
) -> None:
    if isinstance(plan(here, entry, there, touched), Create):
        assert (here, entry, there) == (Here.ABSENT, STRANGER, Nothing())


@pytest.mark.parametrize(
    ("entry", "touched", "verify"),
    [
        (Entry(base=NEW), False, False),
        (Entry(base=NEW), True, True),
        (Entry(base=NEW, in_use=True), False, True),
    ],
)
def test_what_was_not_closed_cleanly_or_was_touched_is_verified(entry: Entry, touched: bool, verify: bool) -> None:
    decided = plan(Here.SQLITE, entry, Current(NEW), touched)
    assert isinstance(decided, Keep)
    assert decided.verify is verify


def test_a_copy_which_the_store_has_lost_is_kept_and_reported() -> None:
    decided = plan(Here.SQLITE, FRESH, Nothing(), touched=True)
    assert isinstance(decided, Keep)
    assert (decided.lost, decided.verify) == (True, True)


UNPUBLISHED = ("000003-000000001.sqlite3.zst", "000003-000000002.sqlite3.zst", "000004-000000003.sqlite3.zst")


def test_a_first_save_that_was_cut_off_is_adopted_newest_first_or_begun_anew() -> None:
    decided = plan(Here.ABSENT, STRANGER, Nothing(UNPUBLISHED, began=3, owner=5), touched=False, sole=False)
    assert isinstance(decided, Adopt)
    assert decided.keys == UNPUBLISHED[::-1]
    assert isinstance(decided.otherwise, Create)


@pytest.mark.parametrize(
    ("entry", "began", "owner"),
    [
        (STRANGER, 0, 5),  # a blank pointer that does not tell since when it is blank
        (STRANGER, 4, 5),  # one of them is from before it was blank
        (STRANGER, 3, 3),  # one of them is of a machine that has not stamped it
        (FRESH, 3, 5),  # this machine knows that a version was published once
    ],
)
def test_snapshots_that_the_blank_pointer_does_not_explain_stay_refused(entry: Entry, began: int, owner: int) -> None:
    decided = plan(Here.ABSENT, entry, Nothing(UNPUBLISHED, began, owner), touched=False, sole=False)
    assert isinstance(decided, Refuse)
    assert "no current.json" in decided.reason


@pytest.mark.parametrize(
    ("epoch", "sole", "expected"), [(4, False, Keep), (3, False, Adopt), (3, True, Keep), (0, False, Adopt)]
)
def test_a_local_copy_that_was_never_saved_gives_way_only_to_a_later_machine(
    epoch: int, sole: bool, expected: type[Plan]
) -> None:
    decided = plan(Here.SQLITE, Entry(epoch=epoch, in_use=True), Nothing(UNPUBLISHED, 3, 5), touched=True, sole=sole)
    assert type(decided) is expected
    if isinstance(decided, Adopt):
        assert decided.otherwise == Keep(decided.otherwise.reason, verify=True)
