"""Serve static files without starting the app: map URLs to files below configured folders."""

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from flyatc.config.schema_sections import Coding, Folder
from flyatc.delivery import compression, conditional
from flyatc.delivery.files import file_response, open_file
from flyatc.wire import head

_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNFIT = re.compile(
    rb"[/\\\x00]"
)  # in a decoded segment: a slash in disguise, another system's slash, the end of a C string
_LONGEST = 3 * 4096  # octets of a fully escaped path of PATH_MAX; no file has a longer one
_MOST_SEGMENTS = 2048  # the same limit, for segments of one letter
_SOURCE = re.compile(  # code that runs on the server, also as a backup or compressed: config.php~, app.rb.gz
    rb".*\.(?:php[0-9s]?|phtml|phar|inc|py[coiw]?|rb|erb|rhtml|haml|slim|ru|rake|jspx?|jspf|aspx?|asax|ascx|ashx|cgi|"
    rb"fcgi|p[lm]|cfm|cfc|exs?|eex|heex|leex|twig)(?:~|\.(?:gz|br|zst|bak|old|orig|save|sw[op]|tmp))*",
    re.IGNORECASE | re.DOTALL,
)


class Place(NamedTuple):
    """A possible file. ``number``: index of the folder; ``inner``: the decoded path within it, without outer slashes;
    ``slash``: the URL ends in a slash, which requests an index."""

    number: int
    inner: bytes
    slash: bool


class Nowhere(NamedTuple):
    """A URL below the folder that cannot name a file."""

    number: int
    reason: str


class StaticMap:
    """Maps URL paths to places below the folders. Pure."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        begins = [(folder.path.rstrip("/").encode() + b"/", number) for number, folder in enumerate(folders)]
        self._begins = sorted(begins, key=lambda one: -len(one[0]))

    def find(self, path: bytes) -> list[Place | Nowhere]:
        """Places to try in order, for a raw path below the tenant's prefix, without query. Empty: no folder matches."""
        return [
            _place(number, path[len(begin) :], path.endswith(b"/"))
            for begin, number in self._begins
            if path.startswith(begin) or path == begin[:-1]
        ]


def _place(number: int, rest: bytes, slash: bool) -> Place | Nowhere:
    """Decode once, segment by segment, and check the result."""
    if len(rest) > _LONGEST or rest.count(b"/") > _MOST_SEGMENTS:
        return Nowhere(number, "longer than the path of any file")
    if _ESCAPE.search(rest):
        return Nowhere(number, "a percent sign which begins no escape")
    if not rest:
        return Place(number, b"", slash)
    segments = [unquote_to_bytes(segment) for segment in rest.removesuffix(b"/").split(b"/")]
    for segment in segments:
        if not segment:
            return Nowhere(number, "an empty segment")
        if segment.startswith(b"."):
            return Nowhere(number, "a segment which begins with a dot")
        if _UNFIT.search(segment):
            return Nowhere(number, "a slash, a backslash or a NUL within a segment")
    if _SOURCE.fullmatch(segments[-1]):
        return Nowhere(number, "the extension of a program")
    return Place(number, b"/".join(segments), slash)


_ENDINGS: dict[Coding, bytes] = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}  # the first of equal weight wins


class Redirect(NamedTuple):
    """308 to ``location``: a folder's URL needs a final slash, else relative links on its page break."""

    location: bytes


class PassToApp(NamedTuple):
    """Forward to the app. ``warning``: for the operator: a link leads out of its folder."""

    warning: str | None


class FileCompression(NamedTuple):
    """Encoding of files without precompressed siblings.

    ``codings``: see ``negotiate``; ``least``: minimum octets; ``pack``: returns the content in a coding, or None to
    send the file as it is."""

    codings: tuple[Coding, ...]
    least: int
    pack: Callable[[open_file.Opened, Coding], bytes | None]


Outcome = file_response.FileResponse | file_response.FileRefused | Redirect | PassToApp


class _StaticFolder(NamedTuple):
    settings: Folder
    place: bytes
    roots: open_file.Roots
    packing: FileCompression | None
    closed: tuple[bytes, ...]


class Static:
    """Static files of one tenant. ``directory``: the app's, absolute; ``closed``: resolved paths of which nothing is
    sent, even if a link leads there: data, store, configuration."""

    def __init__(
        self,
        folders: Sequence[Folder],
        directory: str,
        packing: FileCompression | None = None,
        closed: Sequence[bytes] = (),
    ) -> None:
        self._map = StaticMap(folders)
        self._folders = []
        for one in folders:
            place = os.fsencode(Path(directory, one.folder))
            whole = packing is None or b"no-transform" in (one.header or b"").lower()
            roots = open_file.Roots([place])
            self._folders.append(_StaticFolder(one, place, roots, None if whole else packing, tuple(closed)))

    def answer(self, request: head.RequestHead, path: bytes, *, now: float) -> Outcome:
        """Respond to a request. ``path``: raw, below the tenant's prefix; a redirect uses the whole ``request.path``.

        Folders are tried in order, then the app."""
        warning: str | None = None
        for place in self._map.find(path):
            folder = self._folders[place.number]
            reason, loud = "static: no such file", False
            if isinstance(place, Place):
                try:
                    outcome = _look(folder, place, request, now)
                    if outcome is not None:
                        return outcome
                except open_file.Outside as fault:
                    warning = reason = f"static: {fault}"
                    loud = True
                except open_file.Unreadable as fault:
                    return file_response.FileRefused(403 if fault.forbidden else 500, f"static: {fault}", loud=True)
            if not folder.settings.fallthrough:
                return file_response.FileRefused(404, reason, loud) if _reading(request) else _not_allowed()
        return PassToApp(warning)


