"""Long bodies that nobody here has to look at: from the app's socket to the visitor's, in the kernel."""

from collections.abc import Callable

from flyatc.delivery.recording import Recording
from flyatc.wire import client, head, server, splice


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
