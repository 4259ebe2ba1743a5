"""Output that is shared with a child which writes to it as it likes."""

import io
import select
from typing import Any


class WholeLines(io.FileIO):
    """Writes no more than a pipe takes at once, and ends with a line's end where it can: so no line of the child's
    comes amid one of ours, however much is written. pipe(7), PIPE_BUF."""

    def write(self, data: Any) -> int:
        end = bytes(data[: select.PIPE_BUF]).rfind(b"\n") + 1
        return super().write(data[: end or select.PIPE_BUF])
