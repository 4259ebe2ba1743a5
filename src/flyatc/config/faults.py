"""What is wrong with a configuration: every fault with its file, line and key. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from flyatc.config.nodes import Key, Node, line_of
from flyatc.kit.errors import FlyatcError


class Fault(Struct, frozen=True):
    """One thing to put right. ``str()``: ``tenants.yaml:12: app.idel: unknown key, did you mean idle?``"""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(FlyatcError):
    """The configuration cannot be used. ``str()`` tells all faults, one a line, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


def dotted(key: Key) -> str:
    """``("app", "command", 1)`` → ``app.command[1]``. What cannot be printed is escaped."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if part.isprintable() and part else repr(part)
            text += f".{shown}" if text else shown
    return text


class Faults:
    """Gathers what is wrong with one file, so that all of it can be told at once."""

    def __init__(self, file: str, root: Node | None) -> None:
        self._file = file
        self._root = root
        self._found: dict[tuple[Key, str], Fault] = {}
        self._keys: set[Key] = set()
        self._above: set[Key] = set()  # all keys which hold a faulty one

    def tell(self, key: Key, message: str, line: int | None = None) -> None:
        """``line``: where it is not the line of the key itself."""
        line = line_of(self._root, key) if line is None else line
        self._found.setdefault((key, message), Fault(self._file, line, dotted(key), message))
        self._keys.add(key)
        self._above.update(key[:size] for size in range(len(key)))

    def tell_environment(self, name: str, message: str) -> None:
        self._found[((name,), message)] = Fault("environment", None, name, message)

    def known(self, key: Key) -> bool:
        """Whether something at, above or below this key is told already: then what follows from it need not be."""
        return key in self._above or any(key[:size] in self._keys for size in range(len(key) + 1))

    def end(self) -> None:
        """Raises ConfigError if anything was told."""
        if self._found:
            raise ConfigError(sorted(self._found.values(), key=lambda fault: fault.line or 0))
