"""A command on a terminal: what a person would see."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from whole.daemon import SLOWNESS, Daemon, clean_environment, eventually


@dataclass
class Terminal:
    """Of 200 columns, so that nothing is folded. ``typed``: what the person enters at once."""

    daemon: Daemon
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._outer, inner = pty.openpty()
        self._parts: list[bytes] = []
        self.daemon.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flyatc", *self.daemon.configured(self.arguments)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=self.daemon.folder,
            env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "200"} | self.environment,
        )
        os.close(inner)
        self._reader = threading.Thread(target=lambda: self._parts.extend(self._read()), daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        os.write(self._outer, text.encode())

    @property
    def shown(self) -> str:
        return b"".join(self._parts).decode(errors="replace")

    def until_shown(self, text: str, within: float = 15) -> str:
        eventually(lambda: text in self.shown, within, f"{text!r} on the terminal")
        return self.shown

    def end(self, within: float = 30) -> tuple[int, str]:
        """Waits for its end; the exit code, and all that was shown."""
        code = self.process.wait(within * SLOWNESS)
        self._reader.join(within * SLOWNESS)
        os.close(self._outer)
        return code, self.shown

    def _read(self) -> Iterator[bytes]:
        try:
            while data := os.read(self._outer, 65536):
                yield data
        except OSError:  # EIO: no one holds the other side any more
            pass
