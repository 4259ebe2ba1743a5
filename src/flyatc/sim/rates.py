"""The Machines API's limits: https://fly.io/docs/machines/api/working-with-machines-api/. Pure; times are seconds."""

USUAL = (1.0, 3.0)  # a second, and in a burst: for each action and machine or app
GET_MACHINE = (5.0, 10.0)


class Rates:
    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}  # (left, when)

    def allows(self, action: str, subject: str, now: float) -> bool:
        """Takes one from the bucket, where there is one."""
        rate, burst = GET_MACHINE if action == "get" else USUAL
        left, when = self._buckets.get((action, subject), (burst, now))
        left = min(burst, left + (now - when) * rate)
        allowed = left >= 1
        self._buckets[action, subject] = (left - 1 if allowed else left, now)
        return allowed
