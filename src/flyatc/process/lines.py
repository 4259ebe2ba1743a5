"""Bytes into lines, and what lines may cost. Pure."""

LONGEST = 16 << 10  # octets; a longer line is told in parts
ENVELOPE = 100  # octets; what the log adds to each line


class Lines:
    """Cuts a stream of octets into lines, wherever its pieces begin and end. Memory is bounded by LONGEST."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines which are complete now."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        found = [part for line in complete for part in _parts(line)]
        while len(self._rest) > LONGEST:
            cut = _boundary(self._rest)
            found.append(_text(self._rest[:cut]))
            self._rest = self._rest[cut:]
        return found

    def end(self) -> list[str]:
        """What came after the last newline, if anything did."""
        rest, self._rest = self._rest, b""
        return _parts(rest) if rest else []


def _parts(line: bytes) -> list[str]:
    line = line.removesuffix(b"\r")
    found = []
    while len(line) > LONGEST:
        cut = _boundary(line)
        found.append(_text(line[:cut]))
        line = line[cut:]
    return [*found, _text(line)]


def _boundary(line: bytes) -> int:
    """The last place up to LONGEST which is not inside a UTF-8 character."""
    for cut in range(LONGEST, LONGEST - 4, -1):
        if line[cut] & 0xC0 != 0x80:
            return cut
    return LONGEST


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


class Budget:
    """So many octets at once, then so many a second. What is spent beyond it is a debt, to be waited off."""

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst, self._rate = float(burst), rate
        self._left, self._at = float(burst), now

    def spend(self, octets: int, now: float) -> float:
        """Seconds to wait before more is spent."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - octets
        self._at = now
        return max(0.0, -self._left / self._rate)
