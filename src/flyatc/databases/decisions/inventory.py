"""Inventory of a store, from the names of its objects alone. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from flyatc.config.schema_sections import name_of
from flyatc.databases.manifest import ARCHIVE, SUFFIX, number
from flyatc.objects.store import Stored

ROOT = "users/"
_LTX = re.compile(r"e\d{6,}(?:-\d{2,})?/.+\.ltx")  # below a database's folder: litestream's


@dataclass(frozen=True, order=True)
class StoredDatabase:
    """One database, or folder of files. ``user`` and ``key`` as in config.schema.Tenant; ``key`` is ``~`` where the
    user is the tenant."""

    user: str
    key: str
    database: str  # its name, possibly with slashes
    snapshots: bool  # current.json, or snapshots without one
    lines: bool  # of litestream: replicas

    @property
    def is_folder(self) -> bool:
        """True for a folder of files; see ``files``."""
        return self.database.endswith("/")


@dataclass(frozen=True)
class StoredOrphan:
    """An orphaned copy in the store."""

    user: str
    key: str
    database: str
    name: str
    size: int  # in the store


@dataclass(frozen=True)
class Inventory:
    databases: list[StoredDatabase]
    orphans: list[StoredOrphan]
    users: list[str]  # all of them

    def within(self, user: str | None, key: str | None) -> "Inventory":
        """Return the part of one user, or of one tenant."""
        return Inventory(
            [one for one in self.databases if _within(one, user, key)],
            [one for one in self.orphans if _within(one, user, key)],
            [one for one in self.users if user in (None, one)],
        )


def folder(user: str | None) -> str:
    """Return the prefix to list; ``user`` None: everything."""
    return ROOT if user is None else f"{ROOT}{user}/"


def take(there: Iterable[Stored]) -> Inventory:
    """Read the inventory from ``there``, all objects below ``folder``. Unknown names are ignored."""
    snapshots, lines, orphans, users = set(), set(), [], set()
    for stored in there:
        user, _, rest = stored.key.removeprefix(ROOT).partition("/")
        users.add(user)
        place, _, last = rest.rpartition("/")
        parts = place.split("/")
        if len(parts) == 3 and parts[0] == "orphans" and last.endswith((SUFFIX, ARCHIVE)):
            name = last.removesuffix(SUFFIX).removesuffix(ARCHIVE)
            orphans.append(StoredOrphan(user, parts[1], name_of(parts[2]), name, stored.size))
        elif len(parts) == 2 and (last == "current.json" or number(last) is not None):
            snapshots.add((user, parts[0], parts[1]))
        elif len(parts) > 2 and _LTX.fullmatch("/".join([*parts[2:], last])):
            lines.add((user, parts[0], parts[1]))
    databases = [
        StoredDatabase(user, key, name_of(name), (user, key, name) in snapshots, (user, key, name) in lines)
        for user, key, name in sorted(snapshots | lines)
    ]
    return Inventory(databases, orphans, sorted(users))


def _within(one: StoredDatabase | StoredOrphan, user: str | None, key: str | None) -> bool:
    return user in (None, one.user) and key in (None, one.key)
