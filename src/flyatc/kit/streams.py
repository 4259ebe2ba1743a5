"""The standard streams of a process that is to be started."""

import os


class Streams:
    """Descriptors for a process, open here until ``close``. ``stdin`` None: /dev/null. ``terminal``: stdin is the
    terminal that controls the process's session."""

    def __init__(self, stdin: int | None, stdout: int, stderr: int, *, terminal: bool = False) -> None:
        self.stdin, self.stdout, self.stderr, self.terminal = stdin, stdout, stderr, terminal
        self._open = {number for number in (stdin, stdout, stderr) if number is not None}

    def close(self) -> None:
        """May be called more than once."""
        while self._open:
            os.close(self._open.pop())
