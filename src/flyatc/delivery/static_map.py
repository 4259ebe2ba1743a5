"""Which file of which folder an address stands for. Pure: whether there is one, the disk says."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from flyatc.config.delivery import Folder

_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNFIT = re.compile(
    rb"[/\\\x00]"
)  # in a decoded segment: a slash in disguise, another system's slash, the end of a C string
_LONGEST = 3 * 4096  # octets of a path with all of them escaped: PATH_MAX, and so no file has a longer one
_MOST_SEGMENTS = 2048  # the same, of one letter each


class Place(NamedTuple):
    """``number``: of the folder in the list that was given; ``inner``: the path within it, decoded, with no slash at
    either end; ``slash``: whether the address ends in one, which asks for an index."""

    number: int
    inner: bytes
    slash: bool


class Nowhere(NamedTuple):
    """It is an address of the folder, but no file can be meant."""

    number: int
    reason: str


class StaticMap:
    def __init__(self, folders: Sequence[Folder]) -> None:
        begins = [(folder.path.rstrip("/").encode() + b"/", number) for number, folder in enumerate(folders)]
        self._begins = sorted(begins, key=lambda one: -len(one[0]))

    def find(self, path: bytes) -> list[Place | Nowhere]:
        """Where to look in turn, for a raw path below the tenant's prefix, without its query. Empty: not ours."""
        return [
            _place(number, path[len(begin) :], path.endswith(b"/"))
            for begin, number in self._begins
            if path.startswith(begin) or path == begin[:-1]
        ]


def _place(number: int, rest: bytes, slash: bool) -> Place | Nowhere:
    """Decodes once, segment by segment, and judges what came out."""
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
    return Place(number, b"/".join(segments), slash)
