"""Find, read, parse and resolve tenants.yaml. The only module that uses the YAML library."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from flyatc.config import errors
from flyatc.config.errors import ConfigError, Fault, Faults
from flyatc.config.parse import parse
from flyatc.config.resolve import resolve
from flyatc.config.schema import Config

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
    message = f"is not here ({Path.cwd()}), and there is no {SYSTEM}: write one, or name yours with --config"
    raise ConfigError([Fault(str(HERE), None, "", message)])


def load(path: Path, environ: Mapping[str, str], alone: Sequence[str] = ()) -> Config:
    """Load the file. ``alone``: the command of the only app (resolve.resolve). Raises ConfigError with all faults."""
    root = compose(_read(path), str(path))
    faults = Faults(str(path), root)
    file = parse(root, faults)
    config = resolve(file, path.absolute(), environ, RealDisk(), faults, alone)
    faults.raise_if_any()
    return config


class RealDisk:
    """The real file system, as config.merge.Disk: paths in the file are checked against it."""

    def is_directory(self, path: Path) -> bool:
        try:
            return path.is_dir()
        except OSError:
            return False

    def readable_size(self, path: Path) -> int | None:
        try:
            if not path.is_file():  # open() would block on a pipe
                return None
            with path.open("rb"):
                return path.stat().st_size
        except OSError:
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
        message = "not YAML: " + ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([Fault(file, mark.line + 1 if mark else None, "", message)]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        message = f"not YAML: {str(error).splitlines()[0]}"
        raise ConfigError([Fault(file, None, "", message)]) from error


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


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise ConfigError([Fault(str(path), None, "", "is larger than 4 MB; that is no configuration")])
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Fault(str(path), None, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([Fault(str(path), line, "", "is not UTF-8")]) from error


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
