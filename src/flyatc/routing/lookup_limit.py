"""How many users whom nobody knows are looked up: the first ones at once, and then so many a second. Pure: what time it
is, in seconds, is told.

Each costs questions to the DNS and a read of the store, and anybody can think of a million names. Who turns out to be
known costs nothing here: after a restart all are looked up as they come."""

from flyatc.kit.token_bucket import TokenBucket

AT_ONCE = 500.0
A_SECOND = 100.0
UNDER_WAY = 200  # that have not been answered


class LookupLimit(TokenBucket):
    def __init__(self) -> None:
        super().__init__(AT_ONCE, A_SECOND, UNDER_WAY)
