"""Manifests of folders: what is written is read, and nothing that leads elsewhere is believed."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.databases.app_files import blobs, manifest
from flyatc.databases.app_files.manifest import File, Folder, Hostile, Manifest

HASH, AT = "a" * 64, "000001-000000001"
NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))


def file(path: str, **other: object) -> dict[str, object]:
    return {"path": path, "sha256": HASH, "at": AT, "size": 1, "mtime": 0, "mode": 0o644, **other}


def body(*files: dict[str, object], folders: tuple[str, ...] = (), **other: object) -> bytes:
    return json.dumps(
        {"v": 1, "mode": 0o755, "folders": [{"path": f, "mode": 0o755} for f in folders], "files": files, **other}
    ).encode()


@given(st.lists(NAMES, unique=True, max_size=8), NAMES)
def test_any_name_comes_back(names: list[bytes], folder: bytes) -> None:
    above = manifest.quote(folder)
    files = [
        File(path=f"{above}/{manifest.quote(name)}", sha256=HASH, at=AT, size=0, mtime=-5, mode=0o600) for name in names
    ]
    made = Manifest(folders=[Folder(path=above, mode=0o700)], files=files)
    found = manifest.decode(manifest.encode(made))
    assert found == made
    assert [manifest.unquote(one.path) for one in found.files] == [folder + b"/" + name for name in names]
    assert manifest.encode(made).isascii()


HOSTILE = {
    "..": [file("..")],
    "up": [file("../x")],
    "up encoded": [file("%2E%2E")],
    "a way up inside": [file("a/../../x")],
    "absolute": [file("/etc/passwd")],
    "absolute encoded": [file("%2Fetc")],
    "a slash in a name": [file("a%2Fb")],
    "a null": [file("a%00b")],
    "empty": [file("")],
    "a dot": [file(".")],
    "an empty part": [file("a//b")],
    "a folder that is not listed": [file("a/b")],
    "a file as a folder": [file("a"), file("a/b")],
    "twice": [file("a"), file("a")],
    "encoded otherwise": [file("%61")],
    "lower case": [file("%c3%a4")],
    "not encoded": [file("ä")],
    "half encoded": [file("%4")],
    "too long": [file("x" * 256)],
    "setuid": [file("a", mode=0o4755)],
    "a negative size": [file("a", size=-1)],
    "no hash": [file("a", sha256="../../x")],
    "no number": [file("a", at="../../../users")],
    "no time": [file("a", mtime=1 << 70)],
    "a wrong type": [file("a", size="1")],
    "something missing": [{"path": "a"}],
}


@pytest.mark.parametrize("files", HOSTILE.values(), ids=HOSTILE)
def test_what_leads_elsewhere_is_refused(files: list[dict[str, object]]) -> None:
    with pytest.raises(Hostile):
        manifest.decode(body(*files))


@pytest.mark.parametrize("folders", [("..",), ("a", "a"), ("a/b",), ("a", "a/../b"), ("/",), ("",)])
def test_folders_that_lead_elsewhere_are_refused(folders: tuple[str, ...]) -> None:
    with pytest.raises(Hostile):
        manifest.decode(body(folders=folders))


def test_a_file_is_no_folder() -> None:
    with pytest.raises(Hostile):
        manifest.decode(body(file("a"), folders=("a",)))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"v":2}', b'{"files":[1]}', body(mode=0o7777), b"\xff"])
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(Hostile):
        manifest.decode(raw)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_ENTRIES", 2)
    with pytest.raises(Hostile, match="more than 2"):
        manifest.decode(body(file("a"), file("b"), file("c")))


def test_a_packed_manifest_is_bounded_and_whole() -> None:
    packed = blobs.pack(body(file("a")))
    assert blobs.unpack(packed)[0].files[0].path == "a"
    for broken in (b"", packed[:-1], packed[:10], packed[:-4] + b"abcd", os.urandom(100)):
        with pytest.raises(Hostile):
            blobs.unpack(broken)
    with pytest.raises(Hostile, match="declares"):
        blobs.unpack(blobs.pack(bytes(manifest.MOST_OCTETS + 1)))
