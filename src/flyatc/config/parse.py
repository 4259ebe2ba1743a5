"""Parse a tree of YAML nodes into the schema's ``File``, reporting every fault. Pure.

Scalars are read from their text by the type expected there, not by YAML's guess: ``100`` and ``no`` are valid names.
The expected types (``Shape``) are derived from the Structs of ``schema`` with msgspec's inspection.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct, inspect

from flyatc.config import schema_sections
from flyatc.config.errors import Faults, Key, MappingNode, Node, ScalarNode, SequenceNode
from flyatc.config.schema_file import File, UserEntry
from flyatc.config.schema_sections import Cache, MachineIdle, Storage
from flyatc.kit import units

Read = Callable[[str, bool], object]  # (text of the scalar, True if without quotes); raises ValueError

_PLACEHOLDER = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}|\{(?:port|user|tenant|prefix|data)\}")
# the keys whose values may have placeholders; storage.key and replica have their own
_REPLACED = {"command", "before_start", "env", "ready", "ready_host", "seed", "roots", "password", "key", "replica"}
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass
class Shape:
    """The type expected in one place: at most one reading for each kind of node."""

    wanted: str  # for people: "a duration", "a list"
    nullable: bool = False
    scalar: Read | None = None
    items: "Shape | None" = None
    values: "Shape | None" = None
    struct: type[Struct] | None = None
    fields: "dict[str, Shape]" = field(default_factory=dict)
    required: tuple[str, ...] = ()  # of the fields


@functools.cache
def shape_of(struct: type[Struct]) -> Shape:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return _struct_shape(info)


def _shape(info: inspect.Type, unit: str | None = None) -> Shape:
    match info:
        case inspect.Metadata():
            return _shape(info.type, (info.extra or {}).get("unit", unit))
        case inspect.UnionType():
            return _union([_shape(member, unit) for member in info.types])
        case inspect.StructType(cls=schema_sections.Listen):
            return Shape("a port or host:port", scalar=lambda text, plain: schema_sections.Listen.parse(text))
        case inspect.StructType():
            return _struct_shape(info)
        case inspect.ListType():
            return Shape("a list", items=_shape(info.item_type))
        case inspect.DictType():
            return Shape("a mapping", values=_shape(info.value_type))
        case inspect.NoneType():
            return Shape("null", nullable=True)
    return _scalar_shape(info, unit)


def _scalar_shape(info: inspect.Type, unit: str | None) -> Shape:
    match info:
        case inspect.StrType():
            return Shape("text", scalar=lambda text, plain: text)
        case inspect.BoolType():
            return Shape("true or false", scalar=_true_or_false)
        case inspect.LiteralType():
            choices = tuple(map(str, info.values))
            return Shape(" or ".join(choices), scalar=functools.partial(_one_of, choices))
        case inspect.IntType() | inspect.FloatType():
            whole = isinstance(info, inspect.IntType)
            wanted, read = {
                "seconds": ("a duration", units.seconds),
                "bytes": ("a size", units.size),
            }.get(unit or "", ("a whole number", _whole_number) if whole else ("a number", _number))
            return Shape(wanted, scalar=functools.partial(_within, info, read))
    raise AssertionError(f"the schema has a type that nothing reads: {info}")


def _union(members: list[Shape]) -> Shape:
    whole = Shape(" or ".join(member.wanted for member in members if member.wanted != "null"))
    for member in members:
        whole.nullable = whole.nullable or member.nullable
        whole.scalar = whole.scalar or member.scalar
        whole.items = whole.items or member.items
        whole.values = whole.values or member.values
        if member.struct:
            whole.struct, whole.fields, whole.required = member.struct, member.fields, member.required
    return whole


def _struct_shape(info: inspect.StructType) -> Shape:
    fields = {entry.name: _shape(entry.type) for entry in info.fields}
    required = tuple(entry.name for entry in info.fields if entry.required)
    return Shape("a mapping", struct=info.cls, fields=fields, required=required)


def _true_or_false(text: str, plain: bool) -> bool:
    if not plain or text.lower() not in _BOOLEANS:
        raise ValueError(f"must be true or false{'' if plain else ', without quotes'}, not {text!r}")
    return _BOOLEANS[text.lower()]


def _one_of(choices: tuple[str, ...], text: str, plain: bool) -> str:
    if text in choices:
        return text
    close = difflib.get_close_matches(text, choices, 1)
    raise ValueError(f"{text!r} is not one of {', '.join(choices)}" + (f"; did you mean {close[0]}?" if close else ""))


def _whole_number(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text) is None:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _number(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is None:
        raise ValueError(f"{text!r} is not a number: write 2 or 0.5")
    return float(text)


def _within(bounds: Any, read: Callable[[str], float], text: str, plain: bool) -> float:
    """``bounds``: an IntType or FloatType of msgspec.inspect, with its ge, gt, le."""
    value = read(text)
    if bounds.ge is not None and value < bounds.ge:
        if read is units.size:
            bare = " bytes" if text.isdecimal() else ""
            raise ValueError(f"must be at least {units.written_size(bounds.ge)}, not {text}{bare}")
        raise ValueError(f"must be at least {bounds.ge}, not {text}")
    if bounds.gt is not None and value <= bounds.gt:
        raise ValueError(f"must be more than {bounds.gt}, not {text}")
    if bounds.le is not None and value > bounds.le:
        raise ValueError(f"must be at most {bounds.le}, not {text}")
    return value


# how a section without ``enabled`` is turned off
_OFF = {Cache: "size: 0", MachineIdle: "then: none", Storage: "mode: none"}

S = TypeVar("S", bound=Struct)


class _Wrong:
    """Placeholder for a value that could not be read; its fault is reported."""


_WRONG = _Wrong()


def parse(root: Node | None, faults: Faults) -> File:
    """Parse the file. Faults are added to ``faults``; invalid values keep their default, so the rest is checked too."""
    if root is None:
        faults.add((), "is empty: it needs at least app: and users:")
        return File()
    value = _value(root, shape_of(File), (), faults)
    return value if isinstance(value, File) else File()


def _value(node: Node, shape: Shape, key: Key, faults: Faults) -> object:
    match node:
        case ScalarNode():
            return _scalar(node, shape, key, faults)
        case SequenceNode() if shape.items is not None:
            return _items(node, shape.items, key, faults)
        case MappingNode() if shape.struct is not None:
            return _struct(node, shape, shape.struct, key, faults)
        case MappingNode() if shape.values is not None:
            return _values(node, shape.values, key, faults)
    found = "a list" if isinstance(node, SequenceNode) else "a mapping"
    example = ""
    if isinstance(node, SequenceNode) and shape.values is not None and shape.scalar is None:
        example = ": {NAME: }" if shape.values.struct else ": {NAME: value}"
    hint = _placeholder_without_quotes(node) if shape.scalar is not None else ""
    faults.add(key, f"must be {shape.wanted}{example}, not {found}{hint}{_indentation(key)}", node.line)
    return _WRONG


def _placeholder_without_quotes(node: Node) -> str:
    """Return a hint if this is ``{port}``, which is a mapping with one key."""
    match node:
        case MappingNode(pairs=((ScalarNode(plain=True, text=name), ScalarNode(text="")),)):
            return f": write '{{{name}}}' in quotes"
    return ""


def _scalar(node: ScalarNode, shape: Shape, key: Key, faults: Faults) -> object:
    if node.null and shape.nullable:
        return None
    if node.null and shape.scalar is None and shape.items is None:  # a section with only comments in it
        return _value(MappingNode(node.line, ()), shape, key, faults)
    try:
        _refuse_placeholders(node.text, key)
        return _read(node, shape)
    except ValueError as error:
        faults.add(key, f"{error}{_indentation(key)}", node.line)
        return _WRONG


def _indentation(key: Key) -> str:
    """Return a hint for a value that cannot be a user's settings: perhaps it is one of them."""
    if len(key) == 2 and key[0] == "users" and key[1] in shape_of(UserEntry).fields:
        return f". If {key[1]} is meant for the user above: indent it more"
    return ""


