"""Files in content-codings, kept beside the answers. By path, not by tenant: many tenants serve the same stylesheet,
and what makes it theirs was judged when it was opened. Pure."""

from flyatc.delivery import shelf, storing
from flyatc.delivery.asked import Selector, Uri
from flyatc.delivery.entry import Answer, Entry, File

_HOST = b"/file"  # no request can name such a host
_NO_TERMS = storing.Terms(0, 0, True, True, 0, 0, False, False, frozenset(), ())


def find(among: shelf.Shelf, file: File, coding: bytes) -> bytes | None:
    """Its content in the coding. Empty: it is known that it does not become smaller."""
    resource = among.resource(_uri(file))
    entry = None if resource is None else resource.entries.get(_selector(file, coding))
    if entry is None:
        return None
    among.touch(entry)
    return entry.answer.body


def keep(among: shelf.Shelf, file: File, coding: bytes, body: bytes) -> None:
    """In the place of what the file was before."""
    uri = _uri(file)
    resource = among.resource(uri)
    if resource is not None and any(selector[3] != (_mark(file),) for selector in resource.entries):
        among.remove(uri)
    answer = Answer(200, b"", b"", body, None)
    among.put(Entry(uri, _selector(file, coding), answer, {}, _NO_TERMS, 0.0))


def _uri(file: File) -> Uri:
    return "", _HOST, file.path, None


def _selector(file: File, coding: bytes) -> Selector:
    return coding, (), (), (_mark(file),)


def _mark(file: File) -> bytes:
    return b"%x-%x" % (file.modified, file.size)
