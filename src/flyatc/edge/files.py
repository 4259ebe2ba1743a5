"""Files on their way to the visitor, without an app or in place of its answer."""

from flyatc.config.schema import App
from flyatc.delivery import sending, static
from flyatc.delivery.file_answer import FileAnswer, Refused
from flyatc.edge import desk, exchange, respond
from flyatc.wire import answer


def serve_static(to: exchange.Exchange, at: desk.Desk, path: bytes, now: float, responder: respond.Responder) -> bool:
    """Whether the request is dealt with; else it is for the app. ``path``: raw, below the tenant's prefix."""
    if at.static is None or to.request.head.upgrade is not None:
        return False
    outcome = at.static.answer(to.request.head, path, now=now)
    if isinstance(outcome, static.Passed):
        if outcome.warning is not None:
            to.warn(outcome.warning)
        return False
    if isinstance(outcome, static.Redirect):
        responder.redirect(to, outcome.location, "static: a folder")
    else:
        send(to, outcome, at.app, responder)
    return True


def send(
    to: exchange.Exchange,
    outcome: FileAnswer | Refused,
    app: App,
    responder: respond.Responder,
    *,
    reason: bytes | None = None,
    dated: bool = False,
) -> None:
    """The whole answer, and the end of the request. ``reason``: the phrase beside the status; ``dated``: it has a
    Date."""
    if isinstance(outcome, Refused):
        if outcome.loud:
            to.warn(outcome.reason)
        return responder.refuse(to, outcome.status, outcome.reason, own=app.pages)
    request = to.request
    close = not request.keep_alive or not request.body_done
    phrase = answer.reason(outcome.status) if reason is None else reason
    parts = [b"HTTP/1.1 %d %b" % (outcome.status, phrase), *outcome.lines, b"\r\nX-Request-Id: " + to.identity]
    if not dated:
        parts.append(answer.date_line())
    parts.append(b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n")

    def ended(why: str | None) -> None:
        to.reason = why
        to.end()
        if why is None:
            request.end(close=close)

    to.status = outcome.status
    return sending.send(
        request, request.transport, b"".join(parts), outcome, timeout=request.write_timeout, ended=ended
    )
