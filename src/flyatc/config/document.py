"""Find and read tenants.yaml, and compose the tree of its nodes. The only module that uses the YAML library."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from msgspec import Struct

from flyatc.config import errors
from flyatc.config.errors import ConfigError, Fault

HERE = Path("tenants.yaml")
SYSTEM = Path("/etc/flyatc/tenants.yaml")

_LARGEST_FILE = 4 * 1024 * 1024
_DEEPEST = 32  # the schema needs six
_TOO_DEEP = "is nested too deeply"
_MOST_NODES = 1_000_000  # counted with aliases expanded: limits nested aliases (billion laughs)
_BRACKET_OR_NEWLINE = re.compile(r"[\[\]{}\n]")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast in C, which is not built everywhere


def find(explicit: Path | None) -> Path:
    """Return the file to read: ``explicit``, else HERE, else SYSTEM. Raises ConfigError if there is none."""
    if explicit is not None:
        if _is_there(explicit):
            return explicit
        raise ConfigError([Fault(str(explicit), None, "", "there is no such file")])
    for path in (HERE, SYSTEM):
        if _is_there(path):
            return path
    message = f"is not here ({Path.cwd()}), and there is no {SYSTEM}: flyatc init writes one, --config names another"
    raise ConfigError([Fault(str(HERE), None, "", message)])


_SECTION = re.compile(r"""["']?server["']?[ \t]*:""")
_DEFAULT_DATA = "./data"  # of server.data


def data_folder(explicit: Path | None, environ: Mapping[str, str]) -> str:
    """Return server.data, absolute, for a command that asks the running daemon: the rest of the file may be faulty, and
    $FLYATC_DATA needs no file. Raises ConfigError where the file cannot tell."""
    given = environ.get("FLYATC_DATA")
    try:
        path = find(explicit).absolute()
    except ConfigError:
        if not given:
            raise
        return str(Path(given).absolute())
    if given:
        return str(path.parent / given)
    try:
        return str(path.parent / (_server_data(read(path)) or _DEFAULT_DATA))
    except (ConfigError, yaml.YAMLError, _Unreadable) as error:
        where = getattr(error, "problem_mark", None)
        why = "server.data cannot be read: name the daemon's folder with --data, or correct the file (flyatc check)"
        raise ConfigError([Fault(str(path), where.line + 1 if where else None, "", why)]) from error


class _Unreadable(Exception):
    """There is such a key, and its value is no plain text."""


def _server_data(text: str) -> str | None:
    """Return server.data as written; None if it is not. Raises YAMLError or _Unreadable if that is uncertain."""
    try:
        return _value_at(yaml.parse(text, Loader=_LOADER), ("server", "data"))
    except yaml.YAMLError:  # perhaps above the section, which is then read alone
        lines = text.splitlines(keepends=True)
        begin = next((number for number, line in enumerate(lines) if _SECTION.match(line)), None)
        if begin is None:
            if _SECTION.search(text):  # in braces, or indented by mistake
                raise
            return None
        end = begin + 1
        while end < len(lines) and (not lines[end].strip() or lines[end][0] in " \t#"):
            end += 1
        return _value_at(yaml.parse("".join(lines[begin:end]), Loader=_LOADER), ("server", "data"))


def _value_at(events: Iterator[yaml.Event], keys: tuple[str, ...]) -> str | None:
    """Return the text below ``keys``, and read no event after it. None: there is none."""
    for event in events:
        if isinstance(event, yaml.MappingStartEvent):
            break
        if isinstance(event, yaml.NodeEvent):
            return None
    for key in events:
        if isinstance(key, yaml.CollectionEndEvent):
            break
        _end(key, events)
        if not (isinstance(key, yaml.ScalarEvent) and key.value == keys[0]):
            _end(next(events), events)
            continue
        if len(keys) > 1:
            return _value_at(events, keys[1:])
        value = next(events)
        if not isinstance(value, yaml.ScalarEvent):
            raise _Unreadable
        return value.value or None
    return None


def compose(text: str, file: str) -> errors.Node | None:
    """Return the tree of one YAML document, None if it is empty. Raises ConfigError.

    Built from the parser's events: yaml.compose recurses in C, and deep nesting crashes the process.
    """
    try:
        return _Composer(file).document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark and (deep := _line_of_deep_nesting(text, mark.index)):  # libyaml refuses it before any event
            raise ConfigError([Fault(file, deep, "", _TOO_DEEP)]) from error
        message = ", ".join(part for part in (error.context, error.problem) if part)
        if mark and text[mark.index : mark.index + 1] == "\t":
            message = "here is a tab: indent with spaces"
        elif error.context_mark and "quoted scalar" in (error.context or ""):  # the problem is at the end of the file
            mark, message = error.context_mark, "the quotation mark has no partner"
        else:
            message += _advice(text, error)
        raise ConfigError([Fault(file, mark.line + 1 if mark else None, "", f"not YAML: {message}")]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        message = f"not YAML: {str(error).splitlines()[0]}"
        refused = yaml.SafeLoader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, refused.start()) + 1 if refused else None
        raise ConfigError([Fault(file, line, "", message)]) from error


def _advice(text: str, error: yaml.MarkedYAMLError) -> str:
    """Return what to do about a mistake of syntax, if it is one of those that missing quotes lead to."""
    mark = error.context_mark if "alias" in (error.context or "") else error.problem_mark
    first = text[mark.index : mark.index + 1] if mark else ""
    if first and first in "*@`%":
        return f": put what begins with {first} in quotes, such as '{first}'"
    if "flow" in (error.context or "") or "mapping values" in (error.problem or ""):
        return ": close each bracket, and put a value with { } [ ] , : or # in it in quotes, such as '{data}/app.db'"
    return ""


def _line_of_deep_nesting(text: str, end: int) -> int | None:
    """Return the line where more than ``_DEEPEST`` brackets are open before ``end``. Does not look for quotes."""
    depth, line = 0, 1
    for found in _BRACKET_OR_NEWLINE.finditer(text, 0, end):
        match found[0]:
            case "\n":
                line += 1
            case "[" | "{":
                depth += 1
            case _:
                depth = max(0, depth - 1)
        if depth > _DEEPEST:
            return line
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a folder without permission: reading it reports why
        return True


def read(path: Path) -> str:
    """Return the text of the file. Raises ConfigError."""
    return decoded(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """Return what is in the file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([Fault(str(path), None, "", f"cannot be read: {error.strerror}")]) from error
    if len(data) > _LARGEST_FILE:
        raise ConfigError([Fault(str(path), None, "", "is larger than 4 MB; that is no configuration")])
    return data


def decoded(data: bytes, file: str) -> str:
    """Return the text without its byte order mark. Raises ConfigError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([Fault(file, line, "", "is not UTF-8: save it as UTF-8")]) from error


class Place(Struct, frozen=True):
    """An entry of a mapping in the text: offsets of the key's first character, and behind the value's last one."""

    name: str
    start: int
    end: int


class Section(Struct, frozen=True):
    """A mapping in the text. ``start``: offset of its key; ``flow``: in braces."""

    start: int
    flow: bool
    entries: tuple[Place, ...]


def section(text: str, name: str) -> Section | None:
    """Return where the entries of a section at the top are; None: there is none, or it is no mapping. ``text`` must be
    one that ``compose`` accepts."""
    events = yaml.parse(text, Loader=_LOADER)
    if not any(isinstance(event, yaml.MappingStartEvent) for event in events):
        return None
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            return None
        _end(key, events)
        value = next(events)
        if isinstance(key, yaml.ScalarEvent) and key.value == name:
            if not isinstance(value, yaml.MappingStartEvent):
                return None
            return Section(_start(key), bool(value.flow_style), tuple(_places(events)))
        _end(value, events)
    return None


def _places(events: Iterator[yaml.Event]) -> Iterator[Place]:
    """Yield the entries of the mapping which the events are in."""
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            return
        _end(key, events)
        yield Place(getattr(key, "value", ""), _start(key), _end(next(events), events))


def _start(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.index


def _end(event: yaml.Event, events: Iterator[yaml.Event]) -> int:
    """Read the node which begins with this event, and return the offset behind its last character. The end of a block,
    which has no character of its own, is reported where the next token begins: its last scalar ends it."""
    end, within = 0, []
    while True:
        if isinstance(event, yaml.CollectionStartEvent):
            within.append(bool(event.flow_style))
        elif not isinstance(event, yaml.CollectionEndEvent) or within.pop():
            assert event.end_mark is not None
            end = event.end_mark.index
        if not within:
            return end
        event = next(events)


class _Composer:
    """Builds nodes from the parser's events, counting them with all aliases expanded."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._anchors: dict[str, tuple[errors.Node, int]] = {}
        self._count = 0

    def document(self, events: Iterator[yaml.Event]) -> errors.Node | None:
        root: errors.Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self._refusal(event, "there must be one document, and here begins another: take out the '---'")
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 0)
        return root

    def _node(self, event: yaml.NodeEvent, events: Iterator[yaml.Event], depth: int) -> errors.Node:
        before = self._count
        self._count += 1
        if depth > _DEEPEST:
            raise self._refusal(event, _TOO_DEEP)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            raise self._refusal(event, f"tags such as {event.tag} are not known here")
        node = self._value(event, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _value(self, event: yaml.NodeEvent, events: Iterator[yaml.Event], depth: int) -> errors.Node:
        line = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            return errors.ScalarNode(line, event.value, event.implicit[0])
        children = []
        for child in events:
            if isinstance(child, yaml.CollectionEndEvent):
                break
            assert isinstance(child, yaml.NodeEvent)
            children.append(self._node(child, events, depth + 1))
        if isinstance(event, yaml.SequenceStartEvent):
            return errors.SequenceNode(line, tuple(children))
        return errors.MappingNode(line, tuple(zip(children[::2], children[1::2], strict=True)))

    def _alias(self, event: yaml.AliasEvent) -> errors.Node:
        if event.anchor not in self._anchors:
            raise self._refusal(event, f"*{event.anchor} is not the name of anything above")
        node, count = self._anchors[event.anchor]
        self._count += count
        if self._count > _MOST_NODES:
            raise self._refusal(event, f"*{event.anchor} and its like unfold to more than {_MOST_NODES} values")
        return node

    def _refusal(self, event: yaml.Event, message: str) -> ConfigError:
        return ConfigError([Fault(self._file, _line(event), "", message)])


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
