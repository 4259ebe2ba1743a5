"""The schema of tenants.yaml told to others: to editors as JSON Schema, to people as a page of reference. Pure."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from flyatc.config import parse
from flyatc.config.schema import App, AppOverrides, File, UserEntry
from flyatc.config.schema_sections import Listen
from flyatc.kit import units

_WITH_UNITS = {"seconds": units.written_seconds, "octets": units.written_octets}
_TEXT = {"type": ["string", "number", "boolean"]}  # any scalar is read from its own text: names such as 100

_HEAD = """\
# tenants.yaml

Every key that the file may have. This page is written by `flyatc.config.reference`; a test keeps it true.

* A **duration** is a number of seconds or has units: `500ms`, `60s`, `5m`, `1h30m`, `2d`.
* A **size** is a number of bytes or has a unit: `512`, `64KB`, `10MB`; K is 1024.
* **Relative paths** are relative to the folder of tenants.yaml.
* **Placeholders** may stand in `command`, in the values of `env`, in `ready` and in `seed`: `{port}` `{user}`
  `{tenant}` `{prefix}` `{data}`, and from the daemon's environment `${NAME}` or `${NAME:-default}`. `{{` and `}}` are
  braces.
* What is not known here is an error: `flyatc check` tells all of them at once, each with its line.
"""

_OF_USERS = """\
Each key is a user: the first segment of an address, and what it may be overridden with. A user without anything
(`bellevue:`) is one tenant. Names are of `a-z`, `0-9`, `-` and `_`, at most 63 characters.

`tenants` is a list of names (`[2025/winter, 2025/summer]`), or a mapping from names to what is different for each
(`2025/winter: {idle: 30m}`, or nothing). The name `""` is the user itself.

Besides these two, a user and a tenant may have every key of `app`: it then replaces what stands above. Only
`env` and `pages` are merged key by key, and `delivery` part by part.
"""


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of tenants.yaml."""
    schema: dict[str, Any] = msgspec.json.schema(File)
    definitions = schema["$defs"]
    for struct in _structs(File):
        described = definitions[struct.__name__]["properties"]
        for entry in msgspec.structs.fields(struct):
            _correct(described[entry.name], struct, entry.name)
    for struct in (AppOverrides, UserEntry):
        for name, of_app in definitions["App"]["properties"].items():
            definitions[struct.__name__]["properties"][name] = {
                word: value for word, value in of_app.items() if word != "default"
            }
    definitions["Listen"] = {"title": "Listen", "type": ["integer", "string"], "examples": [3000, "127.0.0.1:3000"]}
    _loosen(definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tenants.yaml"} | schema


def reference() -> str:
    """docs/configuration.md: every key with its type, default and meaning."""
    parts = [_HEAD]
    for name, entry in _fields(File).items():
        parts.append(f"## {name}\n")
        if name == "users":
            own = {key: field for key, field in _fields(UserEntry).items() if key not in App.__struct_fields__}
            parts += [_OF_USERS, _table(UserEntry, own)]
        else:
            struct = _section(entry)
            assert struct is not None
            parts.append(_table(struct, _fields(struct)))
            parts += _subsections(name, struct)
    return "\n".join(parts)


def _subsections(above: str, struct: type[Struct]) -> Iterator[str]:
    for name, entry in _fields(struct).items():
        section, title = _section(entry), f"{above}.{name}"
        if (item := _item(entry)) is not None:
            section, title = item, f"{title}: each entry"
        if section is not None and section is not Listen:
            yield f"### {title}\n"
            yield _table(section, _fields(section))
            yield from _subsections(title, section)


def _table(struct: type[Struct], fields: dict[str, inspect.Field]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, entry in fields.items():
        wanted = parse.of(struct).fields[name].wanted
        lines.append(f"| `{name}` | {wanted} | {_default(entry)} | {_description(entry)} |")
    return "\n".join(lines) + "\n"


def _default(entry: inspect.Field) -> str:
    value = entry.default if entry.default_factory is NODEFAULT else entry.default_factory()
    if entry.required:
        return "needed"
    if value in (None, "") or value is NODEFAULT:
        return "none"
    if isinstance(value, Listen):
        return f"`{value.port}`"
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    if isinstance(value, Struct | dict):
        return "`{}`"
    written = _WITH_UNITS.get(_unit(entry), _plain)
    return f"`{written(value)}`"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _description(entry: inspect.Field) -> str:
    schema = entry.type.extra_json_schema if isinstance(entry.type, inspect.Metadata) else None
    return str((schema or {}).get("description", "")).replace("|", "\\|")


def _unit(entry: inspect.Field) -> str:
    extra = entry.type.extra if isinstance(entry.type, inspect.Metadata) else None
    return str((extra or {}).get("unit", ""))


def _fields(struct: type[Struct]) -> dict[str, inspect.Field]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return {entry.name: entry for entry in info.fields}


def _section(entry: inspect.Field) -> type[Struct] | None:
    kind = _bare(entry.type)
    return kind.cls if isinstance(kind, inspect.StructType) else None


def _item(entry: inspect.Field) -> type[Struct] | None:
    """Of what a list is."""
    kind = _bare(entry.type)
    item = kind.item_type if isinstance(kind, inspect.ListType) else None
    return item.cls if isinstance(item, inspect.StructType) else None


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _structs(top: type[Struct]) -> Iterator[type[Struct]]:
    yield top
    for entry in _fields(top).values():
        if (struct := _section(entry) or _item(entry)) is not None and struct is not Listen:
            yield from _structs(struct)


def _correct(described: dict[str, Any], struct: type[Struct], name: str) -> None:
    """What msgspec cannot know: that numbers may have units, and how a place to listen is written."""
    entry = _fields(struct)[name]
    if _unit(entry):
        described["type"] = ["number", "string"]
    if isinstance(described.get("default"), dict) and described.get("$ref") == "#/$defs/Listen":
        described["default"] = described["default"]["port"]


def _loosen(node: Any) -> None:
    """Where text is wanted any scalar will do."""
    if isinstance(node, dict):
        if node.get("type") == "string" and "enum" not in node:
            node.update(_TEXT)
        for child in node.values():
            _loosen(child)
    elif isinstance(node, list):
        for child in node:
            _loosen(child)
