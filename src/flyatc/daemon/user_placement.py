"""Find the machine that serves a user, on Fly: lookups for the rules of ``routing.placement``."""

import asyncio
from typing import Protocol

from flyatc.config.schema import Config
from flyatc.fly import dns_answers
from flyatc.fly.environment import Machine
from flyatc.fly.machine_list import MachineList
from flyatc.fly.provision import NotMade, Provisioner
from flyatc.fly.user_lookup import UserLookup
from flyatc.kit.async_cache import AsyncCache
from flyatc.kit.errors import OwnershipUnknown
from flyatc.kit.timing import TokenBucket
from flyatc.ownership.record import Holder, Owner, Successor
from flyatc.routing import placement_rules
from flyatc.routing.placement_rules import Last
from flyatc.routing.replay import Target, target
from flyatc.routing.replay_cache import ReplayFailures

KEPT = 2.0  # seconds for which a result is cached
MOST = 10_000  # users remembered
LOOKS = 2  # lease records read at once: acquiring a lease needs the store as well


class Owners(Protocol):
    """Leases: see daemon.leases."""

    def held(self, user: str, /) -> bool: ...

    async def look(self, user: str) -> Owner | None: ...


AT_ONCE, A_SECOND = 500.0, 100.0  # lookups of unknown users
UNDER_WAY = 200  # concurrent lookups of them


