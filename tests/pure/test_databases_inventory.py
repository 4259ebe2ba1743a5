"""The contents of a store, by the names of its objects."""

from flyatc.databases.decisions.inventory import Inventory, StoredDatabase, StoredOrphan, folder, take
from flyatc.objects.store import Stored

NAME = "20261121T143000.123456Z-abcd1234"
KEYS = (
    "users/ann/owner.json",
    "users/ann/one/app.sqlite3/current.json",
    "users/ann/one/app.sqlite3/000001-000000001.sqlite3.zst",
    "users/ann/2025~winter/db~main.sqlite3/e000003/ltx/0/0000000000000001-0000000000000001.ltx",
    "users/ann/2025~winter/db~main.sqlite3/000001-000000001.sqlite3.zst",
    f"users/ann/orphans/one/db~main.sqlite3/{NAME}.sqlite3.zst",
    "users/bob/~/app.sqlite3/e000001/0000/0000000000000001-0000000000000007.ltx",
    "users/eve/orphans/app.sqlite3/current.json",  # a tenant called orphans
    "users/eve/owner.json",
    "users/ivy/one/app.sqlite3/notes.txt",
    "users/ivy/strange",
    "users/ivy/one/app.sqlite3/elsewhere/0000000000000001-0000000000000007.ltx",
)
ALL = take(Stored(key, 100, "etag", 0.0) for key in KEYS)


def test_databases_are_known_by_their_pointers_snapshots_and_lines() -> None:
    assert ALL.databases == [
        StoredDatabase("ann", "2025~winter", "db/main.sqlite3", snapshots=True, lines=True),
        StoredDatabase("ann", "one", "app.sqlite3", snapshots=True, lines=False),
        StoredDatabase("bob", "~", "app.sqlite3", snapshots=False, lines=True),
        StoredDatabase("eve", "orphans", "app.sqlite3", snapshots=True, lines=False),
    ]


def test_an_orphaned_copy_is_distinguished_from_a_tenant_of_that_name() -> None:
    assert ALL.orphans == [StoredOrphan("ann", "one", "db/main.sqlite3", NAME, 100)]


def test_every_user_is_listed_also_one_without_databases() -> None:
    assert ALL.users == ["ann", "bob", "eve", "ivy"]


def test_a_part_of_it() -> None:
    assert [one.key for one in ALL.within("ann", None).databases] == ["2025~winter", "one"]
    assert [one.key for one in ALL.within("ann", "one").databases] == ["one"]
    assert ALL.within("ann", "2025~winter").orphans == []
    assert ALL.within("bob", None).users == ["bob"]
    assert ALL.within("nonesuch", None) == Inventory([], [], [])
    assert (folder(None), folder("ann")) == ("users/", "users/ann/")
