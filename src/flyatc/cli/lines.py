"""One line of the log, for people on a terminal."""

from datetime import datetime
from typing import Any

import msgspec

from flyatc.cli.show import paint
from flyatc.cli.words import plain

_COLOURS = {"debug": "white", "info": "cyan", "warning": "yellow", "error": "red"}
_TOLD = ("time", "level", "msg", "tenant", "stream")


def readable(line: bytes) -> str:
    """``line``: one JSON object of ours; anything else is shown as it is."""
    try:
        record = msgspec.json.decode(line, type=dict[str, Any])
        clock = datetime.fromisoformat(record["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return plain(line.decode(errors="replace"))
    if "method" in record:
        kind, told = _request(record)
    elif "stream" in record:
        kind, told = paint("app    ", "magenta"), paint("| ", dim=True) + _text(record, "msg")
    else:
        kind, told = _event(record)
    tenant = record.get("tenant")
    who = paint(plain(str(tenant)), bold=True) + " " if tenant else ""
    return f"{paint(clock, dim=True)} {kind} {who}{told}".rstrip()


def _request(record: dict[str, Any]) -> tuple[str, str]:
    status = int(record.get("status", 0))
    colour = "red" if status >= 500 else "yellow" if status >= 400 else "green"
    query = f"?{record['query']}" if record.get("query") is not None else ""
    told = plain(f"{record['method']} {record.get('path', '')}{query}")
    cold = f"cold, waited {record['wait_ms']:.0f} ms" if record.get("wait_ms") is not None else ""
    rest = [f"{record.get('ms', 0):.1f} ms", cold, _text(record, "reason")]
    return paint(f"{status:<7}", colour), f"{told} {paint(', '.join(part for part in rest if part), dim=True)}"


def _event(record: dict[str, Any]) -> tuple[str, str]:
    level = str(record.get("level", ""))
    rest = " ".join(
        paint(f"{plain(name)}=", dim=True) + plain(str(value))
        for name, value in record.items()
        if name not in _TOLD and value is not None
    )
    return paint(f"{plain(level):<7}", _COLOURS.get(level)), f"{_text(record, 'msg')} {rest}"


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    return "" if value is None else plain(str(value))