class UserPlacement:
    """Cached placement of users. ``names``: None without fly.metadata; ``inventory``, ``making``: None without the
    Machines API."""

    def __init__(
        self,
        config: Config,
        me: Machine,
        owners: Owners,
        names: UserLookup | None,
        inventory: MachineList | None = None,
        making: Provisioner | None = None,
    ) -> None:
        self._me, self._owners, self._names = me, owners, names
        self._inventory, self._making = inventory, making
        self._found: AsyncCache[str, placement_rules.Place] = AsyncCache(self._look_up, lambda _: KEPT, MOST)
        self._pinned: dict[str, placement_rules.Place] = {}  # by tenants.yaml; all requests get the same object
        self._failures = ReplayFailures()
        self._lookup_limit = LookupLimit()
        self._turns = asyncio.Semaphore(LOOKS)
        self.use(config)

    def use(self, config: Config) -> None:
        """Apply a reloaded configuration."""
        self._config = config
        self._failures.timeout = config.replay.timeout
        self._found.clear()
        self._pinned.clear()

    def forget(self) -> None:
        """Drop all cached lookups, after a sleep."""
        self._found.clear()
        for source in (self._names, self._inventory):
            if source is not None:
                source.forget()

    def known(self, user: str) -> placement_rules.Place | None:
        """Placement without a lookup; None if one is needed, or the user is held here. See edge.fly_replay.Places."""
        if self._owners.held(user) and self._config.serves(user):
            return None
        if self._config.pins:
            pinned = self._pinned.get(user) or self._pinned_place(user)
            if pinned is not None:
                return pinned
        found = self._found.fresh(user)
        if found is None and self._is_unknown(user) and not self._lookup_limit.allows(_now()):
            return placement_rules.CROWDED
        return found

    def _pinned_place(self, user: str) -> placement_rules.Place | None:
        """Return the place that tenants.yaml pins the user to, and remember it."""
        pin = self._config.pin_of(user)
        if pin is None or (pinned := placement_rules.pinned(self._me, pin)) is None:
            return None
        if len(self._pinned) >= MOST:
            self._pinned.clear()
        found = self._pinned[user] = self._checked(user, pinned)
        return found

    async def find(self, user: str) -> placement_rules.Place:
        """Placement of the user, looked up if not cached."""
        if self._owners.held(user) and self._config.serves(user):
            return placement_rules.Here("this machine holds the user")
        known = self.known(user)
        if known is None and self._names is None:
            return self._checked(user, placement_rules.Here("any machine may take the user"))
        return known or await self._found.get(user)

    def sent(self, user: str, to: Target) -> None:
        self._failures.sent(user, to, _now())

    def failed(self, user: str, after: float) -> None:
        if self._failures.failed(user, after, _now()):
            self._found.drop(user)

    def unreachable(self, user: str, to: Target) -> bool:
        return self._failures.unreachable(user, to, _now())

    def learn(self, user: str, place: placement_rules.There) -> None:
        self._found.put(user, place)

    def _is_unknown(self, user: str) -> bool:
        """True for a user who is not in tenants.yaml and was served by no machine at the last lookup."""
        if self._names is None or user in self._config.users:
            return False
        return isinstance(self._found.last(user), placement_rules.Nowhere | None)

    async def _look_up(self, user: str) -> placement_rules.Place:
        if not self._is_unknown(user):
            return await self._looked_up(user)
        self._lookup_limit.enter(_now())
        known = False
        try:
            found = await self._looked_up(user)
            known = not isinstance(found, placement_rules.Nowhere)
        finally:
            self._lookup_limit.exit(known=known)
        return found

    async def _looked_up(self, user: str) -> placement_rules.Place:
        assert self._names is not None
        found = await self._names.machine_of(user)
        place = placement_rules.named(self._me, found)
        if place is None or (isinstance(place, placement_rules.There) and self.unreachable(user, place.target)):
            place = await self._by_record(self._names, user, found)
        return self._checked(user, place)

    def _checked(self, user: str, place: placement_rules.Place) -> placement_rules.Place:
        """Refuse other users on a machine which serves one user only."""
        only = self._config.only
        return place if only in (None, user) else placement_rules.unless_reserved(place, only)

    async def _by_record(self, names: UserLookup, user: str, found: dns_answers.LookupResult) -> placement_rules.Place:
        pin = self._config.pin_of(user)
        try:
            async with self._turns:
                owner = await self._owners.look(user)
        except OwnershipUnknown as error:
            return placement_rules.Nowhere(503, str(error))
        if (gone := placement_rules.removed(owner)) is not None:
            return gone
        last = Last.EXPECTED if owner is None else await self._last(names, user, owner.awaited)
        place = placement_rules.recorded(self._me, owner, last, pin)
        return await self._by_list(user, found, place) if place is None or last is Last.GONE else place

    async def _by_list(
        self, user: str, found: dns_answers.LookupResult, otherwise: placement_rules.Place | None
    ) -> placement_rules.Place:
        """Place a user without a lease record, or whose machine is gone: on a listed machine, on a new one, or as
        ``otherwise``."""
        listed = await self._inventory.machine_of(user) if self._inventory is not None else None
        place = await self._launched(user, listed) if isinstance(listed, dns_answers.Found) else None
        if place is not None:
            return place
        known, provisions = placement_rules.absent(found, listed), self._config.provisions(user)
        if self._making is not None and provisions and isinstance(known, dns_answers.Absent):
            made = self._made(await self._making.machine_for(user))
            on_its_way = not isinstance(made, placement_rules.Nowhere) or made.soon
            return made if on_its_way else otherwise or made
        if otherwise is not None:
            return otherwise
        named = user in self._config.users or (self._config.pin_of(user) is not None and not provisions)
        return placement_rules.unowned(known, invited=named and self._config.serves(user))

    async def _launched(self, user: str, listed: dns_answers.Found) -> placement_rules.Place | None:
        """Placement on the listed machine, started if need be. None: it cannot be reached."""
        if self._making is not None and not listed.launched:
            return self._made(await self._making.launched(user, listed.machine))
        place = placement_rules.at(self._me, listed)
        return None if isinstance(place, placement_rules.There) and self.unreachable(user, place.target) else place

    def _made(self, made: str | NotMade) -> placement_rules.Place:
        if isinstance(made, NotMade):
            return placement_rules.Nowhere(503, made.why, made.soon)
        return placement_rules.at(self._me, dns_answers.Found(made, f"machine {made} was made for the user", _now()))

    def close(self) -> None:
        """Stop waiting for machines under construction; they are left as they are."""
        if self._making is not None:
            self._making.close()

    async def successor_is_gone(self, user: str, successor: Successor) -> bool:
        """True if the machine which the user was released to is gone or unreachable."""
        return self._names is not None and await self._last(self._names, user, successor) is not Last.EXPECTED

    async def _last(self, names: UserLookup, user: str, awaited: Holder | Successor) -> Last:
        last = target(f"{awaited.app}/{awaited.machine}")
        if last is None or last.id is None:
            return Last.EXPECTED
        if await self._is_gone(names, last):
            return Last.GONE
        return Last.DEAD if self.unreachable(user, last) else Last.EXPECTED

    async def _is_gone(self, names: UserLookup, last: Target) -> bool:
        """True if the machine is certainly gone. The DNS is asked first, as it costs less; then the API."""
        assert last.id is not None
        deployed = await names.deployed(last.app, last.id)
        if deployed is not True and self._inventory is not None and last.app == self._me.app:
            known = await self._inventory.deployed(last.id)
            deployed = deployed if known is None else known
        return deployed is False


def _now() -> float:
    return asyncio.get_running_loop().time()


class LookupLimit(TokenBucket):
    """Rate limit for lookups of unknown users. Each costs DNS queries and a read of the store, and any client can
    invent a million names. A user who turns out to be known costs no token: after a restart all known users are
    looked up without delay."""

    def __init__(self) -> None:
        super().__init__(AT_ONCE, A_SECOND, UNDER_WAY)