def _look(folder: _StaticFolder, place: Place, request: head.RequestHead, now: float) -> Outcome | None:
    """The response for one place, or None if there is no file. Raises Outside or Unreadable."""
    path = folder.place + b"/" + place.inner
    if place.inner and not place.slash and (file := _open(path, folder)) is not None:
        if _reading(request):
            return _represent(folder, file, request, now)
        file.close()
        return _not_allowed()
    if not _reading(request) or (file := _index(path, folder)) is None:
        return None  # forms may be posted to a folder's URL
    if place.slash:
        return _represent(folder, file, request, now)
    file.close()
    query = b"" if request.query is None else b"?" + request.query
    return Redirect(request.path + b"/" + query)  # empty segments were refused: it cannot become //another.host/


def _index(path: bytes, folder: _StaticFolder) -> open_file.Opened | None:
    names = (path.rstrip(b"/") + b"/" + os.fsencode(name) for name in folder.settings.index)
    return next((file for name in names if (file := _open(name, folder)) is not None), None)


def _open(path: bytes, folder: _StaticFolder) -> open_file.Opened | None:
    """Open a file; None: there is none, or a link leads to a name that a URL may not have."""
    try:
        file = open_file.open_below(path, folder.roots)
    except open_file.Missing:
        return None
    if _forbidden(file.real, folder):
        file.close()
        return None
    return file


def _forbidden(real: bytes, folder: _StaticFolder) -> bool:
    """Check the resolved path: links may have other names than the URL. Dots in the folder's own path are fine."""
    if _SOURCE.fullmatch(real[real.rindex(b"/") + 1 :]):
        return True
    if any(real == one or real.startswith(one + b"/") for one in folder.closed):
        return True
    if b"/." not in real:
        return False
    below = open_file.really(folder.place)
    return below is None or b"/." in b"/" + real.removeprefix(below)


def _represent(
    folder: _StaticFolder, file: open_file.Opened, request: head.RequestHead, now: float
) -> file_response.FileResponse:
    """The file as it is, its precompressed sibling, or, without siblings, compressed by flyatc."""
    kind = file_response.of(file.path)
    lines = [(b"content-type", b"\r\nContent-Type: " + kind)]
    if (header := folder.settings.header) is not None:
        lines.append((b"cache-control", b"\r\nCache-Control: " + header))
    packed: bytes | None = None
    if folder.settings.precompressed and (codings := _siblings(file)):
        chosen = _chosen(request, codings, lines)
        if chosen is not None and (sibling := _sibling(file.path + _ENDINGS[chosen], folder)) is not None:
            file.close()
            file = sibling
            lines.append((b"content-encoding", b"\r\nContent-Encoding: " + chosen.encode()))
    elif (packing := folder.packing) is not None and file.size >= packing.least and compression.compressible(kind):
        chosen = _chosen(request, packing.codings, lines)
        if chosen is not None and request.line(b"range") is None:
            packed = packing.pack(file, chosen)
        if chosen is not None and packed is not None:
            lines.append((b"content-encoding", b"\r\nContent-Encoding: " + chosen.encode()))
    return file_response.build(file, request, lines, status=200, now=now, packed=packed)


def _chosen(request: head.RequestHead, codings: tuple[Coding, ...], lines: list[file_response.Line]) -> Coding | None:
    lines.append((b"vary", b"\r\nVary: Accept-Encoding"))
    return compression.negotiate(conditional.parse_fields(request.kept).get(b"accept-encoding"), codings)


def _siblings(file: open_file.Opened) -> tuple[Coding, ...]:
    """Codings of the file's precompressed siblings. Siblings older than the file are outdated, and ignored.

    Times are compared in whole seconds, as not every tool copies fractions."""
    found: list[Coding] = []
    for coding, ending in _ENDINGS.items():
        try:
            about = os.stat(file.path + ending)  # noqa: PTH116 - a Path holds no bytes
        except OSError:
            continue
        newer = int(about.st_mtime) >= file.modified // 1_000_000_000
        if newer and about.st_size and stat.S_ISREG(about.st_mode):  # no content compresses to 0 octets
            found.append(coding)
    return tuple(found)


def _sibling(path: bytes, folder: _StaticFolder) -> open_file.Opened | None:
    try:
        return open_file.open_below(path, folder.roots)
    except open_file.FileFault:  # the uncompressed file is sent instead
        return None


def _reading(request: head.RequestHead) -> bool:
    return request.method in (b"GET", b"HEAD")


def _not_allowed() -> file_response.FileRefused:
    return file_response.FileRefused(405, "static: files are only for GET and HEAD", loud=False)
