"""Read the facts about an app's folder for flyatc init: known files first, then a bounded walk.

No link is followed, no device or pipe is opened, and nothing of the app is run. What lies beyond the limits is not
read: the app may be anything."""

import os
import stat
from collections import deque
from errno import ELOOP
from pathlib import Path

from flyatc.admin.init.facts import Facts

FILE_SIZE = 256 << 10  # of one file; the rest is cut off
TOTAL_SIZE = 8 << 20
MOST_FILES, MOST_ENTRIES, DEEPEST = 600, 10_000, 5
KNOWN = (
    "Gemfile", "Gemfile.lock", "config.ru", "config/application.rb", "config/database.yml", "config/storage.yml",
    "config/environments/production.rb", "config/puma.rb", "config/routes.rb", "bin/rails", ".ruby-version",
    "manage.py", "requirements.txt", "pyproject.toml", "Pipfile", "Pipfile.lock", "alembic.ini",
    "package.json", "package-lock.json", "prisma/schema.prisma", "config/config.json",
    "composer.json", "composer.lock", "artisan", "bootstrap/app.php", "public/index.php", "index.php",
    "config/cache.php", "config/session.php", "config/filesystems.php",
    "Procfile", "Dockerfile", "fly.toml", ".gitignore", ".dockerignore", "tenants.yaml",
)  # fmt: skip
_SUFFIXES = (
    ".rb", ".ru", ".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".php", ".prisma", ".json", ".yml", ".toml",
    ".txt", ".sh", ".erb", ".html", ".ejs", ".pug", ".hbs", ".twig",
)  # fmt: skip
_SKIPPED = frozenset(
    {"node_modules", "vendor", "venv", "env", "tmp", "log", "data", "store", "dist", "build", "coverage", "__pycache__",
     "target", "staticfiles"}
)  # fmt: skip
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class _Budget:
    def __init__(self) -> None:
        self.bytes, self.files, self.entries = TOTAL_SIZE, MOST_FILES, MOST_ENTRIES

    @property
    def spent(self) -> bool:
        return min(self.bytes, self.files, self.entries) <= 0


def read(folder: Path) -> Facts:
    """Raises OSError if the folder itself cannot be opened."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        budget, texts, unread = _Budget(), dict[str, str](), list[str]()
        for path in KNOWN:
            _read(top, path, budget, texts, unread)
        folders = _walk(top, budget, texts, unread)
    finally:
        os.close(top)
    if budget.spent:
        unread.append(f"the folder is large: {len(texts)} files were read, the others were not")
    return Facts(folder.absolute().name, texts, frozenset(folders), tuple(unread))


def _walk(top: int, budget: _Budget, texts: dict[str, str], unread: list[str]) -> list[str]:
    """Read what may matter, folder by folder, those near the top first. Returns the folders."""
    found: list[str] = []
    waiting = deque([""])
    while waiting and not budget.spent:
        parent = waiting.popleft()
        for name, is_folder in _entries(top, parent, budget):
            path = f"{parent}/{name}" if parent else name
            if is_folder:
                found.append(path)
                if not name.startswith(".") and name not in _SKIPPED and path.count("/") < DEEPEST - 1:
                    waiting.append(path)
            elif name.endswith(_SUFFIXES) and path not in texts:
                _read(top, path, budget, texts, unread)
    return found


def _entries(top: int, folder: str, budget: _Budget) -> list[tuple[str, bool]]:
    """Return name and whether it is a folder, sorted. Names that cannot be printed, or are not UTF-8, are left out."""
    names: list[tuple[str, bool]] = []
    try:
        at = _open(top, folder, os.O_DIRECTORY) if folder else os.dup(top)
    except OSError:
        return []
    try:
        with os.scandir(at) as entries:
            for entry in entries:
                budget.entries -= 1
                if budget.spent:
                    break
                if entry.name.isprintable():
                    names.append((entry.name, entry.is_dir(follow_symlinks=False)))
    except OSError:
        return []
    finally:
        os.close(at)
    return sorted(names)


def _read(top: int, path: str, budget: _Budget, texts: dict[str, str], unread: list[str]) -> None:
    if budget.spent:
        return
    try:
        descriptor = _open(top, path, 0)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        unread.append(f"{path}: {'a link' if error.errno == ELOOP else error.strerror}")
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            unread.append(f"{path}: not a file")
            return
        data = os.read(descriptor, min(FILE_SIZE, budget.bytes))  # of a regular file all at once
    except OSError as error:
        unread.append(f"{path}: {error.strerror}")
        return
    finally:
        os.close(descriptor)
    budget.files -= 1
    budget.bytes -= len(data)
    if b"\0" not in data:
        texts[path] = data.decode("utf-8-sig", errors="replace")


def _open(top: int, path: str, flags: int) -> int:
    """Open a path below ``top`` without following a link in any of its parts. Raises OSError."""
    *parents, name = path.split("/")
    at = top
    try:
        for part in parents:
            below = os.open(part, _OPEN | os.O_DIRECTORY, dir_fd=at)
            if at != top:
                os.close(at)
            at = below
        return os.open(name, _OPEN | flags, dir_fd=at)
    finally:
        if at != top:
            os.close(at)
