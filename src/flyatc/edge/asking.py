"""How a request comes to a connection of the app, and to another one where the first was just closing."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from flyatc.edge import gateway
from flyatc.kit import tasks
from flyatc.wire import client, head, server

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
TRIES = 3


class Asking(ABC):
    """Ends in ``_ask``, or ``_fail``. ``again``: what to do where the app takes no connection, and so has not seen the
    request; None: 502."""

    __slots__ = ("_again", "_gateway", "_over", "_request", "_seen", "_tries")

    def __init__(self, request: server.Request, through: gateway.Gateway, again: Callable[[], None] | None) -> None:
        self._request, self._gateway, self._again = request, through, again
        self._tries = 0
        self._seen = False  # an app may have read the request, and even have died of it
        self._over = False

    def _reach(self) -> None:
        connection = self._gateway.idle(repeatable=self._repeatable())
        if connection is not None:
            self._ask(connection)
        else:
            tasks.start(self._dial(), "dial")

    def _repeatable(self) -> bool:
        return self._request.head.framing is head.NEVER and self._request.head.method in IDEMPOTENT

    async def _dial(self) -> None:
        try:
            connection = await self._gateway.dial()
        except (OSError, TimeoutError) as error:
            if isinstance(error, ConnectionRefusedError) and not self._seen and not self._over and self._again:
                return self._hand_back(self._again)
            return self._fail(502, f"the app does not take connections: {error or 'time-out'}")
        if self._over:
            return connection.release(reuse=False)
        if not connection.alive:
            return self._fail(502, "the app closed the connection at once")
        return self._ask(connection)

    def _hand_back(self, again: Callable[[], None]) -> None:
        """Nobody listens any more: the app has just died, and the next one may serve this request."""
        self._over = True
        self._request.receiver = None
        again()

    def _may_retry(self, app: client.AppConnection) -> bool:
        """Once over what may have been an idle connection that the app was just closing, and while nobody has read it:
        the app is ending, and the news of that is on its way."""
        return self._repeatable() and (self._tries < TRIES if app.unread else app.used and not self._tries)

    def _retry(self, app: client.AppConnection) -> None:
        self._tries += 1
        self._seen = self._seen or not app.unread
        tasks.start(self._dial(), "dial again")

    @abstractmethod
    def _ask(self, connection: client.AppConnection) -> None: ...

    @abstractmethod
    def _fail(self, status: int, reason: str) -> None: ...
