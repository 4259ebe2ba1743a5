"""Log lines as readable text, for terminals and ``flyatc logs``. Pure."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from flyatc.kit.units import human_seconds

BOLD, DIM, RED, GREEN, YELLOW, MAGENTA, CYAN = 1, 2, 31, 32, 33, 35, 36  # ECMA-48, SGR

_LEVELS = {"debug": DIM, "info": CYAN, "warning": YELLOW, "error": RED}
_KNOWN = ("time", "level", "msg", "tenant", "stream", "output")  # output: already logged line by line, and in reason

_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
Record = dict[str, Any]


def readable(line: bytes, *, colour: bool) -> str:
    """Format ``line``, a JSON object of the log; anything else is returned as it is. Text from clients and apps is
    escaped: it cannot move the cursor or change colours."""
    paint = _in_colour if colour else _without
    try:
        record = msgspec.json.decode(line, type=Record)
        clock = datetime.fromisoformat(record["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return plain(line.decode(errors="replace"))
    kind, *rest = _parts(record, paint)
    tenant = [paint(plain(str(record["tenant"])), BOLD)] if record.get("tenant") else []
    return " ".join(part for part in (paint(clock, DIM), kind, *tenant, *rest) if part)


class Shown(NamedTuple):
    """A line of the log for a page. ``clock``: its time in UTC. ``kind``: app, request or event. ``mark``: status
    of a request, the stream of an app's output, or the level."""

    clock: str
    kind: str
    level: str
    mark: str
    text: str


def shown(line: bytes) -> Shown:
    """Split a line of the log, without its tenant. Control characters are escaped; HTML is not."""
    try:
        record = msgspec.json.decode(line, type=Record)
        clock = datetime.fromisoformat(record["time"]).astimezone(UTC).strftime("%H:%M:%S")
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return Shown("", "event", "", "", plain(line.decode(errors="replace")))
    kind = "request" if "method" in record else "app" if "stream" in record else "event"
    mark, *rest = _parts(record, _without)
    mark = _text(record, "stream") if kind == "app" else mark.strip()
    words = rest[1:] if kind == "app" else rest
    return Shown(clock, kind, str(record.get("level", "")), mark, " ".join(part for part in words if part))


def plain(text: str) -> str:
    """Escape everything that could move a terminal's cursor or change its colours."""
    return text if text.isprintable() else "".join(map(_printable, text))


def plain_lines(text: str) -> str:
    """Like ``plain``, for a text of several lines."""
    return "\n".join(map(plain, text.split("\n")))


def inert_json(text: bytes) -> bytes:
    """Escape DEL and the C1 control characters (U+0080 to U+009F) in JSON. JSON allows them unescaped, and terminals
    obey them: U+009B begins a control sequence like ESC [."""
    if b"\xc2" not in text and b"\x7f" not in text:
        return text
    return _CONTROLS.sub(lambda match: b"\\u00%02x" % match[0][-1], text)


def span(ms: float) -> str:
    """Format milliseconds: ``"0.3 ms"``, ``"85 ms"``, ``"20.0 s"``."""
    return f"{ms:.1f} ms" if ms < 10 else human_seconds(ms / 1000)


class _Paint:
    """Wrap text in a colour, if enabled."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


_in_colour, _without = _Paint(colour=True), _Paint(colour=False)


def _parts(record: Record, paint: _Paint) -> Iterator[str]:
    if "method" in record:
        return _request(record, paint)
    if "stream" in record:
        return iter((paint("app    ", MAGENTA), paint("|", DIM), _text(record, "msg")))
    return _event(record, paint)


def _request(record: Record, paint: _Paint) -> Iterator[str]:
    status = int(record.get("status", 0))
    yield paint(f"{status:<7}", RED if status >= 500 else YELLOW if status >= 400 else GREEN)
    query = f"?{record['query']}" if record.get("query") is not None else ""
    yield plain(f"{record['method']} {record.get('path', '')}{query}")
    yield paint(span(record.get("ms", 0)), DIM)
    if record.get("wait_ms") is not None:
        yield paint(f"cold, waited {span(record['wait_ms'])}", CYAN)
    yield paint(_text(record, "reason"), DIM)


def _event(record: Record, paint: _Paint) -> Iterator[str]:
    level = str(record.get("level", ""))
    yield paint(f"{plain(level):<7}", _LEVELS.get(level, DIM))
    yield _text(record, "msg")
    fields = {name: value for name, value in record.items() if name not in _KNOWN and value is not None}
    if "was" in fields:  # a change of a tenant's state; the message names the new one
        yield paint(f"(was {plain(str(fields.pop('was')))} for {span(fields.pop('ms', 0))})", DIM)
        fields.pop("state", None)
    took = fields.pop("ms", None)
    for name, value in fields.items():
        yield paint(f"{plain(name)}=", DIM) + _value(value)
    if took is not None:
        yield paint(span(took), DIM)


def _value(value: object) -> str:
    """Format a value; one of several lines, such as a traceback, goes below, indented."""
    first, *more = (plain(line) for line in str(value).rstrip("\n").split("\n"))
    return "".join((f"\n    {first}" if more else first, *(f"\n    {line}" for line in more)))


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    return "" if value is None else plain(str(value))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
