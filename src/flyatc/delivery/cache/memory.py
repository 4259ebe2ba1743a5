"""LRU store of responses, by URI and selection fields, bounded by octets; also stores encoded files. Pure.

Encoded files are stored by path, not by tenant: many tenants serve the same stylesheet, and access was checked when the
file was opened.
"""

from collections import OrderedDict
from collections.abc import Mapping

from flyatc.delivery.cache import policy, stored, vary
from flyatc.delivery.cache.request_key import PART, CacheRequest, Selector, Uri, Variant
from flyatc.delivery.cache.stored import FORM_OCTETS, Entry, File, Form, StoredResponse

MOST_VARIANTS = 64  # per URI; else one client with invented User-Agents fills the cache and slows lookups
MOST_SPECS = 4  # different Vary headers per URI
_BY_CODING = frozenset((b"accept-encoding",))
_NONE: Mapping[Variant, stored.Ready] = {}
_OTHER = {b"GET": PART, PART: b"GET"}


class Resource:
    """All entries of one URI. ``specs``: Vary headers seen, newest first; ``ready``: dropped when any entry
    changes."""

    __slots__ = ("entries", "ready", "ready_octets", "specs")

    def __init__(self) -> None:
        self.entries: dict[Selector, Entry] = {}
        self.specs: list[vary.Names] = []
        self.ready: Mapping[Variant, stored.Ready] = _NONE
        self.ready_octets = 0


