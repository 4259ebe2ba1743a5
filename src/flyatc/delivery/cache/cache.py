"""A shared cache of HTTP answers (RFC 9111): one for the daemon. Correct before clever. Pure: time is an argument.

A request is looked up; what comes of it is one of:

- ``Ready``: the answer is here, and was sent to others like this one;
- ``Served``: the answer is here;
- ``Recording``: the request goes to the app, its answer is fed to the recording;
- ``Waiting``: the same request is on its way to the app already, and its answer may do for this one;
- ``Refusal``: it may only be answered from the cache, and cannot.

No two tenants ever meet: the tenant is the first part of every key.
"""

from collections.abc import Callable
from typing import NamedTuple

from flyatc.delivery.cache import memory, policy, state
from flyatc.delivery.cache.memory import Resource
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.request_key import CacheRequest
from flyatc.delivery.cache.state import CacheState, Counts, Waiting, Way, way
from flyatc.delivery.cache.stored import CacheHit, Entry, File, Form, Ready, serve
from flyatc.delivery.compression import LONGEST
from flyatc.wire import head


class Refusal(NamedTuple):
    """An answer of our own is due."""

    status: int
    reason: str


Outcome = Ready | CacheHit | Recording | Waiting | Refusal

_REFUSAL = Refusal(504, "only-if-cached, and it is not")
_READS = (b"GET", b"HEAD")
_SAFE = (b"OPTIONS", b"TRACE")

_NEW = way(b"uri-miss", b"miss", "nothing is stored", stores=True)
_OTHER = way(b"vary-miss", b"miss", "nothing is stored for such a request", stores=True)
_OLD = way(b"stale", b"miss", "stale", stores=True)
_WISHED = way(b"request", b"miss", "the request wants it from the app", stores=True)
_NOT_STORED = way(b"request", b"miss", "the request says no-store")
_PART = way(b"bypass", b"bypass", "a part is asked for, and nothing is stored")
_UNSAFE = way(b"method", b"bypass", "not GET or HEAD", unsafe=True)
_NO_READ = way(b"method", b"bypass", "not GET or HEAD")

# What the visitor's header says about his own copy, which is none of the store's business.
_OF_ONE_VISITOR = (b"if-none-match", b"if-modified-since", b"range", b"if-range")


