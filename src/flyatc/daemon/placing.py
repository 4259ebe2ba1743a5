"""Who serves a user, on Fly: the rungs of ``routing.placement``, and what is looked up for each."""

import asyncio
from typing import Protocol

from flyatc.config.schema import Config
from flyatc.fly import told
from flyatc.fly.machine import Machine
from flyatc.fly.names import Names
from flyatc.kit.errors import OwnershipUnknown
from flyatc.kit.recall import Recall
from flyatc.ownership.record import Owner
from flyatc.routing import placement
from flyatc.routing.placement import Last
from flyatc.routing.replay import Target, target
from flyatc.routing.tries import Tries

KEPT = 2.0  # seconds; as long as a tenant believes that another machine serves it
MOST = 10_000  # users remembered
LOOKS = 2  # records read at once: whoever is about to own a user needs the store as well


class Owners(Protocol):
    """See daemon.owning."""

    def held(self, user: str) -> bool: ...

    async def look(self, user: str) -> Owner | None: ...


class Placing:
    """``names``: None where the metadata of machines says nothing of users."""

    def __init__(self, config: Config, me: Machine, owners: Owners, names: Names | None) -> None:
        self._me, self._owners, self._names = me, owners, names
        self._found: Recall[str, placement.Place] = Recall(self._look_up, lambda _: KEPT, MOST)
        self._tries = Tries()
        self._turns = asyncio.Semaphore(LOOKS)
        self.use(config)

    def use(self, config: Config) -> None:
        """At a reload."""
        self._config = config
        self._found.forget()

    def known(self, user: str) -> placement.Place | None:
        """See edge.signpost.Places. Who is owned here is served here, whatever else is said of him."""
        if self._owners.held(user) and self._config.serves(user):
            return None
        pinned = placement.pinned(self._me, self._config.pin_of(user))
        return self._checked(user, pinned) if pinned is not None else self._found.fresh(user)

    async def find(self, user: str) -> placement.Place:
        if self._owners.held(user) and self._config.serves(user):
            return placement.Here("this machine owns him")
        known = self.known(user)
        if known is None and self._names is None:
            return self._checked(user, placement.Here("whoever is asked may have him"))
        return known or await self._found.get(user)

    def sent(self, user: str, to: Target) -> None:
        self._tries.sent(user, to, _now())

    def failed(self, user: str, to: Target) -> None:
        self._tries.failed(user, to, _now())

    async def _look_up(self, user: str) -> placement.Place:
        assert self._names is not None
        found = await self._names.machine_of(user)
        named = placement.named(self._me, found)
        return self._checked(user, named or await self._by_record(self._names, user, found))

    def _checked(self, user: str, place: placement.Place) -> placement.Place:
        """A machine which is one user's serves no other."""
        only = self._config.only
        return place if only in (None, user) else placement.unless_strange(place, only)

    async def _by_record(self, names: Names, user: str, found: told.Told) -> placement.Place:
        pin = self._config.pin_of(user)
        try:
            async with self._turns:
                owner = await self._owners.look(user)
        except OwnershipUnknown as error:
            return placement.Nowhere(503, str(error))
        last = Last.EXPECTED if owner is None else await self._last(names, user, owner)
        invited = self._config.serves(user) and (user in self._config.users or pin is not None)
        return placement.recorded(self._me, owner, last, pin) or placement.unowned(found, invited=invited)

    async def _last(self, names: Names, user: str, owner: Owner) -> Last:
        last = target(f"{owner.holder.app}/{owner.holder.machine}")
        if last is None or last.id is None:
            return Last.EXPECTED
        if await names.deployed(last.app, last.id) is False:
            return Last.GONE
        vain = self._tries.vain(user, last, _now()) and await names.started(last.app, last.id) is False
        return Last.DEAD if vain else Last.EXPECTED


def _now() -> float:
    return asyncio.get_running_loop().time()
