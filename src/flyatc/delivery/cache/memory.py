"""Where stored answers are kept: by address and by what they depend on, within a bound of octets. Pure.

Files in content-codings, kept beside the answers. By path, not by tenant: many tenants serve the same stylesheet,
and what makes it theirs was judged when it was opened. Pure.
"""

from collections import OrderedDict
from collections.abc import Mapping

from flyatc.delivery.cache import policy, stored
from flyatc.delivery.cache.request_key import CacheRequest, Selector, Uri
from flyatc.delivery.cache.stored import FORM_OCTETS, Entry, File, Form, StoredResponse

MOST_VARIANTS = 64  # of one address; else one stranger with invented User-Agents fills the cache and slows the look-up
MOST_SPECS = 4  # different Vary of one address
_BY_CODING = frozenset((b"accept-encoding",))
_NONE: Mapping[bytes | None, stored.Ready] = {}


class Resource:
    """All that is stored for one address. ``specs``: the Vary seen, the newest first; ``ready``: by Accept-Encoding,
    gone as soon as anything else changes."""

    __slots__ = ("entries", "ready", "ready_octets", "specs")

    def __init__(self) -> None:
        self.entries: dict[Selector, Entry] = {}
        self.specs: list[policy.Names] = []
        self.ready: Mapping[bytes | None, stored.Ready] = _NONE
        self.ready_octets = 0


class MemoryStore:
    """``bound``: octets, for all entries together. ``evicted``: how many had to go, so far."""

    def __init__(self, bound: int) -> None:
        self.bound, self.octets, self.evicted = bound, 0, 0
        self._resources: dict[Uri, Resource] = {}
        self._order: OrderedDict[Entry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def resource(self, uri: Uri) -> Resource | None:
        return self._resources.get(uri)

    def pick(self, resource: Resource, asked: CacheRequest) -> Entry | None:
        """The entry meant for the request, the newest where there are several (RFC 9111 §4.1): a HEAD may be answered
        from what is stored for GET."""
        entries = resource.entries
        methods = (b"GET",) if asked.head.method == b"GET" else (b"GET", b"HEAD")
        found = [
            entry
            for names in resource.specs
            for method in methods
            if (entry := entries.get(asked.selector(method, names))) is not None
        ]
        if len(found) > 1:
            return max(found, key=lambda entry: (entry.date, entry.received))
        return found[0] if found else None

    def touch(self, entry: Entry) -> None:
        """It was used. Nothing for one that is gone."""
        if entry in self._order:
            self._order.move_to_end(entry)

    def put(self, entry: Entry) -> bool:
        """Whether it is in; not if it alone is more than the bound."""
        if entry.octets > self.bound:
            return False
        resource = self._resources.get(entry.uri)
        if resource is None:
            resource = self._resources[entry.uri] = Resource()
        if (old := resource.entries.get(entry.selector)) is not None:
            self._drop(old)
        elif len(resource.entries) >= MOST_VARIANTS:
            self._evict(next(iter(resource.entries.values())))
        self._remember(resource, entry)
        self._order[entry] = None
        self.octets += entry.octets
        self._shrink()
        return True

    def add_form(self, entry: Entry, coding: bytes, form: Form) -> None:
        """Nothing for an entry that is gone."""
        if entry not in self._order:
            return
        old = entry.forms.get(coding)
        grown = FORM_OCTETS + len(form.lines) + len(form.body)
        grown -= 0 if old is None else FORM_OCTETS + len(old.lines) + len(old.body)
        if entry.octets + grown > self.bound:
            return
        self._forget_ready(self._resources[entry.uri])
        entry.forms[coding] = form
        entry.octets += grown
        self.octets += grown
        self.touch(entry)
        self._shrink()

    def remove(self, uri: Uri) -> None:
        """All that is stored for the address."""
        if (resource := self._resources.get(uri)) is not None:
            for entry in list(resource.entries.values()):
                self._drop(entry)

    def discard(self, entry: Entry) -> None:
        if entry in self._order:
            self._drop(entry)

    def clear(self, tenants: str | None) -> int:
        """``tenants``: "user/tenant", or "user" for all of his; None: everything. How many entries went."""
        gone = [entry for entry in self._order if tenants is None or _belongs(entry.uri[0], tenants)]
        for entry in gone:
            self._drop(entry)
        return len(gone)

    def by_coding(self, entry: Entry) -> bool:
        """Whether the entry is stored, and which one is meant depends on nothing but Accept-Encoding."""
        if entry not in self._order:
            return False
        return all(_BY_CODING.issuperset(names) for names in self._resources[entry.uri].specs)

    def add_ready(self, one: stored.Ready) -> None:
        """Nothing for an entry that is gone, or is not the only one that matters to such requests."""
        if one.entry not in self._order:
            return
        resource = self._resources[one.entry.uri]
        if resource.ready_octets + one.octets + one.entry.octets > self.bound:
            return
        if len(resource.ready) >= stored.MOST or one.accepted in resource.ready:
            self._forget_ready(resource)
        resource.ready = {**resource.ready, one.accepted: one}
        resource.ready_octets += one.octets
        self.octets += one.octets
        self._shrink()

    def _forget_ready(self, resource: Resource) -> None:
        self.octets -= resource.ready_octets
        resource.ready, resource.ready_octets = _NONE, 0

    def _remember(self, resource: Resource, entry: Entry) -> None:
        self._forget_ready(resource)
        resource.entries[entry.selector] = entry
        self._resources[entry.uri] = resource  # dropping the last of its entries had dropped it
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
        resource = self._resources[entry.uri]
        self._forget_ready(resource)
        del resource.entries[entry.selector]
        if not resource.entries:
            del self._resources[entry.uri]


def _belongs(tenant: str, wanted: str) -> bool:
    return tenant == wanted or tenant.startswith(wanted + "/")


_HOST = b"/file"  # no request can name such a host
_NO_TERMS = policy.Terms(0, 0, True, True, 0, 0, False, False, frozenset(), ())


def find(among: MemoryStore, file: File, coding: bytes) -> bytes | None:
    """Its content in the coding. Empty: it is known that it does not become smaller."""
    resource = among.resource(_uri(file))
    entry = None if resource is None else resource.entries.get(_selector(file, coding))
    if entry is None:
        return None
    among.touch(entry)
    return entry.answer.body


def keep(among: MemoryStore, file: File, coding: bytes, body: bytes) -> None:
    """In the place of what the file was before."""
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
