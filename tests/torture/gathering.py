"""Helpers for what is left when all is over: the app's logs, the daemons' logs, databases here and in the store."""

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from fakes.s3 import Server
from torture.judge import Commit, Row, Stolen
from torture.machines import DATABASE, TENANTS, USER, Machine

OWN = "own "  # begins the client's name of rows which no client has asked for: see apps/rows.py
BESIDE = ("-wal", "-shm", "-journal")


def commits(machines: Iterable[Machine]) -> list[Commit]:
    found = []
    for machine in machines:
        for line in _lines(machine.rows_log):
            row = (line["tenant"], line["client"], line["number"])
            found.append(Commit(row, line["machine"], line["life"], line["committed"]))
    return found


def own(commits: Iterable[Commit]) -> set[Row]:
    """Rows which the apps have written by themselves."""
    return {commit.row for commit in commits if commit.row[1].startswith(OWN)}


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if path.exists():
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # it was killed while it wrote
                yield json.loads(line)


def rows(database: Path, tenant: str, faults: list[str]) -> set[Row]:
    """Of a copy of it and its WAL: looking changes nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in (database, *(database.with_name(database.name + end) for end in BESIDE)):
            if file.exists():
                shutil.copy(file, scratch)
        try:
            with contextlib.closing(sqlite3.connect(Path(scratch) / database.name)) as opened:
                if (check := opened.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                    faults.append(f"damaged: {database}: {check[:3]}")
                return {(tenant, client, number) for client, number in opened.execute("SELECT * FROM rows")}
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return set()  # the app was killed before it had made it
            faults.append(f"damaged: {database}: {error}")
        except sqlite3.DatabaseError as error:
            faults.append(f"damaged: {database}: {error}")
    return set()


def here(machine: Machine, faults: list[str]) -> dict[str, set[Row]]:
    """Return what was set aside on a machine's disk, by its place; each must be in the log."""
    found: dict[str, set[Row]] = {}
    reported = " ".join(str(line.get("path")) for line in machine.reported("the local copy was set aside"))
    for tenant in TENANTS:
        for place in sorted((machine.data / "tenants" / USER / tenant / ".flyatc" / "orphans").glob("*")):
            if place.name not in reported:
                faults.append(f"not reported: {place} was set aside in silence")
            for database in place.glob(f"**/{DATABASE}"):
                found[f"{machine.name}: {tenant}/{place.name}"] = rows(database, tenant, faults)
    return found


def listed(machines: Iterable[Machine], aside: Collection[str], faults: list[str]) -> None:
    """``aside``: all places where something is. ``flyatc orphans`` has each, on some machine."""
    reported: set[str] = set()
    machines = list(machines)
    here = [machine for machine in machines if any(place.startswith(f"{machine.name}: ") for place in aside)]
    for machine in here or machines[:1]:  # each knows what is in the store
        run = machine.cli("orphans", "--json")
        if run.returncode != 0:
            faults.append(f"not listed: flyatc orphans on {machine.name} says {run.stderr.strip()}")
        else:
            reported |= {one["name"] for one in json.loads(run.stdout)}
    faults += [
        f"not listed: flyatc orphans knows nothing of {place}" for place in aside if _name(place) not in reported
    ]


def _name(place: str) -> str:
    return place.rpartition("/")[2].removesuffix(".sqlite3.zst")


class Bucket:
    def __init__(self, server: Server, name: str, scratch: Path) -> None:
        self._client, self._name, self._scratch = server.client, name, scratch

    def keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def aside(self, faults: list[str]) -> dict[str, set[Row]]:
        found = {}
        for tenant in TENANTS:
            for key in self.keys(f"users/{USER}/orphans/{tenant}/"):
                if key.endswith(".zst"):
                    found[f"store: {key}"] = self._rows(key, tenant, faults)
        return found

    def published(self, faults: list[str]) -> set[Row]:
        """Of every version that ever was the current one (snapshot mode)."""
        found: set[Row] = set()
        for tenant in TENANTS:
            place = f"users/{USER}/{tenant}/{DATABASE}"
            try:
                pointer = json.loads(self._body(f"{place}/current.json"))
            except self._client.exceptions.NoSuchKey:
                continue
            for version in (pointer, *pointer.get("previous", ())):
                if "key" in version:
                    found |= self._rows(f"{place}/{version['key']}", tenant, faults)
        return found

    def _body(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._name, Key=key)["Body"].read()

    def _rows(self, key: str, tenant: str, faults: list[str]) -> set[Row]:
        file = self._scratch / DATABASE
        file.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(self._body(key)))
        return rows(file, tenant, faults)


def owners(machines: Sequence[Machine]) -> list[tuple[int, str]]:
    """(epoch, machine), in the order of each log."""
    found = []
    for machine in machines:
        reported = (*machine.reported("user owned"), *machine.reported("epoch raised"))
        found += [(int(line["epoch"]), machine.name) for line in reported]
    return found


def stolen(machines: Iterable[Machine]) -> list[Stolen]:
    return [
        Stolen(machine.name, int(line["epoch"]), at)
        for machine in machines
        for at, line in machine.owned
        if str(line.get("reason", "")).startswith("taken from")
    ]


def strange(machine: Machine) -> list[str]:
    """Return what no daemon should ever say."""
    found = [f"unexpected error: {machine.name}: {line.get('error')} in {line.get('where')}"
             for line in machine.reported("unexpected error")]  # fmt: skip
    if any(str(line.get("text")).startswith("Traceback") for line in machine.lines()):
        found.append(f"unexpected error: {machine.name}: a traceback is in its log")
    return found
