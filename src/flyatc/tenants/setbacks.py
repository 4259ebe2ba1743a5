"""After how many failures a tenant may try again, and when. Pure: ``now`` is given."""

from flyatc.kit import backoff

STEADY = 60.0  # seconds; who was ready for longer has proved itself, and a crash after that is a new story


class Setbacks:
    """What a tenant's failures cost it. ``until``: no new life before that moment of the loop's clock."""

    __slots__ = ("_crashed", "_level", "until")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._level, self._crashed, self.until = 0, False, float("-inf")

    def start_failed(self, now: float) -> float:
        """The seconds of back-off: 1, 2, 4 … 60."""
        self._level += 1
        return self._wait(now)

    def crashed(self, now: float) -> float:
        """The seconds of back-off: 0 for the first crash, then as for failed starts. Crashes further apart than STEADY
        (a back-off between them not counted) are each a first one."""
        if now - self.until > STEADY:
            self.reset()
        if not self._crashed:
            self._crashed, self.until = True, now
            return 0.0
        self._level += 1
        return self._wait(now)

    def survived(self, seconds: float) -> None:
        """A life was ready for so long."""
        if seconds > STEADY:
            self.reset()

    def _wait(self, now: float) -> float:
        seconds = backoff.delay(self._level)
        self.until = now + seconds
        return seconds
