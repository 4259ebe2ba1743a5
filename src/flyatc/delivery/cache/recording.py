"""Record the app's response to a request, then store it, merge it into the stored one, or invalidate. Pure."""

import re

from flyatc.delivery import conditional
from flyatc.delivery.cache import invalidation, partial, policy, state
from flyatc.delivery.cache import stored as stored_response
from flyatc.delivery.cache.request_key import PART, CacheRequest
from flyatc.delivery.cache.state import CacheState, Way
from flyatc.delivery.cache.stored import CacheHit, serve
from flyatc.wire import head

FAILED = frozenset((500, 502, 503, 504))  # statuses covered by stale-if-error (RFC 5861 §4)

_OF_THE_CLIENT = (b"if-none-match", b"if-modified-since")  # of the client, replaced by the cache's own validators
_MARKS = re.compile(rb"\r\n(cache-control|expires|x-cache):([^\r]*)", re.IGNORECASE)


class RecordedResponse:
    """A response being recorded."""

    __slots__ = ("answer", "named", "octets", "pieces", "received", "terms")

    def __init__(
        self, answer: stored_response.StoredResponse, named: conditional.Fields, terms: policy.Terms, received: float
    ) -> None:
        self.answer, self.named, self.terms, self.received = answer, named, terms, received
        self.pieces: list[bytes] = []
        self.octets = 0