class Cache:
    """``bound``: octets of memory for all that is stored; ``item``: the most octets of one body; ``heuristic``: the
    part of the time since Last-Modified for which an answer that says nothing is taken for fresh (0: for none)."""

    def __init__(self, bound: int, item: int, heuristic: float = 0.0) -> None:
        self._books = CacheState(bound, item, heuristic)

    # --- for each request ---

    def look_up(
        self,
        request: head.RequestHead,
        tenant: str,
        now: float,
        waiter: Callable[[bool], None] | None = None,
        settings: object = None,
    ) -> Outcome:
        """``now``: Unix seconds. ``waiter``: given, where the request may wait for another's answer. It is called once,
        when that has come: look up again, with a waiter only if it is called with True. Who stops waiting calls
        ``Waiting.leave``, and may look up again without. ``settings``: see ``keep_ready``; by others, nothing is ready.

        Of a Served with ``refresh``, see ``refresh``. A Recording has to be ended in any case: others wait for it."""
        asked, books = CacheRequest(request, tenant), self._books
        resource = books.shelf.resource(asked.uri)
        if resource is not None and resource.ready and (ready := self._ready(resource, asked, settings, now)):
            return ready
        if resource is None and asked.ordinary and books.flights.lonely(asked.uri):
            books.counts.misses += 1  # what is not for the cache comes here again and again, and should not pay for it
            return Recording(books, asked, _NEW, now)
        if (past := _past(asked)) is not None:
            books.counts.bypassed += 1
            return Recording(books, asked, past, now)
        control = asked.control
        entry, why = None, _NEW
        if resource is not None:
            entry, why = self._pick(resource, asked), _OTHER
        if entry is not None:
            use = policy.weigh(entry.terms, entry.age(now), control)
            if use.way is not policy.ASK:
                return self._serve(entry, asked, use, now)
            why = _WISHED if use.wished else _OLD
        if control:
            if b"only-if-cached" in control:
                return _REFUSAL
            if b"no-store" in control:
                why = _NOT_STORED
        return self._forward(asked, resource, entry, why, now, waiter)

    def refresh(self, served: CacheHit, request: head.RequestHead, tenant: str, now: float) -> Recording:
        """For a Served with ``refresh``: the request is to be sent to the app as well, and the answer goes to nobody
        but the recording. Until that ends, no other is told to refresh the same."""
        asked = CacheRequest(request, tenant)
        recording = Recording(self._books, asked, _OLD, now, served.entry)
        recording.drops = _OF_ONE_VISITOR
        key = asked.uri, served.entry.selector
        if self._books.flights.begin(key):
            recording.lead(key)
        return recording

    # --- what is stored ---

    def keep_form(self, entry: Entry, coding: bytes, form: Form) -> None:
        """Keeps the entry's body in a content-coding: ``entry.forms[coding]``. Nothing happens where there is no
        room."""
        self._books.shelf.add_form(entry, coding, form)

    def keep_ready(self, served: CacheHit, settings: object) -> None:
        """What is sent of it now may be sent to all who say the same in Accept-Encoding, and ask for nothing special.
        ``settings``: by which its coding was chosen."""
        asked = served.plain
        if asked is None or served.entry.answer.file is not None or len(asked.accepted or b"") > LONGEST:
            return
        self._books.shelf.add_ready(Ready(served.entry, asked.accepted, settings, served.lines, served.body))

    def packed(self, file: File, coding: bytes) -> bytes | None:
        """A file's content in a content-coding; empty where it does not become smaller, None where it is not known."""
        return memory.find(self._books.shelf, file, coding)

    def keep_packed(self, file: File, coding: bytes, body: bytes) -> None:
        memory.keep(self._books.shelf, file, coding, body)

    def discard(self, entry: Entry) -> None:
        """It is no good any more: the file that it names is gone."""
        self._books.shelf.discard(entry)

    def clear(self, tenants: str | None = None) -> int:
        """Drops what is stored for "user/tenant", for all tenants of "user", or all; what is on its way is not stored.
        How many answers there were."""
        return self._books.clear(tenants)

    @property
    def counts(self) -> Counts:
        return self._books.counts

    @property
    def octets(self) -> int:
        """Memory of what is stored."""
        return self._books.shelf.octets

    @property
    def entries(self) -> int:
        return len(self._books.shelf)

    @property
    def evicted(self) -> int:
        """Answers which had to make room for others."""
        return self._books.shelf.evicted

    # --- decisions ---

    def _pick(self, resource: Resource, asked: CacheRequest) -> Entry | None:
        entry = self._books.shelf.pick(resource, asked)
        if entry is not None and asked.authorized and not entry.terms.authorized:
            return None  # made for anybody: the app may have more for him whom it knows
        return entry

    def _ready(self, resource: Resource, asked: CacheRequest, settings: object, now: float) -> Ready | None:
        ready = resource.ready.get(asked.accepted) if asked.plain else None
        if ready is None or not ready.serves(settings, now):
            return None
        self._books.shelf.touch(ready.entry)
        self._books.counts.hits += 1
        return ready

    def _serve(self, entry: Entry, asked: CacheRequest, use: policy.Use, now: float) -> CacheHit:
        books = self._books
        books.shelf.touch(entry)
        books.counts.hits += 1
        served = serve(entry, asked, entry.hit(now))
        if use.way is policy.FRESH and asked.plain and self._books.shelf.by_coding(entry):
            served.plain = asked
        if use.way is not policy.FRESH:
            books.counts.stale += 1
            alike = use.way is policy.MEANWHILE and asked.head.method == entry.selector[0]
            served.refresh = alike and not books.flights.under_way((asked.uri, entry.selector))
        return served

    def _forward(
        self,
        asked: CacheRequest,
        resource: Resource | None,
        entry: Entry | None,
        why: Way,
        now: float,
        waiter: Callable[[bool], None] | None,
    ) -> Recording | Waiting:
        books = self._books
        if entry is None and asked.ranged:
            books.counts.bypassed += 1
            return Recording(books, asked, _PART, now)
        key = None
        if waiter is not None and (key := self._key(asked, resource, entry, why)) and not books.flights.begin(key):
            books.counts.waited += 1
            return books.flights.join(key, waiter)
        books.counts.misses += 1
        recording = Recording(books, asked, why, now, entry)
        if key is not None:
            recording.lead(key)
        return recording

    def _key(self, asked: CacheRequest, resource: Resource | None, entry: Entry | None, why: Way) -> state.Key | None:
        """Under which others may wait for this request's answer; None: it is this visitor's affair."""
        if resource is None and self._books.flights.lonely(asked.uri):
            return None
        if why is _WISHED or not why.stores or asked.head.method != b"GET" or asked.authorized or asked.ranged:
            return None
        if entry is not None:
            return None if entry.terms.ask or not entry.terms.lifetime else (asked.uri, entry.selector)
        if asked.conditional:
            return None  # a 304 for one is nothing for the others
        names = resource.specs[0] if resource is not None else ()
        return asked.uri, asked.selector(b"GET", names)


def _past(asked: CacheRequest) -> Way | None:
    """The way past the cache, for what it has no say in."""
    method = asked.head.method
    if method not in _READS:
        return _NO_READ if method in _SAFE else _UNSAFE
    reason = asked.unfit()
    return None if reason is None else way(b"bypass", b"bypass", reason)
