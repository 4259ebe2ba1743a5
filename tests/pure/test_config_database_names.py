"""Names and patterns of databases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.config import database_names, name_rules
from flyatc.config.schema import App, Server, make_tenant


@pytest.mark.parametrize(
    ("patterns", "name", "saved"),
    [
        (["*.sqlite3"], "a.sqlite3", True),
        (["*.sqlite3"], "shards/a.sqlite3", False),
        (["shards/*.db"], "shards/a.db", True),
        (["shards/*.db"], "a.db", False),
        (["*/*.db"], "shards/a.db", True),
        (["shard?.db", "[ab].db"], "shard1.db", True),
        (["[ab].db"], "c.db", False),
        (["*.sqlite3", "!cache.sqlite3"], "cache.sqlite3", False),
        (["!cache*", "*.sqlite3"], "cache_2.sqlite3", False),
        (["*.sqlite3", "!cache.sqlite3"], "queue.sqlite3", True),
        ([], "a", False),
        (["*.SQLITE3"], "a.sqlite3", False),
    ],
)
def test_a_pattern_matches_within_one_folder(patterns: list[str], name: str, saved: bool) -> None:
    assert database_names.matches(patterns, name) is saved


def test_what_is_left_out_is_left_out_with_or_without_a_pattern() -> None:
    assert database_names.left_out(["!cache.db"], "cache.db")
    assert not database_names.left_out(["cache.db", "*.db"], "cache.db")


def test_a_tenant_has_plain_names_and_patterns_apart() -> None:
    app = App(databases=["a.db", "*.sqlite3", "!cache.sqlite3"])
    tenant = make_tenant(Server(data="/data"), "u", "", app)
    assert (tenant.app.databases, tenant.patterns) == (["a.db"], ("*.sqlite3", "!cache.sqlite3"))
    again = make_tenant(Server(data="/other"), "u", "", tenant.app, tenant.patterns)
    assert (again.app.databases, again.patterns) == (tenant.app.databases, tenant.patterns)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("*.sqlite3", None),
        ("!cache.sqlite3", None),
        ("!/srv/x", "must be relative"),
        ("**/x.db", "a * matches no slash"),
        (".*", "begin with '.'"),
        ("*-wal", "what SQLite calls a file beside a database"),
        ("!", "must not be empty"),
    ],
)
def test_patterns_are_checked_as_names_are(name: str, fault: str | None) -> None:
    found = name_rules.database(name)
    assert found is None if fault is None else fault in str(found)


@given(st.lists(st.text("ab*?[]!/.", max_size=200), max_size=3), st.text("ab./", max_size=200))
def test_nothing_that_is_written_takes_long_or_raises(patterns: list[str], name: str) -> None:
    assert database_names.matches(patterns, name) in (True, False)
