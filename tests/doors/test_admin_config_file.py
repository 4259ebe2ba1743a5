"""tenants.yaml on a real disk: checked, replaced as a whole, kept, put back."""

import asyncio
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from flyatc.admin.config_file import ABSENT, MOST_KEPT, Changed, ConfigFile
from flyatc.config.errors import ConfigError
from flyatc.kit.errors import FlyatcError

GOOD = "app: {command: [sleep, 1h]}\nusers:\n  ann: {}\n"
OTHER = GOOD + "  bob: {}\n"
Reload = Callable[[], Awaitable[str]]


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "etc" / "tenants.yaml"
    path.parent.mkdir()
    path.write_text(GOOD)
    (tmp_path / "data" / ".flyatc").mkdir(parents=True)
    return ConfigFile(path, tmp_path / "data", {})


async def reloaded() -> str:
    return "reloaded"


async def refused() -> str:
    raise ConfigError([])


def save(file: ConfigFile, text: str, based_on: str | None = None, reload: Reload = reloaded) -> str:
    async def one() -> str:
        return await file.save(text, file.read().fingerprint if based_on is None else based_on, reload)

    return asyncio.run(one())


def beside(file: ConfigFile) -> list[str]:
    return sorted(path.name for path in file.path.parent.iterdir())


def test_a_saved_text_replaces_the_file_and_the_old_text_is_kept_and_can_be_saved_again(file: ConfigFile) -> None:
    assert save(file, OTHER) == "reloaded"
    assert file.path.read_text() == OTHER
    [kept] = file.kept()
    assert (file.text_of(kept.name), kept.size) == (GOOD, len(GOOD))
    save(file, file.text_of(kept.name))
    assert file.path.read_text() == GOOD
    assert [file.text_of(one.name) for one in file.kept()] == [OTHER, GOOD]
    save(file, OTHER)
    assert [file.text_of(one.name) for one in file.kept()] == [GOOD, OTHER], "each text is kept once"
    assert beside(file) == ["tenants.yaml"]


def test_kept_texts_are_private_and_their_number_is_bounded(file: ConfigFile) -> None:
    for number in range(MOST_KEPT + 3):
        save(file, f"{GOOD}# {number}\n")
    kept = file.kept()
    assert len(kept) == MOST_KEPT
    assert file.text_of(kept[0].name) == f"{GOOD}# {MOST_KEPT + 1}\n"
    folder = file.path.parents[1] / "data" / ".flyatc" / "config"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    for name in ("../../../etc/tenants.yaml", "x", kept[-1].name.replace("-", "-0", 1)):
        with pytest.raises(ConfigError, match="no version"):
            file.text_of(name)


def test_a_text_with_faults_is_refused_with_their_lines_before_anything_is_written(file: ConfigFile) -> None:
    before = file.path.stat().st_ino
    with pytest.raises(ConfigError) as caught:
        save(file, GOOD.replace("command", "comand") + "  BOB: {}\n")
    assert {fault.line for fault in caught.value.faults} == {1, 4}
    assert (file.path.stat().st_ino, file.path.read_text()) == (before, GOOD)
    assert file.kept() == []


def test_of_two_operators_who_edit_at_once_the_second_is_refused(file: ConfigFile) -> None:
    begun = file.read().fingerprint

    async def both() -> list[str | BaseException]:
        edits = (file.save(text, begun, reloaded) for text in (OTHER, GOOD + "  eve: {}\n"))
        return await asyncio.gather(*edits, return_exceptions=True)

    first, second = asyncio.run(both())
    assert first == "reloaded"
    assert isinstance(second, Changed)
    assert file.path.read_text() == OTHER


