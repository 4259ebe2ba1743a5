"""What litestream says, into our log: its level kept, its fields beside the message, as a source of its own."""

from typing import Any, Protocol

import msgspec

from flyatc.observe.log import LEVELS

_DULL = ("no databases specified in configuration",)  # an error to litestream; our databases come by its socket
_ROUTINE = "debug"  # what it tells as information is its inner life: "starting compaction monitor"
_TAKEN = {"time", "level", "msg"}


class Teller(Protocol):
    """``observe.log.Log`` is one."""

    def event(self, level: str, message: str, /, **fields: Any) -> None: ...


class Relay:
    def __init__(self, log: Teller) -> None:
        self._log = log

    def hear(self, stream: str, line: str) -> None:
        """One line of its output: JSON, unless Go itself speaks (a panic)."""
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            if line.strip():
                self._log.event("warning", line, source="litestream")
            return
        message = str(record.get("msg", ""))
        if message in _DULL:
            return
        fields = {name: value for name, value in record.items() if name not in _TAKEN}
        self._log.event(_level(record), message, **(fields | {"source": "litestream"}))


def _level(record: dict[str, Any]) -> str:
    told = str(record.get("level", "")).lower()
    told = {"warn": "warning", "info": _ROUTINE}.get(told, told)
    return told if told in LEVELS else "info"
