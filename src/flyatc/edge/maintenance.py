"""Maintenance mode (503 for every request) and pauses (requests wait). Both persist across restarts of the daemon;
the paused requests do not.

The body of a paused request is not read; it does not start the app, and does not count as in flight there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import TypeVar

import msgspec

from flyatc.config.schema import Tenant
from flyatc.edge import exchange, maintenance_rules, responses
from flyatc.edge.maintenance_rules import EVERYTHING, Closed, Pause, Paused
from flyatc.kit import durable_files
from flyatc.observe.log import Log

RETRY_SECONDS = 5.0


class PausedRequest(exchange.WaitingReceiver):
    """A request that a pause holds. Ends in ``go``, an error response, or the client's disconnect (calls ``left``)."""

    __slots__ = ("_go", "_left", "_next", "_responder", "_tenant", "_to", "scope")

    def __init__(
        self,
        to: exchange.Exchange,
        tenant: Tenant,
        go: Callable[[], None],
        responder: responses.Responder,
        left: Callable[["PausedRequest"], None],
    ) -> None:
        self._to, self._tenant, self._go, self._responder, self._left = to, tenant, go, responder, left
        self._next: asyncio.Handle | None = None  # the scheduled time-out or release
        self.scope = ""  # of the pause that holds it
        to.receiver = self

    @property
    def address(self) -> str:
        return self._tenant.address

    @property
    def waited(self) -> float:
        """Seconds since the request arrived, including time spent waiting for another request's response."""
        return monotonic() - self._to.began

    def wait(self, scope: str, limit: float, late: Callable[["PausedRequest"], None]) -> None:
        """Call ``late`` when the request is ``limit`` seconds old. May be called again, with another limit."""
        self._cancel()
        self.scope = scope
        self._next = asyncio.get_running_loop().call_later(max(0.0, limit - self.waited), late, self)

    def release(self) -> None:
        """Continue in a turn of the loop of its own, after the requests released before."""
        self._cancel()
        self._next = asyncio.get_running_loop().call_soon(self._released)

    def _released(self) -> None:
        self._to.reason = f"held for {self.waited:.3f} s by a pause ({maintenance_rules.named(self.scope)})"
        self._to.receiver = None
        self._go()

    def close(self, closed: maintenance_rules.Closed) -> None:
        """Respond 503: maintenance has begun."""
        self._end()
        self._responder.maintenance(self._to, closed, self._tenant.app.pages)

    def refuse(self, reason: str, *, close: bool = False) -> None:
        """Respond 503 with Retry-After. Not 504: the app has not seen the request, so a retry repeats nothing."""
        self._end()
        pages = self._tenant.app.pages
        self._responder.refuse(self._to, 503, reason, retry_after=RETRY_SECONDS, own=pages, close=close)

    def _end(self) -> None:
        self._cancel()
        self._to.receiver = None

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()

    # --- the client meanwhile (wire.server.Receiver) ---

    def gone(self) -> None:
        self._end()
        self._left(self)
        self._to.status, self._to.reason = 499, "the client left while held by a pause"
        self._to.end()


TEXT = "We are working on it. Please come back in a few minutes."
W = TypeVar("W")


@dataclass
class Tally:
    """Counts of one pause: requests held, refused (no place, or held to the limit) and disconnected; the longest wait
    in seconds."""

    held: int = 0
    refused: int = 0
    left: int = 0
    longest: float = 0.0


