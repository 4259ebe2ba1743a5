"""Who serves a user, on Fly: the rungs of ``routing.placement``, and what is known for each."""

from collections.abc import Callable

from flyatc.config.schema import Config
from flyatc.fly.machine import Machine
from flyatc.routing import placement


class Placing:
    """``held``: whether this machine owns a user, or is taking him."""

    def __init__(self, config: Config, me: Machine, held: Callable[[str], bool]) -> None:
        self._me, self._held = me, held
        self.use(config)

    def use(self, config: Config) -> None:
        """At a reload."""
        self._config = config

    def known(self, user: str) -> placement.Place | None:
        """See edge.signpost.Places. Who is owned here is served here, whatever else is said of him."""
        if self._held(user):
            return None
        return placement.pinned(self._me, self._config.pin_of(user))