class MemoryStore:
    """The store. ``bound``: octets of all entries together; ``evicted``: number of evictions so far."""

    def __init__(self, bound: int) -> None:
        self.bound, self.octets, self.evicted = bound, 0, 0
        self.resources: dict[Uri, Resource] = {}
        self._order: OrderedDict[Entry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def resource(self, uri: Uri) -> Resource | None:
        return self.resources.get(uri)

    def pick(self, resource: Resource, asked: CacheRequest) -> Entry | None:
        """The entry selected by the request, the newest if there are several (RFC 9111 §4.1).

        A HEAD may use an entry stored for GET, a request for a range may use a part."""
        entries = resource.entries
        methods = (b"GET",) if asked.head.method == b"GET" else (b"GET", b"HEAD")
        if asked.rfc and asked.parts:
            methods = (b"GET", PART)
        found = [
            entry
            for names in resource.specs
            for method in methods
            if (entry := entries.get(asked.selector(method, names))) is not None
        ]
        if len(found) > 1:
            return max(found, key=lambda entry: (entry.date, entry.received))
        return found[0] if found else None

    def sibling(self, entry: Entry, method: bytes) -> Entry | None:
        """The entry for the same requests, stored for another method (or PART)."""
        resource = self.resources.get(entry.uri)
        return None if resource is None else resource.entries.get((method, *entry.selector[1:]))

    def touch(self, entry: Entry) -> None:
        """Mark an entry as used. Does nothing if it was dropped."""
        if entry in self._order:
            self._order.move_to_end(entry)

    def put(self, entry: Entry) -> bool:
        """Store an entry. A whole body replaces a part, and a part the whole. Return False if it exceeds the bound."""
        if entry.octets > self.bound:
            return False
        resource = self.resources.get(entry.uri)
        if resource is None:
            resource = self.resources[entry.uri] = Resource()
        if (old := resource.entries.get(entry.selector)) is not None:
            self._drop(old)
        elif len(resource.entries) >= MOST_VARIANTS:
            self._evict(next(iter(resource.entries.values())))
        if (other := self.sibling(entry, _OTHER.get(entry.selector[0], b""))) is not None:
            self._drop(other)
        self._remember(resource, entry)
        self._order[entry] = None
        self.octets += entry.octets
        self._shrink()
        return True

    def add_form(self, entry: Entry, coding: bytes, form: Form) -> None:
        """Add an encoded body. Does nothing if the entry was dropped, or would exceed the bound."""
        if entry not in self._order:
            return
        old = entry.forms.get(coding)
        grown = FORM_OCTETS + len(form.lines) + len(form.body)
        grown -= 0 if old is None else FORM_OCTETS + len(old.lines) + len(old.body)
        if entry.octets + grown > self.bound:
            return
        self._forget_ready(self.resources[entry.uri])
        entry.forms[coding] = form
        entry.octets += grown
        self.octets += grown
        self.touch(entry)
        self._shrink()

    def remove(self, uri: Uri) -> None:
        """Drop all entries of the URI."""
        if (resource := self.resources.get(uri)) is not None:
            for entry in list(resource.entries.values()):
                self._drop(entry)

    def discard(self, entry: Entry) -> None:
        if entry in self._order:
            self._drop(entry)

    def clear(self, tenants: frozenset[str]) -> int:
        """Drop the entries of each "user/tenant", of all tenants of each "user", or all (if empty); return their
        number."""
        gone = [entry for entry in self._order if not tenants or _belongs(entry.uri[0], tenants)]
        for entry in gone:
            self._drop(entry)
        return len(gone)

    def by_coding(self, entry: Entry) -> bool:
        """Return whether the entry is stored, and selection for its URI depends on nothing but Accept-Encoding."""
        if entry not in self._order:
            return False
        return all(_BY_CODING.issuperset(names) for names in self.resources[entry.uri].specs)

    def add_ready(self, one: stored.Ready) -> None:
        """Add a pre-rendered hit. Does nothing if its entry was dropped, or if it would exceed the bound."""
        if one.entry not in self._order:
            return
        resource = self.resources[one.entry.uri]
        old = resource.ready.get(one.variant)
        if old is not None and old.entry is one.entry and old.settings is one.settings:
            return  # requests that waited for one response are looked up one after the other
        if resource.ready_octets + one.octets + one.entry.octets > self.bound:
            return
        if len(resource.ready) >= stored.MOST or old is not None:
            self._forget_ready(resource)
        resource.ready = {**resource.ready, one.variant: one}
        resource.ready_octets += one.octets
        self.octets += one.octets
        self._shrink()

    def _forget_ready(self, resource: Resource) -> None:
        self.octets -= resource.ready_octets
        resource.ready, resource.ready_octets = _NONE, 0

    def _remember(self, resource: Resource, entry: Entry) -> None:
        self._forget_ready(resource)
        resource.entries[entry.selector] = entry
        self.resources[entry.uri] = resource  # it was removed with its last entry
        names = entry.terms.varies
        if names in resource.specs:
            resource.specs.remove(names)
        resource.specs.insert(0, names)
        for names in resource.specs[MOST_SPECS:]:
            for old in [e for e in resource.entries.values() if e.terms.varies == names]:
                self._drop(old)
        del resource.specs[MOST_SPECS:]

    def _shrink(self) -> None:
        while self.octets > self.bound:
            self._evict(next(iter(self._order)))

    def _evict(self, entry: Entry) -> None:
        self.evicted += 1
        self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        del self._order[entry]
        self.octets -= entry.octets
        resource = self.resources[entry.uri]
        self._forget_ready(resource)
        del resource.entries[entry.selector]
        if not resource.entries:
            del self.resources[entry.uri]


def _belongs(tenant: str, wanted: frozenset[str]) -> bool:
    names = tenant.split("/")
    return any("/".join(names[:count]) in wanted for count in range(1, len(names) + 1))


_HOST = b"/file"  # no request can have such a host
_NO_TERMS = policy.Terms(0, 0, True, True, 0, 0, False, False, False, frozenset(), ())


def find(among: MemoryStore, file: File, coding: bytes) -> bytes | None:
    """A file's content in the coding, or None. Empty: known not to become smaller."""
    resource = among.resource(_uri(file))
    entry = None if resource is None else resource.entries.get(_selector(file, coding))
    if entry is None:
        return None
    among.touch(entry)
    return entry.answer.body


def keep(among: MemoryStore, file: File, coding: bytes, body: bytes) -> None:
    """Store a file's content in the coding, replacing that of earlier versions of the file."""
    uri = _uri(file)
    resource = among.resource(uri)
    if resource is not None and any(selector[3] != (_mark(file),) for selector in resource.entries):
        among.remove(uri)
    answer = StoredResponse(200, b"", b"", body, None)
    among.put(Entry(uri, _selector(file, coding), answer, {}, _NO_TERMS, 0.0))


def _uri(file: File) -> Uri:
    return "", _HOST, file.path, None


def _selector(file: File, coding: bytes) -> Selector:
    return coding, (), (), (_mark(file),)


def _mark(file: File) -> bytes:
    return b"%x-%x" % (file.modified, file.size)
