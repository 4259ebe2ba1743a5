"""X-Sendfile, and the plain form of X-Accel-Redirect: the app names a file, and flyatc sends it.

The wire cuts these headers out of every head, so that none gets through when this is switched off: ``FROM_VISITORS``
out of requests (by X-Accel-Mapping a visitor could tell Rack which path to name: CVE-2025-61780), ``FROM_APPS`` out of
answers.
"""

import os
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from flyatc.delivery import conditional
from flyatc.delivery.cache import stored
from flyatc.delivery.files import file_response, open_file
from flyatc.wire import head

FROM_APPS = (b"x-sendfile", b"x-accel-redirect")
OFFER = b"\r\nX-Sendfile-Type: X-Sendfile"  # to the app, where it is switched on: Rack waits for it

_LONGEST = 3 * 4096  # octets of an escaped path: PATH_MAX, with all of them escaped
_BODILESS = (204, 205, 304)
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Sendfile:
    """For one tenant. ``directory``: the app's, absolute; ``roots``: absolute; ``closed``: the folder of all tenants'
    data: within it only ``roots`` are open."""

    def __init__(self, directory: str, roots: Sequence[str], closed: Sequence[str] = ()) -> None:
        self._directory = os.fsencode(directory)
        self._roots = open_file.Roots(map(os.fsencode, roots), map(os.fsencode, closed))

    def find(self, response: head.ResponseHead) -> open_file.Opened | file_response.FileRefused | None:
        """What to send instead of the app's body, which is to be thrown away: a file, for ``build``, or to be closed.
        None: the app names no file."""
        path = self._named(response)
        if path is None or response.status in _BODILESS:
            return None
        if not path:
            return file_response.FileRefused(
                404, "X-Accel-Redirect names a location, not a file: only files are sent here", loud=True
            )
        return self._open(path)

    def again(
        self, named: stored.File, request: head.RequestHead, kept: list[file_response.Line], *, status: int, now: float
    ) -> file_response.FileResponse | file_response.FileRefused:
        """As ``find`` and ``build``, long after the app named the file. ``kept``: the header lines. Where the file is
        another by now, the app's ETag was not meant for it."""
        found = self._open(named.path)
        if isinstance(found, file_response.FileRefused):
            return found
        if remembered(found) != named:
            kept = [line for line in kept if line[0] != b"etag"]
        return _build(found, request, kept, status, now)

    def _open(self, path: bytes) -> open_file.Opened | file_response.FileRefused:
        try:
            return open_file.open_below(path, self._roots)
        except open_file.Missing as fault:
            return file_response.FileRefused(404, f"X-Sendfile: {fault}", loud=False)
        except open_file.Outside as fault:
            return file_response.FileRefused(404, f"X-Sendfile: {fault}", loud=True)
        except open_file.Unreadable as fault:
            return file_response.FileRefused(403 if fault.forbidden else 500, f"X-Sendfile: {fault}", loud=True)

    def _named(self, response: head.ResponseHead) -> bytes | None:
        """The absolute path of the file; None: no file is named; empty: something else is."""
        plain, accel = response.one(FROM_APPS[0]), response.one(FROM_APPS[1])
        if plain:
            return plain if plain[:1] == b"/" else self._directory + b"/" + plain
        if not accel:
            return None
        path = accel.partition(b"?")[0]
        if path[:1] != b"/" or len(path) > _LONGEST or _ESCAPE.search(path):
            return b""
        return unquote_to_bytes(path)


def build(
    file: open_file.Opened, request: head.RequestHead, response: head.ResponseHead, *, now: float
) -> file_response.FileResponse:
    """A status of 200 may become 206, 304, 412 or 416; any other is kept. The app's own header lines are kept: a
    Content-Encoding means that the file is encoded already. Takes the file over."""
    status = 200 if response.status == 206 else response.status  # a part of what, only the file tells
    return _build(file, request, conditional.lines(response.kept), status, now)


def remembered(file: open_file.Opened) -> stored.File:
    """What is stored of it."""
    return stored.File(file.path, file.modified, file.size)


def _build(
    file: open_file.Opened, request: head.RequestHead, lines: list[file_response.Line], status: int, now: float
) -> file_response.FileResponse:
    if not any(name == b"content-type" for name, _ in lines):
        lines.append((b"content-type", b"\r\nContent-Type: " + file_response.of(file.path)))
    return file_response.build(file, request, lines, status=status, now=now)
