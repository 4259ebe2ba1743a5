"""Rate limit for lookups of unknown users. Pure: the time, in seconds, is an argument.

Each lookup costs DNS queries and a read of the store, and any client can invent a million names. A user who turns out
to be known costs no token: after a restart all known users are looked up without delay."""

from flyatc.kit.token_bucket import TokenBucket

AT_ONCE = 500.0
A_SECOND = 100.0
UNDER_WAY = 200  # concurrent lookups


class LookupLimit(TokenBucket):
    def __init__(self) -> None:
        super().__init__(AT_ONCE, A_SECOND, UNDER_WAY)
