"""The types of the schema, as a reader of YAML needs them: what each kind of node may become. Pure.

Made from the Structs of ``schema`` by msgspec's own inspection, so that a new field needs no second place.
"""

import difflib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, inspect

from flyatc.config import listen
from flyatc.kit import units

Read = Callable[[str, bool], object]  # (the scalar's text, whether it stands without quotes); raises ValueError

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass
class Shape:
    """What may stand in one place: at most one reading for each kind of node."""

    wanted: str  # in words, for people: "a duration", "a list"
    nullable: bool = False
    scalar: Read | None = None
    items: "Shape | None" = None
    values: "Shape | None" = None
    struct: type[Struct] | None = None
    fields: "dict[str, Shape]" = field(default_factory=dict)
    required: tuple[str, ...] = ()  # of the fields


@functools.cache
def of(struct: type[Struct]) -> Shape:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return _struct(info)


def _shape(info: inspect.Type, unit: str | None = None) -> Shape:
    match info:
        case inspect.Metadata():
            return _shape(info.type, (info.extra or {}).get("unit", unit))
        case inspect.UnionType():
            return _union([_shape(member, unit) for member in info.types])
        case inspect.StructType(cls=listen.Listen):
            return Shape("a port or host:port", scalar=lambda text, plain: listen.Listen.parse(text))
        case inspect.StructType():
            return _struct(info)
        case inspect.ListType():
            return Shape("a list", items=_shape(info.item_type))
        case inspect.DictType():
            return Shape("a mapping", values=_shape(info.value_type))
        case inspect.NoneType():
            return Shape("null", nullable=True)
    return _scalar(info, unit)


def _scalar(info: inspect.Type, unit: str | None) -> Shape:
    match info:
        case inspect.StrType():
            return Shape("text", scalar=lambda text, plain: text)
        case inspect.BoolType():
            return Shape("true or false", scalar=_true_or_false)
        case inspect.LiteralType():
            words = tuple(map(str, info.values))
            return Shape(" or ".join(words), scalar=functools.partial(_one_of, words))
        case inspect.IntType() | inspect.FloatType():
            wanted, read = {
                "seconds": ("a duration", units.seconds),
                "octets": ("a size", units.octets),
            }.get(unit or "", ("a whole number", _whole_number))
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


def _struct(info: inspect.StructType) -> Shape:
    fields = {entry.name: _shape(entry.type) for entry in info.fields}
    required = tuple(entry.name for entry in info.fields if entry.required)
    return Shape("a mapping", struct=info.cls, fields=fields, required=required)


def _true_or_false(text: str, plain: bool) -> bool:
    if not plain or text.lower() not in _BOOLEANS:
        raise ValueError(f"must be true or false{'' if plain else ', without quotes'}, not {text!r}")
    return _BOOLEANS[text.lower()]


def _one_of(words: tuple[str, ...], text: str, plain: bool) -> str:
    if text in words:
        return text
    close = difflib.get_close_matches(text, words, 1)
    raise ValueError(f"{text!r} is not one of {', '.join(words)}" + (f"; did you mean {close[0]}?" if close else ""))


def _whole_number(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text) is None:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _within(bounds: Any, read: Callable[[str], float], text: str, plain: bool) -> float:
    """``bounds``: an IntType or FloatType of msgspec.inspect, with its ge, gt, le."""
    value = read(text)
    if bounds.ge is not None and value < bounds.ge:
        raise ValueError(f"must be at least {bounds.ge}, not {text}")
    if bounds.gt is not None and value <= bounds.gt:
        raise ValueError(f"must be more than {bounds.gt}, not {text}")
    if bounds.le is not None and value > bounds.le:
        raise ValueError(f"must be at most {bounds.le}, not {text}")
    return value
