"""Requests for users served by another machine, on Fly.

They are replayed there by Fly Proxy, forwarded over the private network if Fly Proxy cannot replay them, or refused
with the reason. ``Instructions`` builds the response to Fly Proxy, including replay caching.
"""

from functools import partial
from time import monotonic, time
from typing import NamedTuple, Protocol

from flyatc.config import schema
from flyatc.config.schema import Config
from flyatc.edge import forward, peer_forward, responses
from flyatc.routing import placement_rules, replay, replay_cache
from flyatc.routing.replay_cache import ReplaySuccesses
from flyatc.tenants import errors
from flyatc.tenants.tenant import Tenant
from flyatc.wire.head import CHUNKED, RequestHead
from flyatc.wire.header_names import FOR_REPLAY

RETRY_SECONDS = 5.0
MOST_PREPARED = 1000  # users
SOURCE = b"fly-replay-src"
_FIRST = replay.Source()
Away = placement_rules.There | placement_rules.Nowhere


class Places(Protocol):
    """Looks up the machine that serves a user."""

    def known(self, user: str) -> placement_rules.Place | None:
        """Return the place if it is known without a lookup. None: a lookup is needed, or this machine holds the
        user's lease."""

    async def find(self, user: str) -> placement_rules.Place:
        """Look the place up. Never raises."""

    def sent(self, user: str, to: replay.Target) -> None:
        """Record that a request of the user was replayed to ``to``."""

    def failed(self, user: str, after: float) -> None:
        """Record a replay failure reported by a request, after ``after`` seconds. Any client may forge the report."""

    def unreachable(self, user: str, to: replay.Target) -> bool:
        """Return whether recent replays of the user to ``to`` failed."""

    def learn(self, user: str, place: placement_rules.There) -> None:
        """Record the place that the user's ownership record names."""


class PreparedReplay(NamedTuple):
    """A replay for all requests of a user in one second that tell of no earlier one. ``opening``: see
    ``responses.replay_opening``."""

    place: placement_rules.There
    second: int  # Unix time
    opening: bytes
    reason: str


