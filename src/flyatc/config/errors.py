"""Configuration faults with file, line and key, and the tree of YAML nodes with their lines. Pure.

``load`` builds the tree from the text; ``parse`` reads it.
"""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from flyatc.kit.errors import FlyatcError

_NULL = frozenset({"", "~", "null", "Null", "NULL"})

Key: TypeAlias = tuple[str | int, ...]  # the path from the top: ("app", "command", 1)


class ScalarNode(Struct, frozen=True):
    """A scalar. ``plain``: without quotes, so that ``null`` and ``true`` may have their YAML meaning."""

    line: int
    text: str
    plain: bool

    @property
    def null(self) -> bool:
        return self.plain and self.text in _NULL


class SequenceNode(Struct, frozen=True):
    line: int
    items: tuple["Node", ...]


class MappingNode(Struct, frozen=True, dict=True):
    """A mapping as written: keys may be any node, and may occur twice."""

    line: int
    pairs: tuple[tuple["Node", "Node"], ...]

    def find(self, name: str) -> tuple["Node", "Node"] | None:
        """Return the first pair with this key. Indexed, since each key of a long mapping may be looked up."""
        index: dict[str, tuple[Node, Node]] | None = self.__dict__.get("index")
        if index is None:
            index = {}
            for pair in self.pairs:
                if isinstance(pair[0], ScalarNode):
                    index.setdefault(pair[0].text, pair)
            self.__dict__["index"] = index
        return index.get(name)


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def line_of(root: Node | None, key: Key) -> int | None:
    """Return the line of this key or of its nearest parent in the file; None if the file has neither."""
    node, line = root, None
    for part in key:
        if isinstance(node, MappingNode) and isinstance(part, str) and (pair := node.find(part)):
            line, node = pair[0].line, pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            line = node.line
        else:
            break
    return line


class Fault(Struct, frozen=True):
    """One fault to fix. ``str()``: ``tenants.yaml:12: app.idel: unknown key, did you mean idle?``"""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(FlyatcError):
    """The configuration cannot be used. ``str()`` lists all faults, one per line, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


def dotted(key: Key) -> str:
    """Format a key: ``("app", "command", 1)`` → ``app.command[1]``. Unprintable parts are escaped."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if part.isprintable() and part else repr(part)
            text += f".{shown}" if text else shown
    return text


class Faults:
    """Collects all faults of one file, to report them together."""

    def __init__(self, file: str, root: Node | None) -> None:
        self._file = file
        self._root = root
        self._found: dict[tuple[Key, str], Fault] = {}
        self._keys: set[Key] = set()
        self._above: set[Key] = set()  # all parents of faulty keys

    def add(self, key: Key, message: str, line: int | None = None) -> None:
        """Add a fault. ``line``: if it is not the line of the key itself."""
        line = line_of(self._root, key) if line is None else line
        self._found.setdefault((key, message), Fault(self._file, line, dotted(key), message))
        self._keys.add(key)
        self._above.update(key[:size] for size in range(len(key)))

    def add_environment(self, name: str, message: str) -> None:
        self._found[((name,), message)] = Fault("environment", None, name, message)

    def reported(self, key: Key) -> bool:
        """True if there is a fault at, above or below this key; then its consequences need not be reported."""
        return key in self._above or any(key[:size] in self._keys for size in range(len(key) + 1))

    def raise_if_any(self) -> None:
        """Raise ConfigError if there are faults."""
        if self._found:
            raise ConfigError(sorted(self._found.values(), key=lambda fault: fault.line or 0))
