"""X-Sendfile, and the plain form of X-Accel-Redirect: the app names a file, and flyatc sends it.

The wire removes these headers from every head, so that none passes when this is disabled: ``FROM_APPS`` from responses;
X-Sendfile-Type, X-Accel-Mapping from requests (by the latter a client could make Rack name any path: CVE-2025-61780).
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
OFFER = b"\r\nX-Sendfile-Type: X-Sendfile"  # sent to the app if enabled: Rack requires it

ROOTS = "app.delivery.sendfile.roots"
_LONGEST = 3 * 4096  # octets of an escaped path: PATH_MAX, with all of them escaped
_BODILESS = (204, 205, 304)
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Sendfile:
    """X-Sendfile of one tenant.

    ``directory``: the app's, absolute; ``roots``: absolute; ``closed``: the folder of all tenants' data, in which only
    ``roots`` are open. ``setting``: the one that lists ``roots``. ``data``: as in ``Roots``."""

    def __init__(
        self,
        directory: str,
        roots: Sequence[str],
        closed: Sequence[str] = (),
        *,
        setting: str = ROOTS,
        data: str | None = None,
    ) -> None:
        self._setting = setting
        self._directory = os.fsencode(directory)
        self._roots = open_file.Roots(
            map(os.fsencode, roots), map(os.fsencode, closed), os.fsencode(data) if data else None
        )

    def find(self, response: head.ResponseHead) -> open_file.Opened | file_response.FileRefused | None:
        """The file to send instead of the app's body, which must be discarded; or a refusal; None: no file is named.

        The caller passes the file to ``build``, or closes it."""
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
        """Like ``find`` and ``build``, for a stored response that names a file. ``kept``: the header lines.

        If the file has changed since, the app's ETag is dropped."""
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
            return file_response.FileRefused(404, f"X-Sendfile: {fault}. {self._setting} lists them", loud=True)
        except open_file.Unreadable as fault:
            return file_response.FileRefused(403 if fault.forbidden else 500, f"X-Sendfile: {fault}", loud=True)

    def _named(self, response: head.ResponseHead) -> bytes | None:
        """The absolute path of the file; None: none is named; empty: something else is named."""
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
    """Build the response for a file that the app named. Takes ownership of the file.

    A status of 200 may become 206, 304, 412 or 416; others are kept. The app's header lines are kept: a
    Content-Encoding means that the file is already encoded."""
    status = 200 if response.status == 206 else response.status  # the range is computed from the file
    return _build(file, request, conditional.lines(response.kept), status, now)


def remembered(file: open_file.Opened) -> stored.File:
    """The file's identity, as stored in the cache."""
    return stored.File(file.path, file.modified, file.size)


def _build(
    file: open_file.Opened, request: head.RequestHead, lines: list[file_response.Line], status: int, now: float
) -> file_response.FileResponse:
    if not any(name == b"content-type" for name, _ in lines):
        lines.append((b"content-type", b"\r\nContent-Type: " + file_response.of(file.path)))
    return file_response.build(file, request, lines, status=status, now=now)
