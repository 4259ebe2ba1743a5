"""Variables and names below {data} for the SQLite files that an app names in its code: one for each file."""

import re
from pathlib import PurePosixPath

from flyatc.admin.init.facts import Hit
from flyatc.admin.init.plan import Variable

FIRST = "app.sqlite3"


class SqliteFiles:
    """Collects ``env`` and ``databases``. The first file is ``app.sqlite3``, others keep their names."""

    def __init__(self) -> None:
        self._env: dict[str, Variable] = {}
        self._known: dict[str, str] = {}  # by the file's name in the app: the variable
        self._names: list[str] = []  # below {data}

    def variable(
        self, written: str, hit: Hit, *, known: str | None = None, kind: str = "PATH", scheme: str = ""
    ) -> str:
        """Return the variable for a file. ``written``: its path in the app, ``known``: the variable that the app reads
        already, ``scheme``: what precedes the path in the variable."""
        file = PurePosixPath(written).name
        stem = re.sub(r"[^a-z0-9]+", "_", PurePosixPath(written).stem.lower()).strip("_") or "other"
        variable = f"{stem.upper()}_DATABASE_{kind}" if self._names else f"DATABASE_{kind}"
        if variable[0].isdigit():
            variable = f"_{variable}"
        name = known or self._known.get(file) or variable
        self._known.setdefault(file, name)
        if name not in self._env:
            path = f"{stem}.sqlite3" if self._names else FIRST
            if path in self._names:
                path = f"{name.lower()}.sqlite3"
            self._names.append(path)
            self._env[name] = Variable(name, f"{scheme}{{data}}/{path}", f"see {hit.file}")
        return name

    def variables(self) -> tuple[Variable, ...]:
        return tuple(self._env.values()) or (Variable("DATABASE_PATH", f"{{data}}/{FIRST}", "have the app use it"),)

    def databases(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._names)) or (FIRST,)