def test_a_file_that_an_editor_has_changed_is_not_overwritten(
    file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = file.read().fingerprint
    file.path.write_text(OTHER)
    with pytest.raises(Changed):
        save(file, GOOD, begun)
    assert file.path.read_text() == OTHER
    synced = os.fsync

    def changed_meanwhile(descriptor: int) -> None:
        file.path.write_text(GOOD + "# by hand\n")
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", changed_meanwhile)
    with pytest.raises(Changed):
        save(file, GOOD)
    assert file.path.read_text() == GOOD + "# by hand\n"
    assert beside(file) == ["tenants.yaml"]


def test_a_refused_reload_puts_the_old_text_back_unless_the_file_was_changed_again(file: ConfigFile) -> None:
    with pytest.raises(FlyatcError, match="is as it was"):
        save(file, OTHER, reload=refused)
    assert file.path.read_text() == GOOD

    async def changed_and_refused() -> str:
        file.path.write_text(GOOD + "# by hand\n")
        return await refused()

    with pytest.raises(FlyatcError, match="was changed once more meanwhile"):
        save(file, OTHER, reload=changed_and_refused)
    assert file.path.read_text() == GOOD + "# by hand\n"


def test_a_file_that_is_gone_can_be_made_again(file: ConfigFile) -> None:
    begun = file.read().fingerprint
    file.path.unlink()
    assert file.read().fingerprint == ABSENT
    assert file.read().text == ""
    with pytest.raises(Changed):
        save(file, OTHER, begun)
    with pytest.raises(FlyatcError, match="is as it was"):
        save(file, OTHER, ABSENT, refused)
    assert beside(file) == []
    save(file, OTHER, ABSENT)
    assert file.path.read_text() == OTHER
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_mode_owner_and_extended_attributes_stay_and_links_are_followed(file: ConfigFile, tmp_path: Path) -> None:
    file.path.chmod(0o640)
    attributes = {"user.note": b"by hand"}
    try:
        for name, value in attributes.items():
            os.setxattr(file.path, name, value)
    except OSError:  # not every file system has them
        attributes = {}
    if os.geteuid() == 0:
        os.chown(file.path, 12345, 23456)
    before = file.path.stat()
    link = tmp_path / "link.yaml"
    link.symlink_to(file.path)
    save(ConfigFile(link, tmp_path / "data", {}), OTHER)
    after = file.path.stat()
    assert link.is_symlink()
    assert (file.path.read_text(), after.st_ino == before.st_ino) == (OTHER, False)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert {name: os.getxattr(file.path, name) for name in attributes} == attributes


def test_a_byte_order_mark_stays_and_bytes_that_are_no_utf_8_are_reported(file: ConfigFile) -> None:
    file.path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert file.read().text == GOOD
    save(file, OTHER)
    assert file.path.read_bytes() == b"\xef\xbb\xbf" + OTHER.encode()
    file.path.write_bytes(b"users:\n  \xff: {}\n")
    present = file.read()
    assert (present.text, "tenants.yaml:2: is not UTF-8" in present.why) == (None, True)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EBUSY, "mount its folder instead"),
        (errno.EROFS, "must be allowed to write it and its folder"),
        (errno.ENOSPC, "No space left"),
    ],
)
def test_a_file_that_cannot_be_replaced_is_left_as_it_was_and_the_reason_is_given(
    file: ConfigFile, monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    """A mount, a read-only disk and a full one are simulated."""
    replace = os.replace

    def failing(source: str, target: str, **folders: int) -> None:
        if target == file.path.name:
            raise OSError(number, os.strerror(number))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(FlyatcError, match=why):
        save(file, OTHER)
    assert file.path.read_text() == GOOD
    assert beside(file) == ["tenants.yaml"]


def test_a_deleted_data_folder_is_not_made_again(file: ConfigFile) -> None:
    shutil.rmtree(file.path.parents[1] / "data")
    with pytest.raises(FlyatcError, match="the data folder is gone"):
        save(file, OTHER)
    assert file.path.read_text() == GOOD
    assert not (file.path.parents[1] / "data").exists()


@pytest.fixture
def unprivileged(file: ConfigFile) -> Iterator[Path]:
    """A folder of a user who is not root, and this process as that user."""
    save(file, OTHER)  # and import what that needs: Python's own files may be closed to the other user
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize(("of_file", "of_folder"), [(0o444, 0o755), (0o644, 0o555)])
def test_without_permission_the_file_is_left_as_it_was(unprivileged: Path, of_file: int, of_folder: int) -> None:
    path = unprivileged / "etc" / "tenants.yaml"
    path.parent.mkdir()
    path.write_text(GOOD)
    path.chmod(of_file)
    path.parent.chmod(of_folder)
    (unprivileged / "data" / ".flyatc").mkdir(parents=True)
    with pytest.raises(FlyatcError, match="The daemon must be allowed to write it and its folder"):
        save(ConfigFile(path, unprivileged / "data", {}), OTHER)
    assert path.read_text() == GOOD
    path.parent.chmod(0o755)
