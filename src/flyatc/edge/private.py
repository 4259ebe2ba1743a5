"""The door for our other machines, on the private network: nobody else's requests are served there."""

from time import time

from flyatc.edge import handler, headers
from flyatc.routing import sealed
from flyatc.wire import server
from flyatc.wire.faults import BadMessage


class PrivateDoor:
    """Only requests for users pass: no health, no commands."""

    def __init__(self, seals: sealed.Seals, within: handler.Handler) -> None:
        self._seals, self._within = seals, within

    def handle(self, request: server.Request) -> None:
        head = request.head
        came = self._seals.open(head.every(sealed.HEADER), head.method, headers.target(head), time())
        if isinstance(came, sealed.Opened):
            head.drop(sealed.HEADER)
            request.peer = came.peer or request.peer
        self._within.handle_forwarded(request, came)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._within.refuse(of, fault, started)
