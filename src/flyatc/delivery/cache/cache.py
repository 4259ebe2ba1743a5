"""Shared HTTP cache (RFC 9111), one for the daemon. Correct before clever. Pure: time is an argument.

``Cache.pass_by`` responds to most requests in a few steps: to those that are not cacheable, and to those for which a
hit was pre-rendered (``Ready``), since it was sent before to an equivalent request.

Looking up another request yields one of:

- ``CacheHit``: a hit;
- ``Recording``: the request goes to the app, and its response is passed to the recording;
- ``Waiting``: an equal request is at the app already, and its response may serve this one too;
- ``Refusal``: the request allows only a response from the cache (only-if-cached), and there is none.

Tenants are isolated: the tenant is the first part of every key.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from flyatc.delivery.cache import memory, policy, state
from flyatc.delivery.cache.memory import Resource
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.request_key import CacheRequest
from flyatc.delivery.cache.state import CacheState, Counts, Waiting, Way, way
from flyatc.delivery.cache.stored import CacheHit, Entry, File, Form, Ready, known, serve
from flyatc.delivery.compression import LONGEST
from flyatc.wire import head


class Refusal(NamedTuple):
    """A response that flyatc generates itself."""

    status: int
    reason: str


Outcome = CacheHit | Recording | Waiting | Refusal

_REFUSAL = Refusal(504, "only-if-cached, and nothing usable is stored")
_LONGEST_CONTROL = 256  # octets of a Cache-Control that is remembered
_READS = (b"GET", b"HEAD")
_SAFE = (b"OPTIONS", b"TRACE")

_NEW = way(b"uri-miss", b"miss", "nothing is stored", stores=True)
_OTHER = way(b"vary-miss", b"miss", "nothing is stored for such a request", stores=True)
_OLD = way(b"stale", b"miss", "stale", stores=True)
_WISHED = way(b"request", b"miss", "the request wants it from the app", stores=True)
_NOT_STORED = way(b"request", b"miss", "the request says no-store")
_PART = way(b"bypass", b"bypass", "a part is asked for, and nothing is stored")
_PARTLY = way(b"partial", b"miss", "another part is stored", stores=True)
_UNSAFE = way(b"method", b"bypass", "not GET or HEAD", unsafe=True)
_NO_READ = way(b"method", b"bypass", "not GET or HEAD")

# Request fields about the client's own copy; they are dropped when the cache revalidates.
_OF_THE_CLIENT = (b"if-none-match", b"if-modified-since", b"range", b"if-range")


class Cache:
    """``bound``: octets of memory for all entries; ``item``: maximum octets of one body."""

    def __init__(self, bound: int, item: int) -> None:
        self._books = CacheState(bound, item)
        self.pass_by = self._books.pass_by  # a call less for each request

    # --- for each request ---

    def look_up(
        self,
        request: head.RequestHead,
        tenant: str,
        now: float,
        waiter: Callable[[bool], None] | None = None,
        *,
        rfc: bool = False,
    ) -> Outcome:
        """Look up a request, for which ``pass_by`` has returned None.

        ``now``: Unix seconds. ``waiter``: pass it if the request may wait for another's response. It is called once,
        when that is done: look up again, with a waiter only if called with True. To stop waiting, call
        ``Waiting.leave``; then look up again without a waiter. ``rfc``: ``delivery.cache.mode`` is ``rfc``. For a
        CacheHit with ``refresh``, see ``refresh``. A Recording must always be ended: others wait for it."""
        asked, books = CacheRequest(request, tenant, rfc), self._books
        resource = books.memory.resource(asked.uri)
        if resource is None and asked.ordinary and books.flights.lonely(asked.uri):
            books.counts.misses += 1  # the cheap path for URIs that are known not to be cacheable
            return Recording(books, asked, _NEW, now)
        if (past := _past(asked)) is not None:
            books.counts.bypassed += 1
            return Recording(books, asked, past, now)
        control = asked.control
        entry, why = None, _NEW
        if resource is not None:
            entry, why = self._pick(resource, asked)
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

    PASSED = _NEW.cache  # the value of X-Cache after ``pass_by``

    def passed(
        self, came: head.ResponseHead, request: head.RequestHead, tenant: str, since: float, stamp: int, *, rfc: bool
    ) -> Recording | None:
        """Take the response to a request that passed by at ``since`` (Unix seconds) with this stamp.

        None: it is surely not to be stored, which a few searches have shown; the cache's header lines were added to it.
        Else the recording that it has to be passed to."""
        lowered, sure = came.lowered, not rfc
        at = lowered.find(b"\r\ncache-control:")
        if at >= 0:
            end = lowered.find(b"\r", at + 16)
            sure = end - at <= _LONGEST_CONTROL and _refuses(lowered[at + 16 : end])
        # at most one line about it, and no X-Cache
        if sure and lowered.count(b"cache") == (at >= 0) and lowered.find(b"\r\nexpires:") < 0:
            came.kept.append(_NEW.cache_lines)
            return None
        recording = Recording(self._books, CacheRequest(request, tenant, rfc=rfc), _NEW, since)
        recording.began_at(stamp)
        return recording

    def refresh(
        self, served: CacheHit, request: head.RequestHead, tenant: str, now: float, *, rfc: bool = False
    ) -> Recording:
        """Start revalidating a CacheHit with ``refresh``.

        Send the request to the app, and its response to the recording only. Until that ends, no other hit asks to
        refresh the same entry."""
        asked = CacheRequest(request, tenant, rfc)
        recording = Recording(self._books, asked, _OLD, now, served.entry)
        recording.drops = _OF_THE_CLIENT
        key = asked.uri, served.entry.selector
        if self._books.flights.begin(key):
            recording.lead(key)
        return recording

    # --- what is stored ---

    def keep_form(self, entry: Entry, coding: bytes, form: Form) -> None:
        """Keep the entry's body in a content-coding as ``entry.forms[coding]``, if there is room."""
        self._books.memory.add_form(entry, coding, form)

    def keep_ready(self, served: CacheHit, settings: object) -> None:
        """Keep the rendered hit for plain requests of the same variant.

        ``settings``: those its coding was chosen by."""
        asked = served.plain
        if asked is None or served.entry.answer.file is not None or len((variant := asked.variant)[0] or b"") > LONGEST:
            return
        self._books.memory.add_ready(Ready(served.entry, variant, settings, served.lines, served.body))

    def packed(self, file: File, coding: bytes) -> bytes | None:
        """A file's content in a content-coding; empty if that is not smaller, None if not stored."""
        return memory.find(self._books.memory, file, coding)

    def keep_packed(self, file: File, coding: bytes, body: bytes) -> None:
        memory.keep(self._books.memory, file, coding, body)

    def discard(self, entry: Entry) -> None:
        """Drop an entry whose file is gone."""
        self._books.memory.discard(entry)

    def clear(self, *tenants: str) -> int:
        """Drop the entries of each "user/tenant", of all tenants of each "user", or all if none is named; return their
        number.

        Responses being recorded are not stored."""
        return self._books.clear(frozenset(tenants))

    @property
    def counts(self) -> Counts:
        return self._books.counts

    @property
    def octets(self) -> int:
        """Memory used."""
        return self._books.memory.octets

    @property
    def entries(self) -> int:
        return len(self._books.memory)

    @property
    def evicted(self) -> int:
        """Number of entries evicted to make room."""
        return self._books.memory.evicted

    # --- decisions ---

    def _pick(self, resource: Resource, asked: CacheRequest) -> tuple[Entry | None, Way]:
        """The entry for the request, or None with the reason."""
        entry = self._books.memory.pick(resource, asked)
        if entry is None:
            return None, _OTHER
        if (asked.authorized and not entry.terms.authorized) or (entry.terms.guessed and asked.cookies):
            return None, _OTHER  # stored for anonymous clients: the app may respond differently to a known one
        if entry.answer.part is not None and not entry.covers(asked):
            return None, _PARTLY
        if entry.terms.ask and asked.conditional and not known(entry, asked):
            return None, _OLD  # the client may have what the app has now: the app evaluates its condition
        return entry, _OLD

    def _serve(self, entry: Entry, asked: CacheRequest, use: policy.Use, now: float) -> CacheHit:
        books = self._books
        books.memory.touch(entry)
        books.counts.hits += 1
        served = serve(entry, asked, entry.hit(now))
        if use.way is policy.FRESH and asked.plain and not entry.terms.guessed and self._books.memory.by_coding(entry):
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
        if entry is None and asked.ranged and not asked.parts:
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
        """The key for others to wait for this request's response, or None if it cannot serve them."""
        if resource is None and self._books.flights.lonely(asked.uri):
            return None
        if why is _WISHED or not why.stores or asked.head.method != b"GET" or asked.authorized or asked.ranged:
            return None
        if entry is not None:
            return None if entry.terms.ask or not entry.terms.lifetime else (asked.uri, entry.selector)
        if asked.conditional:
            return None  # a 304 for one client is useless to others
        names = resource.specs[0] if resource is not None else ()
        return asked.uri, asked.selector(b"GET", names)


@lru_cache(1024)
def _refuses(control: bytes) -> bool:
    """Return whether this Cache-Control of a response forbids to store it."""
    return policy.refusal(control) is not None


def _past(asked: CacheRequest) -> Way | None:
    """The reason to bypass the cache, or None."""
    method = asked.head.method
    if method not in _READS:
        return _NO_READ if method in _SAFE else _UNSAFE
    reason = asked.unfit()
    return None if reason is None else way(b"bypass", b"bypass", reason)
