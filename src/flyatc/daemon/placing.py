"""Who serves a user, on Fly: the rungs of ``routing.placement``, and what is looked up for each."""

import asyncio

from flyatc.config.schema import Config
from flyatc.daemon.owning import Owning
from flyatc.fly import told
from flyatc.fly.machine import Machine
from flyatc.fly.names import Names
from flyatc.kit.errors import OwnershipUnknown
from flyatc.kit.recall import Recall
from flyatc.routing import placement
from flyatc.routing.replay import target

KEPT = 2.0  # seconds; as long as a tenant believes that another machine serves it
MOST = 10_000  # users remembered
LOOKS = 2  # records read at once: whoever is about to own a user needs the store as well


class Placing:
    """``names``: None where the metadata of machines says nothing of users."""

    def __init__(self, config: Config, me: Machine, owning: Owning, names: Names | None) -> None:
        self._me, self._owning, self._names = me, owning, names
        self._found: Recall[str, placement.Place] = Recall(self._look_up, lambda _: KEPT, MOST)
        self._turns = asyncio.Semaphore(LOOKS)
        self.use(config)

    def use(self, config: Config) -> None:
        """At a reload."""
        self._config = config
        self._found.forget()

    def known(self, user: str) -> placement.Place | None:
        """See edge.signpost.Places. Who is owned here is served here, whatever else is said of him."""
        if self._owning.held(user):
            return None
        return placement.pinned(self._me, self._config.pin_of(user)) or self._found.fresh(user)

    async def find(self, user: str) -> placement.Place:
        if self._owning.held(user):
            return placement.Here("this machine owns him")
        if self._names is None:
            return placement.pinned(self._me, self._config.pin_of(user)) or placement.Here(
                "whoever is asked may have him"
            )
        return self.known(user) or await self._found.get(user)

    async def _look_up(self, user: str) -> placement.Place:
        assert self._names is not None
        found = await self._names.machine_of(user)
        return placement.named(self._me, found) or await self._by_record(self._names, user, found)

    async def _by_record(self, names: Names, user: str, found: told.Told) -> placement.Place:
        pin = self._config.pin_of(user)
        try:
            async with self._turns:
                owner = await self._owning.look(user)
        except OwnershipUnknown as error:
            return placement.Nowhere(503, str(error))
        last = target(f"{owner.holder.app}/{owner.holder.machine}") if owner is not None else None
        there = await names.deployed(last.app, last.id) if last is not None and last.id is not None else None
        invited = user in self._config.users or pin is not None
        return placement.recorded(self._me, owner, there, pin) or placement.unowned(found, invited=invited)
