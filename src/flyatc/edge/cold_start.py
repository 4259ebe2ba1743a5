"""Park a request until its app is ready. All requests for the app wait for the same start."""

import asyncio
from collections.abc import Callable
from time import monotonic

from flyatc.edge import exchange, fly_replay, forward, responses, serve_cached
from flyatc.edge.served_app import ServedTenant
from flyatc.edge.upstream import Gateway
from flyatc.kit import tasks
from flyatc.tenants import errors
from flyatc.tenants.in_flight import InFlightRequest
from flyatc.tenants.state import State

RETRY_SECONDS = 5.0
Serve = Callable[[forward.Forward, ServedTenant, InFlightRequest], None]


# Not failures of the app: no stale response is sent for them.
_NOT_OURS = (errors.Elsewhere, errors.NoSuchUser, errors.Stopping, errors.Removed)


class ColdStart(exchange.WaitingReceiver):
    """A request that waits for its app. Ends in ``serve`` (the app is ready), an error response, or the client's
    disconnect, which does not cancel the start."""

    __slots__ = ("_at", "_instead_of", "_replayer", "_responder", "_serve", "_since", "_task", "_tenant", "_to")

    def __init__(
        self,
        to: forward.Forward,
        at: ServedTenant,
        serve: Serve,
        responder: responses.Responder,
        instead_of: Gateway | None = None,
    ) -> None:
        """``instead_of``: the gateway of an app that has just refused the connection."""
        self._to, self._at, self._tenant, self._serve, self._responder = to, at, at.tenant, serve, responder
        self._instead_of = instead_of
        self._task: asyncio.Task[None] | None = None

    def begin(self, replayer: fly_replay.FlyReplay | None) -> None:
        """Start waiting. ``replayer``: on Fly, sends requests of users owned by another machine there."""
        self._replayer = replayer
        self._since = monotonic()  # excludes the time held by a pause
        self._to.start = "cold"
        self._to.receiver = self
        self._task = tasks.start(self._wait(), f"cold start of {self._tenant.spec.address}")

    async def _wait(self) -> None:
        to, app = self._to, self._tenant.spec.app
        try:
            async with asyncio.timeout(app.waiting_page_after if responses.shows_page(to) else None):
                visit = await self._served()
        except TimeoutError:
            self._waited()
            place = self._tenant.place
            how = self._state if place is None else f"place {place} in line to be started"
            reason = f"{how}; the browser was shown the waiting page"
            return self._responder.waiting(to, reason, app.pages, place, self._state)
        except errors.Unavailable as error:
            self._waited()
            return self._refuse(error)
        except Exception:
            self._waited()
            self._responder.fail(to, app.pages)
            raise
        self._waited()
        if not isinstance(visit, InFlightRequest):
            assert self._replayer is not None
            return self._replayer.respond(self._to, self._tenant, visit, self._responder)
        return self._serve(to, self._at, visit)

    async def _served(self) -> InFlightRequest | fly_replay.Away:
        replayer = self._replayer
        if replayer is not None and (away := await replayer.find_elsewhere(self._to, self._tenant)) is not None:
            return away
        try:
            return await self._tenant.serving(self._instead_of, comes_again=responses.shows_page(self._to))
        except (errors.Elsewhere, errors.NoSuchUser):
            if replayer is None or not replayer.sent_by_peer(self._to, self._tenant):
                raise
            await self._tenant.look_again()  # the user may just have been released to this machine
            return await self._tenant.serving()

    @property
    def _state(self) -> str:
        return "preparing" if self._tenant.snapshot().state is State.PREPARING else "starting"

    def _waited(self) -> None:
        self._to.receiver = None
        self._to.wait = monotonic() - self._since

    def _refuse(self, error: errors.Unavailable) -> None:
        if not isinstance(error, _NOT_OURS) and (served := self._to.not_recorded()) is not None:
            self._to.reason = f"stale-if-error: {error}"
            return serve_cached.send(self._to, served, self._at.delivery, self._responder)
        replayer = self._replayer if isinstance(error, errors.Elsewhere) else None
        if replayer is not None and replayer.respond_with_owner(self._to, self._tenant, error, self._responder):
            return None
        status, retry, place = 503, RETRY_SECONDS, None
        close = False
        match error:
            case errors.Failed():
                status, retry = 502, error.retry_after
            case errors.Unsafe() | errors.Elsewhere():
                retry = error.retry_after
            case errors.NoSuchUser():
                return self._responder.refuse(self._to, 404, str(error), own=self._tenant.spec.app.pages)
            case errors.Removed():
                return self._responder.refuse(self._to, 404, str(error))
            case errors.Stopping():
                close = True
            case errors.Queued():
                place = error.place
            case errors.NotReadyInTime() | errors.Full() if responses.shows_page(self._to):
                pages = self._tenant.spec.app.pages
                return self._responder.waiting(self._to, str(error), pages, state=self._state)
        pages = self._tenant.spec.app.pages
        return self._responder.refuse(
            self._to, status, str(error), retry_after=retry, own=pages, close=close, owner=error.owner, place=place
        )

    # --- the client meanwhile (wire.server.Receiver) ---

    def gone(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._waited()
        self._to.status, self._to.reason = 499, "the client left while the app was starting"
        self._to.end()
