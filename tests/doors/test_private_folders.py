"""Only the owner of the daemon may read what it keeps: folders have mode 0700, its own files 0600."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyatc.daemon.wiring import DataLock
from flyatc.kit import durable_files
from flyatc.kit.types import silent
from flyatc.objects.folder import FolderStore


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The usual umask, under which folders are open to everybody unless created otherwise."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_missing_parents_are_as_private_as_the_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    durable_files.make_folder(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / path) for path in ("a", "a/b", "a/b/c")] == [0o700] * 3
    assert mode(tmp_path) == 0o755  # it was there before


def test_a_replaced_file_is_private(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    durable_files.write(tmp_path / "file", b"two")
    assert mode(tmp_path / "file") == 0o600


def test_the_data_folder_is_private_from_its_first_moment(tmp_path: Path) -> None:
    DataLock(tmp_path / "srv" / "data").release()
    assert [mode(tmp_path / path) for path in ("srv", "srv/data", "srv/data/.flyatc")] == [0o700] * 3


def test_folders_of_an_earlier_release_are_closed_at_the_next_start(tmp_path: Path) -> None:
    for folder in (".flyatc", "tenants"):
        (tmp_path / folder).mkdir(mode=0o755)
    DataLock(tmp_path).release()
    assert [mode(tmp_path / folder) for folder in (".flyatc", "tenants")] == [0o700] * 2


async def test_the_store_folder_and_all_that_is_in_it_is_private(tmp_path: Path) -> None:
    root = tmp_path / "srv" / "store"
    (tmp_path / "database").write_bytes(b"content")
    store = FolderStore(root)
    await store.open()
    await store.put("users/ann/owner.json", b"{}", create=True)
    await store.upload("users/ann/one/000001.sqlite3.zst", tmp_path / "database", progress=silent)
    store.close()
    assert [mode(path) for path in (root.parent, root)] == [0o700] * 2
    for directory, folders, files in os.walk(root):
        assert [mode(Path(directory, name)) for name in folders] == [0o700] * len(folders), directory
        assert [mode(Path(directory, name)) for name in files] == [0o600] * len(files), directory


async def test_a_store_folder_of_an_earlier_release_is_closed_when_it_is_opened(tmp_path: Path) -> None:
    for folder in (".flyatc", "users", "machines"):
        (tmp_path / folder).mkdir(mode=0o755)
    store = FolderStore(tmp_path)
    await store.open()
    store.close()
    assert [mode(tmp_path / folder) for folder in (".flyatc", "users", "machines")] == [0o700] * 3
