"""What Fly Proxy is told of a request for another machine: where to, and whether to remember or to forget that."""

from time import monotonic, time

from flyatc.config.schema import Tenant
from flyatc.routing import remembered, replay
from flyatc.routing.proofs import Proofs
from flyatc.wire.head import RequestHead

SOURCE = b"fly-replay-src"


class Instructions:
    """``cache``: seconds for which replays shall be remembered; 0: they shall not."""

    def __init__(self, replays: replay.Replays, cache: float, timeout: float) -> None:
        self._replays, self._cache, self._proofs = replays, cache, Proofs(timeout)

    def of(
        self, head: RequestHead, spec: Tenant, target: replay.Target, source: replay.Source, *, vain: bool
    ) -> list[remembered.Header]:
        """Header lines of the answer. ``vain``: replays there have come to nothing, lately."""
        came = remembered.came(head.every(SOURCE), head.every(remembered.STATUS), source.hops)
        if self._cache and target.id is not None and target.app == self._replays.me.app:  # of others no failure is told
            if came is remembered.Came.FIRST and self._proofs.proven(spec.user, target, monotonic()):
                cached = remembered.headers(head.one(b"host"), spec.home, self._cache)
                if cached is not None:
                    return [(b"Fly-Replay", self._replays.plain(target).encode()), *cached]
            self._proofs.sent(spec.user, target, monotonic())
        lines = [(b"Fly-Replay", self._replays.header(target, spec.user, source.hops, time(), vain=vain))]
        return [*lines, remembered.INVALIDATE] if came is remembered.Came.REMEMBERED else lines

    def failed(self, user: str) -> None:
        """A request of his says that its replay has failed."""
        self._proofs.failed(user)