class FlyReplay:
    """Sends requests to the machine that serves their user. On Fly only; never called for a warm tenant."""

    def __init__(
        self, config: Config, replays: replay.Replays, places: Places, peer_forwards: peer_forward.PeerForwards | str
    ) -> None:
        """``peer_forwards``: for requests that cannot be replayed; or the reason why none can be forwarded."""
        self._replays, self._places, self._only, self._peer_forwards = replays, places, config.only, peer_forwards
        self._instructions = Instructions(replays, config.replay.cache, config.replay.timeout)
        self._prepared: dict[str, PreparedReplay] = {}  # by user

    def respond_if_elsewhere(self, to: forward.Forward, tenant: Tenant, responder: responses.Responder) -> bool:
        """Respond if another machine is known to serve the user. Return whether a response was sent."""
        head, user = to.head, tenant.spec.user
        came_before = not head.noted.keys().isdisjoint(FOR_REPLAY)
        if came_before and (failed := self._failed(to)) is not None:
            self._places.failed(user, failed.seconds)
            self._instructions.failed(user)
            self._prepared.pop(user, None)
        known = self._places.known(user)
        if (
            (prepared := self._prepared.get(user)) is not None
            and prepared.place is known
            and prepared.second == int(time())
            and head.length <= replay.LARGEST_BODY
            and head.framing is not CHUNKED
            and to.forwarded is None
            and not came_before
        ):
            if to.recording is not None:
                to.sent_on()
            responder.replay(to, prepared.opening, prepared.reason)
            return True
        place = self._unless_sent(to, tenant, known)
        if place is not None:
            self.respond(to, tenant, place, responder)
        return place is not None

    async def find_elsewhere(self, to: forward.Forward, tenant: Tenant) -> Away | None:
        """Look up the place to pass to ``respond``. None: this machine serves the user, or tries to."""
        if self.sent_by_peer(to, tenant):
            return self._refuse_other_user(tenant)
        return self._unless_sent(to, tenant, await self._places.find(tenant.spec.user))

    def sent_by_peer(self, to: forward.Forward, tenant: Tenant) -> bool:
        """Return whether another machine of this system sent the request here."""
        return self._source(to, tenant).sent

    def _unless_sent(self, to: forward.Forward, tenant: Tenant, place: placement_rules.Place | None) -> Away | None:
        """Return ``place`` if it is not this machine and no peer sent the request here. A request sent by a peer is
        served here unless the ownership record says otherwise: lookups that disagree must not make a loop."""
        if place is None or isinstance(place, placement_rules.Here):
            return None
        return self._refuse_other_user(tenant) if self._source(to, tenant).sent else place

    def _refuse_other_user(self, tenant: Tenant) -> placement_rules.Nowhere | None:
        """Return a refusal if a request sent here is for a user that this machine does not serve."""
        if self._only in (None, tenant.spec.user):
            return None
        return placement_rules.Nowhere(
            503, f"another machine sent this user here, and this one serves {self._only} only"
        )

    def respond(self, to: forward.Forward, tenant: Tenant, place: Away, responder: responses.Responder) -> None:
        """Replay or forward the request to ``place``, or respond with its reason (a waiting page or an error)."""
        if isinstance(place, placement_rules.There):
            return self._send(to, tenant, place, responder)
        if place.soon and responses.shows_page(to):
            return responder.waiting(to, place.reason, tenant.spec.app.pages)
        retry = RETRY_SECONDS if place.status == 503 else None
        return responder.refuse(to, place.status, place.reason, retry_after=retry, own=tenant.spec.app.pages)

    def respond_with_owner(
        self, to: forward.Forward, tenant: Tenant, error: errors.Unavailable, responder: responses.Responder
    ) -> bool:
        """Send the request to the owner named by ``error``, if it is a machine on Fly. Return whether that was done."""
        target = replay.target(error.owner or "")
        if target is None:
            return False
        place = placement_rules.There(target, error.reason)
        self._places.learn(tenant.spec.user, place)
        self._send(to, tenant, place, responder)
        return True

    def _send(
        self,
        to: forward.Forward,
        tenant: Tenant,
        place: placement_rules.There,
        responder: responses.Responder,
    ) -> None:
        target, head, source = place.target, to.head, self._source(to, tenant)
        failed = self._failed(to)
        if to.recording is not None:
            to.sent_on()
        to.start = to.wait = None  # nothing was started
        if (why := placement_rules.refusal(target, self._replays.me, source, failed)) is not None:
            status, retry = 503, RETRY_SECONDS
        elif (unfit := replay.too_much(head)) is not None or to.forwarded is not None:
            if isinstance(self._peer_forwards, peer_forward.PeerForwards):
                return self._forward(to, tenant, place, source.hops, self._peer_forwards, responder)
            status, why = unfit or (503, "it came over the private network")
            why, retry = f"{why}, and it cannot be forwarded: {self._peer_forwards}", None
        else:
            return self._replay(to, tenant, place, source, responder)
        reason = f"{why}. {place.explanation}"
        return responder.refuse(to, status, reason, retry_after=retry, own=tenant.spec.app.pages, owner=target.owner)

    def _replay(
        self,
        to: forward.Forward,
        tenant: Tenant,
        place: placement_rules.There,
        source: replay.Source,
        responder: responses.Responder,
    ) -> None:
        """Replay the request, and prepare the replay of others like it."""
        user, target, second = tenant.spec.user, place.target, int(time())
        unreachable = self._places.unreachable(user, target)
        self._places.sent(user, target)
        lines = self._instructions.of(to.head, tenant.spec, target, source, unreachable=unreachable)
        opening, reason = responses.replay_opening(lines), f"replayed to {target}: {place.reason}"
        if source is _FIRST and len(lines) == 1:  # more lines depend on the request
            if len(self._prepared) >= MOST_PREPARED:
                self._prepared.clear()
            self._prepared[user] = PreparedReplay(place, second, opening, reason)
        return responder.replay(to, opening, reason)

    def _forward(
        self,
        to: forward.Forward,
        tenant: Tenant,
        place: placement_rules.There,
        hops: int,
        peer_forwards: peer_forward.PeerForwards,
        responder: responses.Responder,
    ) -> None:
        user = tenant.spec.user
        quick = self._places.unreachable(user, place.target)
        self._places.sent(user, place.target)
        going = peer_forward.PeerForward(
            to, tenant.spec.app, place, hops, peer_forwards, responder, partial(self._places.failed, user)
        )
        going.begin(quick=quick)

    @staticmethod
    def _failed(to: forward.Forward) -> replay.Failed | None:
        reports = to.head.noted.get(b"fly-replay-failed")
        return None if reports is None else replay.failed(reports)

    def _source(self, to: forward.Forward, tenant: Tenant) -> replay.Source:
        if to.forwarded is not None:
            return replay.Source(to.forwarded.hops, sent=True)
        earlier = to.head.noted.get(SOURCE)
        return _FIRST if earlier is None else self._replays.source(earlier, tenant.spec.user, time())


class Instructions:
    """Builds replay responses. ``cache``: seconds for which Fly Proxy may cache replays; 0: never. ``timeout``: as
    ``ReplaySuccesses``, seconds."""

    def __init__(self, replays: replay.Replays, cache: float, timeout: float) -> None:
        self._replays, self._cache, self._successes = replays, cache, ReplaySuccesses(timeout)

    def of(
        self, head: RequestHead, spec: schema.Tenant, target: replay.Target, source: replay.Source, *, unreachable: bool
    ) -> list[replay_cache.Header]:
        """Return the header lines of the response. ``unreachable``: recent replays to the target failed."""
        came = replay_cache.classify_arrival(
            head.noted.get(SOURCE, ()), head.noted.get(replay_cache.STATUS, ()), source.hops
        )
        if self._cache and target.id is not None and target.app == self._replays.me.app:  # others report no failures
            if came is replay_cache.Arrival.FIRST and self._successes.proven(spec.user, target, monotonic()):
                cached = replay_cache.headers(head.one(b"host"), spec.home, self._cache)
                if cached is not None:
                    return [(b"Fly-Replay", self._replays.plain(target).encode()), *cached]
            self._successes.sent(spec.user, target, monotonic())
        lines = [(b"Fly-Replay", self._replays.header(target, spec.user, source.hops, time(), unreachable=unreachable))]
        return [*lines, replay_cache.INVALIDATE] if came is replay_cache.Arrival.REMEMBERED else lines

    def failed(self, user: str) -> None:
        """Record that a request of the user reports a failed replay."""
        self._successes.failed(user)