def _read(node: ScalarNode, shape: Shape) -> object:
    if not _harmless(node.text):
        raise ValueError(f"{node.text!r} holds a character that no path and no program can take")
    if node.null and node.text and shape.scalar is not None:
        raise ValueError(f"must be {shape.wanted}; write '{node.text}' in quotes if that is meant")
    if node.null:
        raise ValueError(f"is empty, and must be {shape.wanted}: leave the key out, or give it a value")
    if shape.scalar is not None:
        return shape.scalar(node.text, node.plain)
    example = f": [{', '.join(node.text.split())}]" if shape.items is not None else ""
    if node.plain and (on := _BOOLEANS.get(node.text.lower())) is not None and shape.struct is not None:
        switch = (
            f"enabled: {str(on).lower()}" if "enabled" in shape.fields else _OFF.get(shape.struct) if not on else None
        )
        example = "" if switch is None else f": {{{switch}}}"
    raise ValueError(f"must be {shape.wanted}{example}, not {node.text!r}")


def _refuse_placeholders(text: str, key: Key) -> None:
    """Raise ValueError if the text has a placeholder, and this is a setting in which none is replaced."""
    token = _PLACEHOLDER.search(text)
    if token is not None and _REPLACED.isdisjoint(key):
        below = " This is a name below {data} already." if {"databases", "files"} & set(key) else ""
        variable = " The variable FLYATC_DATA replaces this setting." if key == ("server", "data") else ""
        raise ValueError(
            f"{text!r}: {token[0]} is not replaced here, only in command, before_start, env, ready, ready_host, seed "
            f"and sendfile.roots.{below}{variable}"
        )


