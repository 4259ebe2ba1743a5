"""What stands between visitors and their apps for a while: maintenance, which sends them away, and pauses, which hold
them. Both outlive a restart of the daemon; who is held does not.

A request which a pause holds. Its body is not read, its app not woken, and nobody counts it as a visit.
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
    """Ends in ``go``, an answer of our own, or the visitor's leaving, of which ``left`` is told."""

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
        self._next: asyncio.Handle | None = None  # what happens to it if nothing else does
        self.scope = ""  # of the pause which holds it
        to.request.receiver = self

    @property
    def address(self) -> str:
        return self._tenant.address

    @property
    def waited(self) -> float:
        """Seconds since the request came: whoever was held behind another's request has waited as well."""
        return monotonic() - self._to.began

    def wait(self, scope: str, limit: float, late: Callable[["PausedRequest"], None]) -> None:
        """``late`` is called when the request is ``limit`` seconds old. May be called again, with another limit."""
        self._cancel()
        self.scope = scope
        self._next = asyncio.get_running_loop().call_later(max(0.0, limit - self.waited), late, self)

    def release(self) -> None:
        """In a turn of its own, after those who were released before."""
        self._cancel()
        self._next = asyncio.get_running_loop().call_soon(self._released)

    def _released(self) -> None:
        self._to.reason = f"held for {self.waited:.3f} s by a pause ({maintenance_rules.named(self.scope)})"
        self._to.request.receiver = None
        self._go()

    def close(self, closed: maintenance_rules.Closed) -> None:
        """Maintenance has begun."""
        self._end()
        self._responder.closed(self._to, closed, self._tenant.app.pages)

    def refuse(self, reason: str, *, close: bool = False) -> None:
        """503 and not 504: the app was not asked, so whoever comes again repeats nothing, and is told when to."""
        self._end()
        pages = self._tenant.app.pages
        self._responder.refuse(self._to, 503, reason, retry_after=RETRY_SECONDS, own=pages, close=close)

    def _end(self) -> None:
        self._cancel()
        self._to.request.receiver = None

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()

    # --- the visitor meanwhile (wire.server.Receiver) ---

    def gone(self) -> None:
        self._end()
        self._left(self)
        self._to.status, self._to.reason = 499, "the visitor left while held by a pause"
        self._to.end()


TEXT = "We are working on it. Please come back in a few minutes."
W = TypeVar("W")


@dataclass
class Tally:
    """Of one pause: how many were held, how many refused (no place, or held to the limit), how many have left by
    themselves, and the longest wait in seconds."""

    held: int = 0
    refused: int = 0
    left: int = 0
    longest: float = 0.0


class Maintenance:
    """``closed``, ``paused``: what is said, by scope (see ``verdict``). Where both are empty, nobody need ask more."""

    def __init__(self, folder: Path, log: Log, most: int) -> None:
        """``folder``: where it is remembered; it exists. ``most``: how many requests may be held."""
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
        return maintenance_rules.judge(address, self.closed, self.paused)

    def waiting(self, scope: str | None = None) -> int:
        """How many are held: by this pause, or by any."""
        return len(self._waiting) if scope is None else sum(one.scope == scope for one in self._waiting)

    # --- for the handler ---

    def stops(
        self, to: exchange.Exchange, tenant: Tenant, go: Callable[[], None], responder: responses.Responder
    ) -> bool:
        """Whether this request, which is about to be the app's, is not to be: then it is dealt with here. ``go``: what
        to do when nothing is in its way any more; it looks into the cache again, and comes here again."""
        found = self.judge(tenant.address)
        if found is None:
            return False
        to.not_recorded()  # nobody is to wait for its answer meanwhile
        if isinstance(found, Closed):
            responder.closed(to, found, tenant.app.pages)
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
        """For maintenance; who is held there is told so. Raises OSError when it cannot be remembered."""
        self._keep_closed(self.closed | {scope: message or TEXT})
        self._log.event(
            "warning", "closed for maintenance", scope=maintenance_rules.named(scope), told=self.closed[scope]
        )
        self._review()

    def open(self, scope: str) -> bool:
        """Whether it was closed, by this very name; EVERYTHING opens all that is. Raises OSError, as ``close``."""
        lifted = _lifted_by(self.closed, scope)
        if lifted:
            self._keep_closed(_without(self.closed, lifted))
        for one in lifted:
            self._log.event("info", "open again after maintenance", scope=maintenance_rules.named(one))
        self._review()
        return bool(lifted)

    def pause(self, scope: str, limit: float) -> None:
        """From now on requests are held, ``limit`` seconds each; those the app has go on. Raises OSError, as ``close``.
        Where it is paused already, only the limit changes."""
        known = self.paused.get(scope)
        self._keep_paused(self.paused | {scope: Pause(limit, time() if known is None else known.since)})
        if known is None:
            self._tallies[scope] = Tally()
        self._log.event("warning", "paused", scope=maintenance_rules.named(scope), limit=limit)
        self._review()

    def resume(self, scope: str) -> int | None:
        """How many were released; None: it was not paused, by this very name. EVERYTHING lifts all pauses. Raises
        OSError, as ``close``."""
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
        """The daemon goes: who is held is told at once, and nobody is held any more."""
        self._ended = why
        for one in list(self._waiting):
            self._forget(one)
            one.refuse(why, close=True)

    # --- those who are held ---

    def _review(self) -> int:
        """Judges all anew, first come first. How many were released."""
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
        assert isinstance(found, Paused), "whoever is held was judged anew when that changed"
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

    # --- what is remembered ---

    def _read(self, file: Path, kind: type[dict[str, W]]) -> dict[str, W]:
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            told = "what is closed or paused could not be read: nothing is"
            self._log.event("warning", told, file=str(file), error=str(error))
            return {}

    def rewrite(self) -> None:
        """The folder was deleted: what is closed and paused is on record again. Raises OSError."""
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


def _lifted_by(words: dict[str, W], scope: str) -> list[str]:
    """The scopes which a lifting of this one lifts."""
    return list(words) if scope == EVERYTHING else [scope] if scope in words else []


def _without(words: dict[str, W], lifted: list[str]) -> dict[str, W]:
    return {scope: word for scope, word in words.items() if scope not in lifted}
