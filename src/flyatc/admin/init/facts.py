"""Facts about an app's folder: the texts of its files, as admin.app_folder has read them. Nothing here is trusted."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

LONGEST_LINE = 500  # characters; longer lines are not searched
COMMENTS = ("#", "//", "*", "/*", "<!--")


@dataclass(frozen=True)
class Hit:
    """A line that matches."""

    file: str
    line: int
    text: str  # of the line, without blanks around it
    match: re.Match[str]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Facts:
    """``texts``: by relative path. ``folders``: relative paths. ``unread``: what was left out, and why."""

    name: str  # of the folder
    texts: Mapping[str, str]
    folders: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()

    def text(self, file: str) -> str:
        return self.texts.get(file, "")

    def has(self, *files: str) -> str | None:
        """Return the first of these files that exists."""
        return next((file for file in files if file in self.texts), None)

    def ending(self, *suffixes: str) -> list[str]:
        """Return the files with such a name, those near the top first."""
        return sorted(
            (file for file in self.texts if file.endswith(suffixes)), key=lambda file: (file.count("/"), file)
        )

    def lines(self, file: str, *, comments: bool = False) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self.text(file).splitlines(), 1):
            if len(line) <= LONGEST_LINE and (comments or not line.lstrip().startswith(COMMENTS)):
                yield number, line

    def hits(self, pattern: str | re.Pattern[str], *files: str) -> Iterator[Hit]:
        """Yield the lines that match, without comments. A text is compiled for ASCII."""
        compiled = re.compile(pattern, re.ASCII) if isinstance(pattern, str) else pattern
        for file in files:
            for number, line in self.lines(file):
                if match := compiled.search(line):
                    yield Hit(file, number, line.strip(), match)

    def find(self, pattern: str | re.Pattern[str], *files: str) -> Hit | None:
        return next(self.hits(pattern, *files), None)

    def object(self, file: str) -> dict[str, object]:
        """Return the JSON object in a file; empty if there is none, or if it is not JSON."""
        try:
            return mapping(json.loads(self.text(file)))
        except (ValueError, RecursionError):
            return {}


def mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def words(value: object) -> str:
    """Return a text of JSON, empty if it is something else."""
    return value if isinstance(value, str) else ""


def first(*hits: Hit | None) -> Hit | None:
    return next((hit for hit in hits if hit is not None), None)


def unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def escaped(text: str) -> str:
    """Return a text of the app for a place where tenants.yaml has placeholders."""
    return text.replace("{", "{{").replace("}", "}}")


def app_name(folder: str) -> str:
    """Return a name that Fly accepts: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:40].strip("-") or "my-app"
