"""Copy the seed of a folder, and unpack one that was set aside. Blocking."""

from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from flyatc.databases.app_files import placing, scan
from flyatc.databases.app_files.manifest import MODES
from flyatc.databases.app_files.scan import Changed, NoFolder, TooMuch
from flyatc.databases.local_files import CHUNK, WINDOW

if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo


def copy(seed: Path, new: Path, most: int) -> None:
    """Copy and sync a folder, without links, sockets, pipes and devices. Raises OSError, ValueError."""
    try:
        found = scan.scan(seed, most, 1 << 62)
        if found is None:
            raise ValueError("there is no such folder")
        new.mkdir(mode=0o700)
        for path in sorted(found.folders):
            placing.beneath(new, path).mkdir(mode=0o700)
        for path, seen in found.files.items():
            target = placing.beneath(new, path)
            with target.open("xb") as file:
                scan.read(seed, path, seen, file.write)
            target.chmod(seen.mode)
        for path in sorted(found.folders, reverse=True):
            placing.beneath(new, path).chmod(found.folders[path] | 0o700)
        placing.sync(new)
    except (Changed, NoFolder, TooMuch) as error:
        raise ValueError(f"{error} cannot be copied" if isinstance(error, Changed) else str(error)) from error


def unpack(archive: Path, new: Path, most: int, size: int) -> None:
    """Unpack what ``local_files.pack_folder`` has made: regular files and folders only, none of them elsewhere.
    ``most`` entries and ``size`` bytes at most. Raises OSError, ValueError."""
    import tarfile  # imported late: most daemons never need it

    new.mkdir(mode=0o700)
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    try:
        with (
            archive.open("rb") as file,
            reader.stream_reader(file) as packed,
            tarfile.open(fileobj=packed, mode="r|") as members,
        ):
            for number, member in enumerate(members):
                size -= max(member.size, 0)
                parts = member.name.split("/")[1:]
                if number > most or size < 0:
                    raise ValueError("it is larger than storage.files_most or storage.files_size")
                if not {"", ".", ".."}.isdisjoint(parts) or not (member.isreg() or member.isdir()):
                    raise ValueError(f"{member.name[:200]!r} leads out of it")
                if parts:
                    _unpack_one(members, member, new.joinpath(*parts))
    except (tarfile.TarError, zstandard.ZstdError, EOFError, FileExistsError) as error:
        raise ValueError(str(error)) from error
    placing.sync(new)


def _unpack_one(members: "TarFile", member: "TarInfo", target: Path) -> None:
    mode = member.mode & MODES
    if member.isdir():
        return target.mkdir(mode=mode | 0o700)
    content = members.extractfile(member)
    with target.open("xb") as file:
        while content is not None and (chunk := content.read(CHUNK)):
            file.write(chunk)
    return target.chmod(mode)
