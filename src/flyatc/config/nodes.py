"""A YAML document as a tree which knows its lines: what ``load`` makes of the text, and ``parse`` reads. Pure."""

from typing import TypeAlias

from msgspec import Struct

_NULL = frozenset({"", "~", "null", "Null", "NULL"})

Key: TypeAlias = tuple[str | int, ...]  # the way from the top: ("app", "command", 1)


class Scalar(Struct, frozen=True):
    """``plain``: without quotes, so that ``null`` and ``true`` may mean what YAML says."""

    line: int
    text: str
    plain: bool

    @property
    def null(self) -> bool:
        return self.plain and self.text in _NULL


class Sequence(Struct, frozen=True):
    line: int
    items: tuple["Node", ...]


class Mapping(Struct, frozen=True, dict=True):
    """As written: keys may be anything, and may come twice."""

    line: int
    pairs: tuple[tuple["Node", "Node"], ...]

    def find(self, name: str) -> tuple["Node", "Node"] | None:
        """The first pair with this key. Remembered: a long mapping may be asked for each of its keys."""
        index: dict[str, tuple[Node, Node]] | None = self.__dict__.get("index")
        if index is None:
            index = {}
            for pair in self.pairs:
                if isinstance(pair[0], Scalar):
                    index.setdefault(pair[0].text, pair)
            self.__dict__["index"] = index
        return index.get(name)


Node: TypeAlias = Scalar | Sequence | Mapping


def line_of(root: Node | None, key: Key) -> int | None:
    """The line of this key, or of the nearest thing above it which the file has. None: nothing of it is there."""
    node, line = root, None
    for part in key:
        if isinstance(node, Mapping) and isinstance(part, str) and (pair := node.find(part)):
            line, node = pair[0].line, pair[1]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            line = node.line
        else:
            break
    return line
