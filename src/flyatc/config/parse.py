"""A tree of YAML nodes → the schema's ``File``, with every fault told. Pure.

Scalars are read from their own text by what is wanted there, not by YAML's guess: ``100`` and ``no`` are fine names.
"""

import difflib
from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from flyatc.config import shapes
from flyatc.config.faults import Faults
from flyatc.config.nodes import Key, Mapping, Node, Scalar, Sequence
from flyatc.config.schema import File
from flyatc.config.shapes import Shape

S = TypeVar("S", bound=Struct)


class _Wrong:
    """Stands for a value that could not be read; its fault is told."""


_WRONG = _Wrong()


def parse(root: Node | None, faults: Faults) -> File:
    """What could not be read is told to ``faults`` and left at its default, so that the rest can be checked too."""
    if root is None:
        faults.tell((), "is empty: it needs at least app: and users:")
        return File()
    value = _value(root, shapes.of(File), (), faults)
    return value if isinstance(value, File) else File()


def _value(node: Node, shape: Shape, key: Key, faults: Faults) -> object:
    match node:
        case Scalar():
            return _scalar(node, shape, key, faults)
        case Sequence() if shape.items is not None:
            return _items(node, shape.items, key, faults)
        case Mapping() if shape.struct is not None:
            return _struct(node, shape, shape.struct, key, faults)
        case Mapping() if shape.values is not None:
            return _values(node, shape.values, key, faults)
    found = "a list" if isinstance(node, Sequence) else "a mapping"
    faults.tell(key, f"must be {shape.wanted}, not {found}", node.line)
    return _WRONG


def _scalar(node: Scalar, shape: Shape, key: Key, faults: Faults) -> object:
    if node.null and shape.nullable:
        return None
    if node.null and shape.scalar is None and shape.items is None:  # a section whose lines are all comments
        return _value(Mapping(node.line, ()), shape, key, faults)
    try:
        return _read(node, shape)
    except ValueError as error:
        faults.tell(key, str(error), node.line)
        return _WRONG


def _read(node: Scalar, shape: Shape) -> object:
    if not _harmless(node.text):
        raise ValueError(f"{node.text!r} holds a character that no path and no program can take")
    if node.null and node.text and shape.scalar is not None:
        raise ValueError(f"must be {shape.wanted}; write '{node.text}' in quotes if that is meant")
    if node.null:
        raise ValueError(f"is empty, and must be {shape.wanted}: leave the key out, or give it a value")
    if shape.scalar is not None:
        return shape.scalar(node.text, node.plain)
    example = f": [{', '.join(node.text.split())}]" if shape.items is not None else ""
    raise ValueError(f"must be {shape.wanted}{example}, not {node.text!r}")


def _harmless(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _items(node: Sequence, shape: Shape, key: Key, faults: Faults) -> list[object]:
    values = [_value(item, shape, (*key, index), faults) for index, item in enumerate(node.items)]
    return [value for value in values if value is not _WRONG]


def _values(node: Mapping, shape: Shape, key: Key, faults: Faults) -> dict[str, object]:
    values = {name: _value(value, shape, (*key, name), faults) for name, value in _pairs(node, key, faults)}
    return {name: value for name, value in values.items() if value is not _WRONG}


def _struct(node: Mapping, shape: Shape, struct: type[Struct], key: Key, faults: Faults) -> object:
    values: dict[str, object] = {}
    for name, value in _pairs(node, key, faults):
        if name in shape.fields:
            values[name] = _value(value, shape.fields[name], (*key, name), faults)
        else:
            faults.tell((*key, name), _unknown(name, tuple(shape.fields)))
    for name in shape.required:
        if name not in values:
            faults.tell(key, f"needs {name}", node.line)
            values[name] = _WRONG
    given = {name: value for name, value in values.items() if value is not _WRONG}
    if not given.keys() >= set(shape.required):
        return _WRONG
    try:
        return struct(**given)
    except ValueError as error:  # the struct's own word on what its fields say together
        faults.tell(key, str(error), node.line)
        return _WRONG


def _pairs(node: Mapping, key: Key, faults: Faults) -> Iterator[tuple[str, Node]]:
    """Each key once, the first time it comes."""
    seen: dict[str, int] = {}
    for name, value in node.pairs:
        if not isinstance(name, Scalar):
            faults.tell(key, "has a key that is not plain text", name.line)
        elif not _harmless(name.text):
            faults.tell((*key, name.text), "holds a character that no path and no program can take", name.line)
        elif name.plain and name.text == "<<":
            faults.tell((*key, name.text), "merging is not known here: what all share belongs in app", name.line)
        elif name.text in seen:
            faults.tell((*key, name.text), f"appears twice, first in line {seen[name.text]}", name.line)
        else:
            seen[name.text] = name.line
            yield name.text, value


def _unknown(name: str, here: tuple[str, ...]) -> str:
    homes = _homes()
    if name in homes:
        return f"unknown key here, it belongs {homes[name]}"
    if close := difflib.get_close_matches(name, here, 1):
        return f"unknown key, did you mean {close[0]}?"
    if close := difflib.get_close_matches(name, homes, 1):
        return f"unknown key, did you mean {close[0]}? It belongs {homes[close[0]]}"
    return f"unknown key; known here: {', '.join(here)}"


def _homes() -> dict[str, str]:
    """Where each key of the schema belongs, in words."""
    sections = shapes.of(File).fields
    homes: dict[str, str] = {}
    for section, shape in sections.items():
        entries = shape.values.fields if shape.values else shape.fields
        for name in entries:
            homes.setdefault(name, f"in {section}" if shape.struct else f"under a name in {section}")
    return homes | {section: "at the top of the file" for section in sections}
