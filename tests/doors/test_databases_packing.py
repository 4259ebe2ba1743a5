"""Packed databases from an untrusted store."""

import errno
import hashlib
from pathlib import Path

import pytest
import zstandard

from flyatc.databases import local_files


def tick(done: int, total: int) -> None:
    pass


def frame(says: int) -> bytes:
    """The start of a zstd frame that says how much it holds (RFC 8878 §3.1.1), and one empty block."""
    return b"\x28\xb5\x2f\xfd" + b"\xc4\x58" + says.to_bytes(8, "little") + b"\x01\0\0" + b"\0\0\0\0"


def test_what_says_that_it_holds_more_than_the_disk_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(frame(1 << 50))
    with pytest.raises(OSError, match="no room for 1125899906842624 bytes") as raised:
        local_files.unpack(tmp_path / "packed", tmp_path / "raw", None, tick)
    assert raised.value.errno == errno.ENOSPC
    assert (tmp_path / "raw").stat().st_size == 0


def test_what_holds_more_than_it_says_is_damaged_and_ends_there(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(frame(1000)[:14] + zstandard.compress(bytes(1 << 26))[6:])
    with pytest.raises(local_files.Damaged):
        local_files.unpack(tmp_path / "packed", tmp_path / "raw", 1000, tick)
    assert (tmp_path / "raw").stat().st_size <= local_files.CHUNK + 1000


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "database").write_bytes(b"abc" * 100_000)
    local_files.pack(tmp_path / "database", tmp_path / "packed", tick)
    found = local_files.unpack(tmp_path / "packed", tmp_path / "raw", 300_000, tick)
    assert found == hashlib.sha256(b"abc" * 100_000).hexdigest()
