"""Serve files to clients: static ones, and those that an app names in X-Sendfile."""

from time import time

from flyatc.config.schema import App
from flyatc.delivery import conditional
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit
from flyatc.delivery.files import send_file, static, x_sendfile
from flyatc.delivery.files.file_response import FileRefused, FileResponse
from flyatc.delivery.files.open_file import Opened
from flyatc.edge import app_delivery, exchange, responses
from flyatc.wire import head, response


def serve_static(
    to: exchange.Exchange, of: static.Static, app: App, path: bytes, responder: responses.Responder
) -> bool:
    """Serve a static file. Return False if the request is for the app. ``path``: raw, below the tenant's prefix."""
    if to.head.upgrade is not None:
        return False
    outcome = of.answer(to.head, path, now=time())
    if isinstance(outcome, static.PassToApp):
        if outcome.warning is not None:
            to.warn(outcome.warning)
        return False
    if isinstance(outcome, static.Redirect):
        responder.redirect(to, outcome.location, "static: a folder")
    else:
        send(to, outcome, app, responder)
    return True


Named = Opened | FileRefused  # what an app names in X-Sendfile


def find(to: exchange.Exchange, came: head.ResponseHead, at: app_delivery.AppDelivery) -> Named | None:
    """Return the file that the app names in X-Sendfile in place of its body, None if there is none."""
    if at.sendfile is not None:
        return at.sendfile.find(came)
    to.not_recorded()  # the body is empty: it must not be cached in case sendfile is enabled later
    return None


def record(recording: Recording, came: head.ResponseHead, file: Named | None) -> CacheHit | None:
    """Call ``Recording.answer`` for a response that may name a file. Return a stored response to send instead."""
    if not isinstance(file, FileRefused):
        served = recording.answer(came, time(), None if file is None else x_sendfile.remembered(file))
        if served is not None and file is not None:
            file.close()
        return served
    if recording.way.unsafe:
        return recording.answer(came, time())
    recording.lost()
    return None


def send_named(
    to: exchange.Exchange, file: Named, came: head.ResponseHead, app: App, responder: responses.Responder
) -> None:
    """Send the file that the app named in its response ``came``, in place of the body."""
    outcome = file if isinstance(file, FileRefused) else x_sendfile.build(file, to.head, came, now=time())
    reason = came.reason if outcome.status == came.status else None
    send(to, outcome, app, responder, reason=reason, dated=came.dated)


def send_stored(
    to: exchange.Exchange, served: CacheHit, at: app_delivery.AppDelivery, responder: responses.Responder
) -> None:
    """Send a stored response that names a file: its head is stored, the file is read anew."""
    assert served.file is not None
    outcome: FileResponse | FileRefused = FileRefused(404, "X-Sendfile is switched off", loud=False)
    if at.sendfile is not None:
        kept = conditional.lines([served.lines, served.cache_lines])
        outcome = at.sendfile.again(served.file, to.head, kept, status=served.status, now=time())
    if isinstance(outcome, FileRefused) and at.cache is not None:
        at.cache.discard(served.entry)
    reason = served.reason if outcome.status == served.status else None
    send(to, outcome, at.app, responder, reason=reason, dated=True)


def send(
    to: exchange.Exchange,
    outcome: FileResponse | FileRefused,
    app: App,
    responder: responses.Responder,
    *,
    reason: bytes | None = None,
    dated: bool = False,
) -> None:
    """Send the whole response and end the request. ``reason``: the reason phrase; ``dated``: whether the response has a
    Date."""
    if isinstance(outcome, FileRefused):
        if outcome.loud:
            to.warn(outcome.reason)
        return responder.refuse(to, outcome.status, outcome.reason, own=app.pages)
    close = not to.keep_alive or not to.body_done
    phrase = response.reason(outcome.status) if reason is None else reason
    parts = [b"HTTP/1.1 %d %b" % (outcome.status, phrase), *outcome.lines, b"\r\nX-Request-Id: " + to.identity]
    if not dated:
        parts.append(response.date_line())
    parts.append(b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n")

    def ended(why: str | None) -> None:
        to.reason = why
        to.end()
        if why is None:
            to.end_response(close=close)

    to.status = outcome.status
    return send_file.send(to, to.transport, b"".join(parts), outcome, timeout=to.write_timeout, ended=ended)
