"""What is closed for maintenance: everything, a user's tenants, or one. It outlives a restart of the daemon."""

from pathlib import Path

import msgspec

from flyatc.kit import durable
from flyatc.observe.log import Log

EVERYTHING = "*"
RETRY_SECONDS = 60.0
TEXT = "We are working on it. Please come back in a few minutes."


class Maintenance:
    """``file``: where it is remembered; its folder exists."""

    def __init__(self, file: Path, log: Log) -> None:
        self._file = file
        self._closed: dict[str, str] = {}  # address, user or EVERYTHING → what visitors are told
        try:
            self._closed = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.event(
                "warning", "what is in maintenance could not be read: nothing is", file=str(file), error=str(error)
            )

    def message(self, address: str) -> str | None:
        """What a visitor of this tenant is told; None: it is open. The nearest word counts."""
        if not self._closed:
            return None
        for name in (address, address.partition("/")[0], EVERYTHING):
            if name in self._closed:
                return self._closed[name]
        return None

    def close(self, address: str | None, message: str | None) -> None:
        """Raises OSError when it cannot be remembered."""
        self._keep(self._closed | {address or EVERYTHING: message or TEXT})

    def open(self, address: str | None) -> bool:
        """Whether it was closed, by this very name; None opens everything that is."""
        if address is None:
            was, left = bool(self._closed), {}
        else:
            was, left = address in self._closed, {k: v for k, v in self._closed.items() if k != address}
        self._keep(left)
        return was

    def _keep(self, closed: dict[str, str]) -> None:
        durable.write(self._file, msgspec.json.encode(closed))
        self._closed = closed