def _harmless(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _items(node: SequenceNode, shape: Shape, key: Key, faults: Faults) -> list[object]:
    values = [_value(item, shape, (*key, index), faults) for index, item in enumerate(node.items)]
    return [value for value in values if value is not _WRONG]


def _values(node: MappingNode, shape: Shape, key: Key, faults: Faults) -> dict[str, object]:
    values = {name: _value(value, shape, (*key, name), faults) for name, value in _pairs(node, key, faults)}
    return {name: value for name, value in values.items() if value is not _WRONG}


def _struct(node: MappingNode, shape: Shape, struct: type[Struct], key: Key, faults: Faults) -> object:
    values: dict[str, object] = {}
    for name, value in _pairs(node, key, faults):
        if name in shape.fields:
            values[name] = _value(value, shape.fields[name], (*key, name), faults)
        else:
            faults.add((*key, name), _unknown(name, tuple(shape.fields), _outdented(node, key) or ""))
    for name in shape.required:
        if name not in values:
            faults.add(key, f"needs {name}", node.line)
            values[name] = _WRONG
    given = {name: value for name, value in values.items() if value is not _WRONG}
    if not given.keys() >= set(shape.required):
        return _WRONG
    try:
        return struct(**given)
    except ValueError as error:  # raised by the struct's __post_init__
        faults.add(key, str(error), node.line)
        return _WRONG


def _pairs(node: MappingNode, key: Key, faults: Faults) -> Iterator[tuple[str, Node]]:
    """Yield each key once, at its first occurrence."""
    seen: dict[str, int] = {}
    for name, value in node.pairs:
        if not isinstance(name, ScalarNode):
            faults.add(key, "has a key that is not plain text", name.line)
        elif not _harmless(name.text):
            faults.add((*key, name.text), "holds a character that no path and no program can take", name.line)
        elif name.plain and name.text == "<<":
            faults.add((*key, name.text), "merging is not known here: what all share belongs in app", name.line)
        elif name.text in seen:
            faults.add((*key, name.text), f"appears twice, first in line {seen[name.text]}", name.line)
        else:
            seen[name.text] = name.line
            yield name.text, value


def _outdented(node: MappingNode, key: Key) -> str | None:
    """Return what an unknown key of this mapping may be, if it is at the wrong depth."""
    if not key and (users := node.find("users")) and isinstance(users[1], ScalarNode) and users[1].null:
        return "if it is a user, indent users: they are below users:, two blanks to the right"
    if len(key) == 2 and key[0] == "users":
        return "if it is a tenant, list it: tenants: [2025/winter]"
    return None


def _unknown(name: str, here: tuple[str, ...], outdented: str) -> str:
    homes = _homes()
    if name in homes:
        return f"unknown key here, it belongs {homes[name]}"
    if close := difflib.get_close_matches(name, here, 1):
        return f"unknown key, did you mean {close[0]}?"
    if outdented:
        return f"unknown key; {outdented}"
    if close := difflib.get_close_matches(name, homes, 1, 0.8):  # in another section: less likely
        return f"unknown key, did you mean {close[0]}? It belongs {homes[close[0]]}"
    return f"unknown key; known here: {', '.join(here)}"


def _homes() -> dict[str, str]:
    """Return where each key of the schema belongs, as text for people."""
    sections = shape_of(File).fields
    homes: dict[str, str] = {}
    for section, shape in sections.items():
        entries = shape.values.fields if shape.values else shape.fields
        for name in entries:
            homes.setdefault(name, f"in {section}" if shape.struct else f"under a name in {section}")
    return homes | {section: "at the top of the file" for section in sections}
