"""Long bodies that nobody here has to look at: from one socket to the other, in the kernel."""

from collections.abc import Callable

from flyatc.delivery.recording import Recording
from flyatc.wire import client, head, server, splice


def start_upload(
    request: server.Request, app: client.AppConnection, app_head: bytes, patience: float, ended: splice.Ended
) -> bool:
    """The head goes to the app, and behind it the visitor's body; ``patience``, ``ended``: as a ``Splice``'s. False: it
    is not worth it, or not possible, and nothing was sent."""
    left, target = request.body_left, app.unwritten
    if left < splice.WORTH or target is None or not splice.POSSIBLE:
        return False
    source, early = request.lend_body()
    first = app_head + early
    try:
        request.moving = splice.Splice(
            source, target, first, left, patience=patience, moved=lambda octets: None, ended=ended
        )
    except OSError:  # out of descriptors; the ordinary way needs none
        app.send(first)
        request.receive()
    else:
        request.moving.begin()
    return True


def possible(request: server.Request, answer_head: head.AnswerHead, recording: Recording | None) -> bool:
    """``recording``: None, or whether it listens decides."""
    if answer_head.framing is not head.LENGTH or answer_head.length < splice.WORTH or not splice.POSSIBLE:
        return False
    visitor = request.transport
    if visitor is None or visitor.get_write_buffer_size() or not request.body_done:
        return False
    return recording is None or not recording.listens


def prepare(
    request: server.Request, app: client.AppConnection, first: bytes, ended: Callable[[str | None], None]
) -> splice.Splice | None:
    """``first`` goes before; ``ended``: as a ``Splice``'s, then ``AppConnection.returned``. None: out of descriptors;
    the ordinary way needs none, and ``first`` is on it."""
    visitor = request.transport
    assert visitor is not None
    request.opening = first
    source, left = app.lend()
    try:
        return splice.Splice(
            source, visitor, first, left, patience=request.write_timeout, moved=request.moved, ended=ended
        )
    except OSError:
        app.hold(False)
        request.send(first)
        return None