class Recording:
    """Receives the app's response: ``answer``, ``body``…, then ``end``, ``fail`` or ``gone``; or only ``lost``.

    Times are in Unix seconds.

    ``adds``: header lines (each preceded by CR LF) for the request to the app that revalidate the stored response;
    ``drops``: lower-case names of the client's header fields that are then not sent; ``cache_lines``: header lines for
    the client, set by ``answer``; ``reason``: why the request goes to the app, or why its response is not stored."""

    __slots__ = (
        "_books", "_entry", "_flight", "_since", "_stamp", "_tape", "adds", "asked", "cache_lines", "drops", "reason",
        "way",
    )  # fmt: skip

    def __init__(
        self, books: CacheState, asked: CacheRequest, way: Way, now: float, stored: stored_response.Entry | None = None
    ) -> None:
        self._books, self.asked, self.way, self.reason = books, asked, way, way.reason
        self._since, self._entry = now, stored
        self._stamp = books.stamp(asked.uri) if way.stores else 0
        self._flight: state.Key | None = None
        self._tape: RecordedResponse | None = None
        self.cache_lines = self.adds = b""
        self.drops: tuple[bytes, ...] = ()
        if stored is not None:
            self._ask_about(stored)

    def _ask_about(self, stored: stored_response.Entry) -> None:
        etag, modified = stored.validators
        if etag is not None:
            self.adds = b"\r\nIf-None-Match: " + etag
        if modified is not None:
            self.adds += b"\r\nIf-Modified-Since: " + conditional.write(modified)
        if self.adds:
            self.drops = _OF_THE_CLIENT

    def began_at(self, stamp: int) -> None:
        """Set the stamp of the URI from when the request was sent to the app."""
        self._stamp = stamp

    def lead(self, key: state.Key) -> None:
        """Make this the request that others with the same key wait for."""
        self._flight = key

    # --- the response ---

    def answer(self, came: head.ResponseHead, now: float, file: stored_response.File | None = None) -> CacheHit | None:
        """Process the head of the app's response.

        CacheHit: send it instead; the app's response is not needed, and the recording is over. None: send the app's
        response with ``cache_lines``, and go on; fields not meant for clients are removed from its head. ``file``: sent
        instead of the app's body: then ``body`` is not called."""
        if self._entry is not None and (instead := self._instead(self._entry, came, now)) is not None:
            return instead
        kept, way = came.kept, self.way
        marks = _MARKS.findall(kept[0] if len(kept) == 1 else b"".join(kept))
        if self._flight is None and self._entry is None and not way.unsafe and self._dull(marks):
            self.cache_lines = way.cache_lines  # the common case: no waiters, nothing stored, nothing to store
            return None
        if way.stores:
            refusal = self._plain_refusal(marks) or self._begin(came, now, file)
            if refusal is not None:
                self._refuse(refusal, came.status)
        elif way.unsafe and 200 <= came.status < 400:
            for uri in invalidation.changed(self.asked.uri, came):
                self._books.invalidate(uri)
        if any(name[:1] in b"xX" for name, _ in marks):
            came.drop(b"x-cache")
        self.cache_lines = way.cache_lines if self._tape is None else way.cache_lines_stored
        return None

    @property
    def listens(self) -> bool:
        """True if the body is recorded."""
        return self._tape is not None

    def body(self, data: bytes) -> None:
        """Record a piece of the body."""
        tape, books = self._tape, self._books
        if tape is None:
            return
        tape.octets += len(data)
        books.pending += len(data)
        tape.pieces.append(data)
        if tape.octets > books.item:
            self._give_up("too big")
        elif books.pending > books.pending_bound:
            self._give_up("too much is being recorded")

    def end(self) -> None:
        """Finish: the response is complete."""
        tape = self._stop()
        if tape is not None:
            self._store(tape)
        if self._flight is not None:
            self._release(again=tape is not None)

    def fail(self, now: float) -> CacheHit | None:
        """Finish after a missing or aborted response: nothing is stored. CacheHit: send it if nothing was sent yet."""
        self._stop()
        stored = self._entry
        instead = None if stored is None or self.cache_lines else self._stand_in(stored, now, b"")
        self._release(again=False)
        return instead

    def lost(self) -> None:
        """Finish, instead of ``answer``: the file that the app named cannot be sent."""
        self._refuse("the file that the app named cannot be sent", 404)

    def gone(self) -> None:
        """Finish: the client left before the end. Nothing is stored, but a waiting request may try next."""
        self._stop()
        self._release(again=True)

    def sent_on(self) -> None:
        """Finish: another machine responds. Nothing is stored; an unsafe request invalidates what is stored here."""
        self._stop()
        if self.way.unsafe:
            self._books.invalidate(self.asked.uri)
        self._alone(self.reason)

    # --- recording ---

    def _plain_refusal(self, marks: list[tuple[bytes, bytes]]) -> str | None:
        """Reasons against storing that are cheap to check, since most responses are not cacheable."""
        if not marks and not self.asked.rfc:
            return "nothing says that it may be stored"
        for name, value in marks:
            if name[:1] in b"cC" and (reason := policy.refusal(value)) is not None:
                return reason
        return None

    def _dull(self, marks: list[tuple[bytes, bytes]]) -> bool:
        """Return whether one cheap check shows that the response is not to be stored."""
        if not marks:
            return not self.asked.rfc
        name, value = marks[0]
        return len(marks) == 1 and name[:1] in b"cC" and policy.refusal(value) is not None

    def _begin(self, came: head.ResponseHead, now: float, file: stored_response.File | None) -> str | None:
        """Start recording, or return the reason not to."""
        named, asked = conditional.parse_fields(came.kept), self.asked
        terms = self._terms(came.status, named, now)
        if isinstance(terms, str):
            return terms
        part = None
        if came.status == 206:
            part = partial.parse(named.get(b"content-range", b"")) if asked.parts and file is None else None
            if part is None:
                return "a part of this kind is not stored"
            terms = terms._replace(hidden=terms.hidden | {b"content-range"})
        if terms.public and b"set-cookie" in named and b"set-cookie" not in terms.hidden:
            came.drop(b"set-cookie")  # else all clients would share the first client's session
        if file is None and (reason := self._unfit(came)) is not None:
            return reason
        length = None
        if file is None and asked.head.method == b"HEAD" and b"content-length" in came.noted:
            length = came.length
        lines = stored_response.lines(came.kept, terms, now, length)
        self._tape = RecordedResponse(
            stored_response.StoredResponse(came.status, came.reason, lines, b"", file, part), named, terms, now
        )
        if _for_others(terms):
            self._books.flights.remember(asked.uri, lonely=False)
        else:
            self._alone("each request has to ask the app")
        return None

    def _unfit(self, came: head.ResponseHead) -> str | None:
        """The reason why the body cannot be stored, or None."""
        if came.framing is head.UNTIL_CLOSE:
            return "a complete body cannot be distinguished from a truncated one"
        return "too big" if came.framing is head.LENGTH and came.length > self._books.item else None

    def _refuse(self, reason: str, status: int) -> None:
        """Do not store the response. The stored entry is discarded too, unless the app merely failed (5xx)."""
        if status in policy.OF_ONE_REQUEST:
            self.reason = reason
            return self._release(again=False)
        if self._entry is not None and status < 500:
            self._books.memory.discard(self._entry)
        return self._alone(reason)

    def _terms(self, status: int, named: conditional.Fields, now: float) -> policy.Terms | str:
        times = policy.Times(self._since, now)
        asked = self.asked
        asker = policy.Asker(asked.authorized, asked.rfc and asked.cookies)
        return policy.terms(status, named, asker=asker, times=times, rfc=asked.rfc)

    def _store(self, tape: RecordedResponse) -> None:
        method, answer = self.asked.head.method, tape.answer
        body = b"".join(tape.pieces)
        if answer.part is not None:
            return self._store_part(tape, answer.part, body)
        if method == b"GET" and answer.file is None and answer.status != 204:
            answer = answer._replace(lines=answer.lines + b"\r\nContent-Length: %d" % len(body), body=body)
        made = self._made(method, answer, tape.named, tape.terms, tape.received)
        self._books.counts.stored += self._put(made)
        return None

    def _store_part(self, tape: RecordedResponse, part: partial.Part, body: bytes) -> None:
        """Store a part, joined with what is stored of the same representation."""
        if len(body) != part.stop - part.start:
            return  # its Content-Range is wrong
        made = self._made(PART, tape.answer._replace(body=body), tape.named, tape.terms, tape.received)
        siblings = [self._books.memory.sibling(made, method) for method in (b"GET", PART)]
        joined = [stored_response.join(one, made, self._books.item) for one in siblings if one is not None]
        answer = next((one for one in joined if one is not None), None)
        if answer is not None:
            method, named = b"GET" if answer.part is None else PART, conditional.parse_fields([answer.lines])
            made = self._made(method, answer, named, tape.terms, tape.received)
        elif b"if-range" in self.asked.fields:
            return  # it may lack fields that this client has already (RFC 9110 §15.3.7)
        self._books.counts.stored += self._put(made)

    def _made(
        self,
        method: bytes,
        answer: stored_response.StoredResponse,
        named: conditional.Fields,
        terms: policy.Terms,
        received: float,
    ) -> stored_response.Entry:
        selector = self.asked.selector(method, terms.varies)
        return stored_response.Entry(self.asked.uri, selector, answer, named, terms, received)

    def _put(self, made: stored_response.Entry) -> bool:
        """Store the entry, unless the resource was changed meanwhile. Return whether it was stored."""
        books = self._books
        return self._stamp == books.stamp(self.asked.uri) and books.memory.put(made)

    def _give_up(self, reason: str) -> None:
        self._stop()
        self._alone(reason)

    def _stop(self) -> RecordedResponse | None:
        tape, self._tape = self._tape, None
        if tape is not None:
            self._books.pending -= tape.octets
        return tape

    # --- what is stored already ---

    def _instead(self, stored: stored_response.Entry, came: head.ResponseHead, now: float) -> CacheHit | None:
        if came.status == 304 and self.adds:
            return self._not_modified(stored, came, now)
        if came.status in FAILED:
            instead = self._stand_in(stored, now, b"; fwd-status=%d" % came.status)
            if instead is not None:
                self._release(again=False)
            return instead
        if came.status == 200 and self.asked.head.method == b"HEAD" and stored.contradicts(came):
            self._books.memory.discard(stored)
        return None

    def _not_modified(self, stored: stored_response.Entry, came: head.ResponseHead, now: float) -> CacheHit:
        """The stored response, updated with the header fields of the 304 (RFC 9111 §4.3.4)."""
        books = self._books
        block = stored_response.merged(stored.answer.lines, came.kept)
        named = conditional.parse_fields([block])
        found = self._terms(stored.answer.status, named, now)
        terms = stored.terms if isinstance(found, str) else found
        length = int(named[b"content-length"]) if b"content-length" in named else None
        answer = stored.answer._replace(lines=stored_response.lines([block], terms, now, length))
        made = self._made(stored.selector[0], answer, named, terms, now)
        made.adopt(stored.forms)
        if self.way.stores:
            books.memory.discard(stored)
            if isinstance(found, str):
                self.reason = found
            elif not _doubtful(stored, came):
                books.counts.refreshed += self._put(made)
        how = made.cache_lines(now, b"; fwd=%b; fwd-status=304" % self.way.forward)
        self._release(again=_for_others(terms))
        return serve(made, self.asked, how if terms.public else how + stored_response.cookies(came.kept))

    def _stand_in(self, stored: stored_response.Entry, now: float, more: bytes) -> CacheHit | None:
        """The stored response in place of a failure of the app (stale-if-error), or None."""
        if not policy.on_error(stored.terms, stored.age(now), self.asked.control):
            return None
        self._books.counts.stale += 1
        self.reason = "stale-if-error"
        how = b"; fwd=%b%b; detail=stale-if-error" % (self.way.forward, more)
        return serve(stored, self.asked, stored.cache_lines(now, how))

    # --- the others ---

    def _alone(self, reason: str) -> None:
        """Do not store the response, and let no other request wait for it."""
        self.reason = reason
        self._books.flights.remember(self.asked.uri, lonely=True)
        self._release(again=False)

    def _release(self, *, again: bool) -> None:
        key, self._flight = self._flight, None
        if key is not None:
            self._books.flights.land(key, again=again)


def _doubtful(stored: stored_response.Entry, came: head.ResponseHead) -> bool:
    """Return whether a 304 may be about another version: it names another ETag, and the app was sent a date as well.
    Some apps look at nothing else. Without a date, only the stored ETag can have matched."""
    etag, modified = stored.validators
    other = conditional.parse_fields(came.kept).get(b"etag")
    return etag is not None and modified is not None and other is not None and not conditional.alike(etag, other)


def _for_others(terms: policy.Terms) -> bool:
    """Return whether the response may be used without revalidation, so that others may wait for it."""
    return not terms.ask and terms.lifetime > terms.age
