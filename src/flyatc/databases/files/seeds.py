"""Copy the seed of a folder. Blocking."""

from pathlib import Path

from flyatc.databases.files import placing, scan
from flyatc.databases.files.scan import Changed, NoFolder, TooMuch


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
