"""The files that a real process has open for writing, and the databases in a folder."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flyatc.databases import find_databases
from flyatc.databases.find_databases import FolderScan
from flyatc.kit import durable_files
from flyatc.process import open_files

HOLD = """
import sqlite3, sys
kept = [eval(one) for one in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(*what: str) -> Iterator[int]:
    command = [sys.executable, "-I", "-S", "-c", HOLD, *what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
        db.commit()
    return path


def test_what_is_open_for_writing_is_found_once_and_what_is_only_read_is_not(tmp_path: Path) -> None:
    written, read, log = database(tmp_path / "a.sqlite3"), database(tmp_path / "b.sqlite3"), tmp_path / "log"
    uri = f"sqlite3.connect('file:{read}?mode=ro', uri=True).execute('select * from t')"
    with holding(
        f"sqlite3.connect('{written}').execute('select * from t')",
        f"open('{written}', 'r+')",
        uri,
        f"open('{log}', 'w')",
    ) as pid:
        found = {one.path: one for one in open_files.read_open_files([pid, 1 << 22])}
    assert set(found) == {str(written), str(log)}
    assert found[str(written)].identity == durable_files.inode_of(written)


def test_the_file_is_the_same_under_another_name_and_is_opened_by_its_handle(tmp_path: Path) -> None:
    path, link = database(tmp_path / "a.sqlite3"), tmp_path / "link"
    link.symlink_to(path)
    with holding(f"open('{link}', 'r+')") as pid:
        (found,) = open_files.read_open_files([pid])
        assert found.identity == durable_files.inode_of(path)
        assert find_databases.is_database(found.handle)


def test_what_was_removed_and_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with holding(f"(open('{gone}', 'w'), __import__('os').unlink('{gone}'))", "__import__('socket').socket()") as pid:
        assert open_files.read_open_files([pid]) == []


def test_databases_are_found_by_their_header_whatever_their_name(tmp_path: Path) -> None:
    database(tmp_path / "queue")
    database(tmp_path / "deep/er/cable.db")
    (tmp_path / "notes.sqlite3").write_text("SQLite is a database\n" * 10)
    (tmp_path / "empty.sqlite3").touch()
    assert FolderScan(tmp_path).look().names == ["deep/er/cable.db", "queue"]


def test_databases_are_found_whatever_their_name_and_however_many_there_are(tmp_path: Path) -> None:
    many = [f"cache-{number:02}.sqlite3" for number in range(25)]
    names = sorted([*many, "a\nb.sqlite3", "\udcff/x\t.db", "z.sqlite3"])
    for name in names:
        database(tmp_path / name)
    assert FolderScan(tmp_path).look().names == names


def test_what_is_known_hidden_skipped_or_a_link_is_left_out(tmp_path: Path) -> None:
    known = database(tmp_path / "known.sqlite3")
    os.link(known, tmp_path / "same.sqlite3")
    database(tmp_path / ".flyatc/save/copy")
    database(tmp_path / "storage/x.sqlite3")
    (tmp_path / "link").symlink_to(tmp_path / "storage/x.sqlite3")
    (tmp_path / "above").symlink_to("..")
    assert FolderScan(tmp_path, lambda name: name == "storage").look(["known.sqlite3", "absent.sqlite3"]).names == []


def test_only_what_was_written_since_is_found(tmp_path: Path) -> None:
    path = database(tmp_path / "a.sqlite3")
    os.utime(path, (1000, 1000))
    assert FolderScan(tmp_path).look(since=2000).names == []
    assert FolderScan(tmp_path).look(since=500).names == ["a.sqlite3"]


def test_a_large_folder_is_not_read_to_its_end(tmp_path: Path) -> None:
    for number in range(find_databases.MOST + 10):
        (tmp_path / f"a{number}").touch()
    database(tmp_path / "z.sqlite3")
    assert FolderScan(tmp_path).look() == find_databases.Found([], cut=True)


def test_a_file_that_was_something_else_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x" * 1000)
    scan, opened = FolderScan(tmp_path), list[str]()

    def never(path: str) -> bool:
        opened.append(path)
        return False

    monkeypatch.setattr(find_databases, "is_database", never)
    scan.look()
    scan.look()
    assert len(opened) == 1
