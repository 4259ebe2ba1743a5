"""The manifest of one save of a folder: every file with its hash, and every folder. Pure.

Paths are relative to the folder and percent-encoded (RFC 3986), since names of files are bytes: a manifest is ASCII.
A manifest comes from the store, so it is hostile until ``decode`` has checked it: no path leads out of the folder.
"""

import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

SUFFIX = "/"  # of a folder's name where databases are named too: "storage/"
MODES = 0o777  # bits that are kept; never setuid, setgid or sticky
MOST_ENTRIES = 300_000
MOST_OCTETS = 64 << 20  # of a manifest, unpacked
LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes: PATH_MAX and NAME_MAX of Linux
_SAFE = "/ !#$&'()*+,;=:@[]^`{|}~\"<>?"  # everything in ASCII that is printed, but for "%" and "\\"
_PLAIN = re.compile(r"[A-Za-z0-9 ._/@+=,:~-]+")

Mode = Annotated[int, Meta(ge=0, le=MODES)]
Number = Annotated[str, Meta(pattern=r"^\d{6}-\d{9}$")]
Nanoseconds = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]


class File(Struct, frozen=True, kw_only=True):
    """One file. ``at``: number of the save that put its content into the store."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    at: Number
    size: Annotated[int, Meta(ge=0)]
    mtime: Nanoseconds
    mode: Mode

    @property
    def blob(self) -> str:
        """Key of its content, below the folder's blobs."""
        return f"{self.at}/{self.sha256}"


class Folder(Struct, frozen=True, kw_only=True):
    path: str
    mode: Mode


class Manifest(Struct, frozen=True, kw_only=True):
    """Sorted by path. ``mode``: of the folder itself."""

    v: Annotated[int, Meta(ge=1, le=1)] = 1
    mode: Mode = 0o755
    folders: list[Folder] = []
    files: list[File] = []

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def blobs(self) -> set[str]:
        return {file.blob for file in self.files}


class Hostile(ValueError):
    """The manifest is damaged, or made to write elsewhere."""


def quote(name: bytes) -> str:
    """Return the text of a path or of a part of it."""
    return quote_from_bytes(name, safe=_SAFE)


def unquote(text: str) -> bytes:
    return unquote_to_bytes(text)


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.encode(manifest)


def decode(body: bytes) -> Manifest:
    """Decode and check a manifest. Raises Hostile with the reason."""
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except ValueError as error:
        raise Hostile(str(error)) from error
    if len(manifest.files) + len(manifest.folders) > MOST_ENTRIES:
        raise Hostile(f"it names more than {MOST_ENTRIES} files and folders")
    folders: set[str] = {""}
    for folder in sorted(one.path for one in manifest.folders):  # a folder sorts after the one it is in
        _check(folder, folders)
        folders.add(folder)
    there = set(folders)
    for file in manifest.files:
        _check(file.path, folders, there)
        there.add(file.path)
    return manifest


def _check(path: str, folders: set[str], there: Iterable[str] = ()) -> None:
    """Check one path. ``folders``: those it may be in. Raises Hostile."""
    parent, _, name = path.rpartition("/")
    if parent not in folders:
        raise Hostile(f"{path[:200]!r} is in no folder of it")
    raw = unquote(name)
    if not _PLAIN.fullmatch(name) and quote(raw) != name:
        raise Hostile(f"{path[:200]!r} is not encoded as we do")
    if not raw or raw in (b".", b"..") or b"/" in raw or b"\0" in raw:
        raise Hostile(f"{path[:200]!r} leads out of the folder")
    if len(raw) > LONGEST_NAME or len(unquote(path)) > LONGEST_PATH:
        raise Hostile(f"{path[:200]!r}… is too long")
    if path in (there or folders):
        raise Hostile(f"{path[:200]!r} is in it twice")