class Maintenance:
    """Maintenance and pauses of the daemon. ``closed``, ``paused``: by scope (see ``maintenance_rules``). If both are
    empty, no other check is needed."""

    def __init__(self, folder: Path, log: Log, most: int) -> None:
        """``folder``: existing directory of the two state files. ``most``: how many requests may be held."""
        self._log, self.most = log, most
        self._closed_file, self._paused_file = folder / "maintenance.json", folder / "paused.json"
        self.closed = self._read(self._closed_file, dict[str, str])
        self.paused = self._read(self._paused_file, dict[str, Pause])
        self._waiting: dict[PausedRequest, None] = {}  # in the order in which they came
        self._tallies: dict[str, Tally] = {}
        self._ended: str | None = None
        for scope in self.closed:
            log.event("warning", "still closed for maintenance", scope=maintenance_rules.named(scope))
        for scope, pause in self.paused.items():
            log.event("warning", "still paused", scope=maintenance_rules.named(scope), limit=pause.limit)

    def judge(self, address: str) -> Closed | Paused | None:
        """Return the rule that applies to the tenant at ``address``, None if there is none."""
        return maintenance_rules.judge(address, self.closed, self.paused)

    def waiting(self, scope: str | None = None) -> int:
        """Return how many requests are held, by the pause of ``scope`` or by any."""
        return len(self._waiting) if scope is None else sum(one.scope == scope for one in self._waiting)

    # --- for the handler ---

    def intercept(
        self, to: exchange.Exchange, tenant: Tenant, go: Callable[[], None], responder: responses.Responder
    ) -> bool:
        """Hold or refuse a request about to be forwarded to the app. Return whether that was done.

        ``go``: called when the request is released; it looks into the cache again, and calls ``intercept`` again."""
        found = self.judge(tenant.address)
        if found is None:
            return False
        to.not_recorded()  # other requests must not wait for its response meanwhile
        if isinstance(found, Closed):
            responder.maintenance(to, found, tenant.app.pages)
        else:
            self._hold(PausedRequest(to, tenant, go, responder, self._left), found)
        return True

    def _hold(self, one: PausedRequest, found: Paused) -> None:
        if self._ended is not None:
            return one.refuse(self._ended, close=True)
        reason = maintenance_rules.refusal(found, waited=one.waited, held=len(self._waiting), most=self.most)
        if reason is not None:
            self._tally(found.scope).refused += 1
            return one.refuse(reason)
        self._tally(found.scope).held += 1
        self._waiting[one] = None
        return one.wait(found.scope, found.pause.limit, self._late)

    # --- for operators ---

    def close(self, scope: str, message: str | None) -> None:
        """Begin maintenance; requests held in the scope get its response. Raises OSError if it cannot be saved."""
        self._keep_closed(self.closed | {scope: message or TEXT})
        self._log.event(
            "warning", "closed for maintenance", scope=maintenance_rules.named(scope), page=self.closed[scope]
        )
        self._review()

    def open(self, scope: str) -> bool:
        """End maintenance of exactly this scope; EVERYTHING ends all of it. Return whether there was any. Raises
        OSError, as ``close``."""
        lifted = _lifted_by(self.closed, scope)
        if lifted:
            self._keep_closed(_without(self.closed, lifted))
        for one in lifted:
            self._log.event("info", "open again after maintenance", scope=maintenance_rules.named(one))
        self._review()
        return bool(lifted)

    def pause(self, scope: str, limit: float) -> None:
        """Hold new requests, for at most ``limit`` seconds each; those the app has continue. If the scope is paused
        already, only the limit changes. Raises OSError, as ``close``."""
        known = self.paused.get(scope)
        self._keep_paused(self.paused | {scope: Pause(limit, time() if known is None else known.since)})
        if known is None:
            self._tallies[scope] = Tally()
        self._log.event("warning", "paused", scope=maintenance_rules.named(scope), limit=limit)
        self._review()

    def resume(self, scope: str) -> int | None:
        """End the pause of exactly this scope; EVERYTHING ends all. Return how many requests were released, None if
        there was no such pause. Raises OSError, as ``close``."""
        lifted, now = _lifted_by(self.paused, scope), time()
        if not lifted:
            return None
        since = {one: self.paused[one].since for one in lifted}
        self._keep_paused(_without(self.paused, lifted))
        released = self._review()
        for one in lifted:
            tally = self._tallies.pop(one, Tally())
            scope, seconds = maintenance_rules.named(one), round(max(0.0, now - since[one]), 1)
            self._log.event("info", "resumed", scope=scope, seconds=seconds,
                            held=tally.held, refused=tally.refused, left=tally.left,
                            longest_wait_ms=round(tally.longest * 1000))  # fmt: skip
        return released

    def end(self, why: str) -> None:
        """Refuse all held requests, and every later one that would be held: the daemon shuts down."""
        self._ended = why
        for one in list(self._waiting):
            self._forget(one)
            one.refuse(why, close=True)

    # --- held requests ---

    def _review(self) -> int:
        """Apply the present rules to all held requests, oldest first. Return how many were released."""
        released = 0
        for one in list(self._waiting):
            match self.judge(one.address):
                case Paused(scope, pause):
                    one.wait(scope, pause.limit, self._late)
                case Closed() as found:
                    self._forget(one)
                    one.close(found)
                case None:
                    self._forget(one)
                    one.release()
                    released += 1
        return released

    def _late(self, one: PausedRequest) -> None:
        found = self.judge(one.address)
        assert isinstance(found, Paused), "held requests are reviewed whenever the rules change"
        self._forget(one)
        self._tally(one.scope).refused += 1
        one.refuse(maintenance_rules.late(found))

    def _left(self, one: PausedRequest) -> None:
        if one in self._waiting:  # else it was just released
            self._forget(one)
            self._tally(one.scope).left += 1

    def _forget(self, one: PausedRequest) -> None:
        self._waiting.pop(one, None)
        tally = self._tally(one.scope)
        tally.longest = max(tally.longest, one.waited)

    def _tally(self, scope: str) -> Tally:
        return self._tallies.setdefault(scope, Tally())

    # --- the state files ---

    def _read(self, file: Path, kind: type[dict[str, W]]) -> dict[str, W]:
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            text = "what is closed or paused could not be read: nothing is"
            self._log.event("warning", text, file=str(file), error=str(error))
            return {}

    def rewrite(self) -> None:
        """Write the state files again after the folder was deleted. Raises OSError."""
        if self.closed:
            self._keep_closed(dict(self.closed))
        if self.paused:
            self._keep_paused(dict(self.paused))

    def _keep_closed(self, closed: dict[str, str]) -> None:
        durable_files.write(self._closed_file, msgspec.json.encode(closed))
        self.closed = closed

    def _keep_paused(self, paused: dict[str, Pause]) -> None:
        durable_files.write(self._paused_file, msgspec.json.encode(paused))
        self.paused = paused


def _lifted_by(rules: dict[str, W], scope: str) -> list[str]:
    """Return the scopes that end when ``scope`` is lifted."""
    return list(rules) if scope == EVERYTHING else [scope] if scope in rules else []


def _without(rules: dict[str, W], lifted: list[str]) -> dict[str, W]:
    return {scope: rule for scope, rule in rules.items() if scope not in lifted}
