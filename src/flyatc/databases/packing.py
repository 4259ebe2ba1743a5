"""The form in which a database travels: zstd with its checksum, in one frame that tells its size.

Blocking; needs a few megabytes of memory, whatever the size.
"""

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import zstandard

from flyatc.kit.threads import Tick

CHUNK = 1 << 18
LEVEL = 3
CHECKSUM = 4  # octets
HEAD = 18  # octets of a frame's head, at most (RFC 8878)
WINDOW = 1 << 23  # octets; level 3 needs a quarter of it


class Damaged(Exception):
    """The packed file is not what was packed once; says what is wrong."""


def digest(path: Path, tick: Tick) -> str:
    """sha256, in hexadecimal."""
    found, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            done += len(chunk)
            tick(done, total)
    return found.hexdigest()


def pack(source: Path, target: Path, tick: Tick) -> None:
    """``target`` is new."""
    done, total = 0, source.stat().st_size
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=total)
    with source.open("rb") as raw, target.open("xb") as packed:
        while chunk := raw.read(CHUNK):
            packed.write(packer.compress(chunk))
            done += len(chunk)
            tick(done, total)
        packed.write(packer.flush())


def unpack(source: Path, target: Path, size: int | None, tick: Tick) -> str:
    """The sha256 of what was unpacked into ``target``, which is new and synced. ``size``: of the database, if known.

    Raises Damaged: not one whole zstd frame, bits flipped, or another size than it says; OSError before anything is
    written where the disk has no room for what it says: a few octets can unpack to more than any disk holds."""
    found, done = hashlib.sha256(), 0
    with source.open("rb") as packed, target.open("xb") as raw:
        try:
            head = packed.read(HEAD)
            told = zstandard.frame_content_size(head)
            if told <= 0 or (size is not None and told != size):
                raise Damaged(f"it says that it holds {told} octets, not {size or 'a database'}")
            if told > shutil.disk_usage(target.parent).free:
                raise OSError(errno.ENOSPC, f"not begun: it has no room for {told} octets", str(target))
            _check_whole(packed, head)
            packed.seek(0)
            reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(packed)
            while done <= told and (chunk := reader.read(CHUNK)):
                raw.write(chunk)
                found.update(chunk)
                done += len(chunk)
                tick(done, told)
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from error
        if done != told:
            raise Damaged(f"it holds {done} octets, not {told}")
        raw.flush()
        os.fsync(raw.fileno())
    return found.hexdigest()


def _check_whole(packed: BinaryIO, head: bytes) -> None:
    """Walk the block headers to the end of the frame. The decoder does not miss a checksum that was cut off: without
    it, nothing would show that what came before is intact. Raises Damaged, zstandard.ZstdError."""
    if not zstandard.get_frame_parameters(head).has_checksum:
        raise Damaged("it has no checksum")
    place, last = zstandard.frame_header_size(head), False
    while not last:
        packed.seek(place)
        header = packed.read(3)
        if len(header) < 3:
            raise Damaged("it is broken off")
        block = int.from_bytes(header, "little")
        last, repeats = bool(block & 1), (block >> 1) & 3 == 1
        place += 3 + (1 if repeats else block >> 3)
    packed.seek(0, os.SEEK_END)
    if packed.tell() != place + CHECKSUM:
        raise Damaged("it is broken off" if packed.tell() < place + CHECKSUM else "something follows its frame")
