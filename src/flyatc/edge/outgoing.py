"""The head of a request as an app is to see it."""

from copy import copy
from time import time

from flyatc.config.schema import App
from flyatc.delivery import sendfile
from flyatc.delivery.recording import Recording
from flyatc.edge import exchange, headers


def head(
    to: exchange.Exchange,
    app: App,
    recording: Recording | None,
    *,
    path: bytes,
    forward: bool,
    prefix: bytes | None = None,
) -> bytes:
    """``path``: as the app knows it; ``forward``, ``prefix``: see ``headers.towards_app``; ``recording``: is fed with
    the answer, and may ask whether what is stored is still good."""
    asked, lines = to.request.head, sendfile.OFFER if app.delivery.sendfile.enabled else b""
    if recording is not None:
        lines += recording.adds
        if recording.drops:
            asked = copy(asked)  # the visitor has said it, though the app does not hear it
            asked.drop(*recording.drops)
    return headers.towards_app(
        asked,
        path=path,
        peer=to.request.peer.encode(),
        identity=to.identity,
        milliseconds=int(time() * 1000),
        forward=forward,
        prefix=prefix,
        more=lines,
    )
