"""Look up a user's machine with the Machines API, which lists machines in every state, also stopped ones.

One list of all machines serves every user, so thousands of unknown names cost one request in some seconds. The API
allows one request a second from all machines of the app together."""

import asyncio

from flyatc.fly import dns_answers
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import GONE, ApiError, Machine, NotFound
from flyatc.fly.environment import Machine as Me
from flyatc.fly.machines_by_user import Listing, listing
from flyatc.kit import timing
from flyatc.kit.async_cache import AsyncCache
from flyatc.observe.log import Log

PATIENCE = 5.0  # seconds for which a client waits for the list
HURRIED = 3.0  # seconds for all tries
STALE = 60.0  # seconds; maximum age of a list used when a new one fails
AGAIN, LONGEST = 2.0, 60.0  # seconds to the next request after a failure
KNOWN = 3.0  # seconds for which the existence of a machine is cached
MOST = 1000  # entries of that cache
ALL = "machines"


class MachineList:
    """The app's machines by user. ``key``: of the metadata that names a machine's user."""

    def __init__(self, api: MachinesApi, me: Me, key: str, log: Log) -> None:
        self._api, self._me, self._key, self._log = api, me, key, log
        self._lists: AsyncCache[str, Listing | dns_answers.Unknown] = AsyncCache(lambda _: self._look(), self._keep, 1)
        self._known: AsyncCache[str, bool | None] = AsyncCache(self._ask, lambda _: KNOWN, MOST)
        self._last: Listing | None = None
        self._failures = 0
        self._late = False  # a wait for the list timed out: further requests do not wait
        self._doubled: dict[str, tuple[str, ...]] = {}  # users logged as having several machines

    async def machine_of(self, user: str) -> dns_answers.LookupResult:
        """Return the user's machine. ``Found``: in any state. ``Absent``: the user has none at all. Raises nothing."""
        found, why = await self._listing()
        if found is None:
            return dns_answers.Unknown(why)
        machines = found.users.get(user)
        if machines is None:
            return dns_answers.Absent(f"no machine has {self._key}={user} in its metadata", stale=bool(why))
        chosen = dns_answers.one_of(machines, self._me.id)
        if len(machines) > 1 and self._doubled.get(user) != machines:
            self._doubled[user] = machines
            self._log.event(
                "warning", "several machines have one user by their metadata: let it be one of them",
                user=user, key=self._key, machines=sorted(machines), taken=chosen,
            )  # fmt: skip
        state = found.states[chosen]
        reason = f"machine {chosen} is {state}, and has {self._key}={user} in its metadata"
        return dns_answers.Found(chosen, reason, found.at, stale=bool(why), launched=state != "created")

    def forget(self) -> None:
        """Forget all results, after this machine has slept."""
        self._lists.clear()
        self._known.clear()
        self._last, self._late = None, False

    async def deployed(self, machine: str) -> bool | None:
        """Return whether the machine exists, in any state. None: unknown now."""
        return await self._known.get(machine)

    async def _ask(self, machine: str) -> bool | None:
        """Query the machine itself, since the list may be old or incomplete."""
        try:
            there = (await self._api.get(machine, patience=HURRIED)).state not in GONE
        except NotFound:
            there = False
        except ApiError:
            return None
        if not there and self._last is not None:
            self._last.strike(machine)
        return there

    async def machines(self) -> int | None:
        """Return the number of machines. None: unknown now."""
        found, why = await self._listing()
        return None if found is None or why else len(found.states)

    def add_created(self, machine: Machine) -> None:
        """Add a machine made just now, so that no early new list is needed."""
        if self._last is not None:
            one = listing([machine], self._key, self._last.at)
            self._last.states.update(one.states)
            self._last.users.update(one.users)

    async def _listing(self) -> tuple[Listing | None, str]:
        """Return the newest list, and why it is an old one or None."""
        try:
            async with asyncio.timeout(0.0 if self._late else PATIENCE):
                found = await self._lists.get(ALL)
        except TimeoutError:
            self._late = True
            found = dns_answers.Unknown(f"the Machines API has not listed the machines within {PATIENCE:g} s")
        if isinstance(found, Listing):
            return found, ""
        last = self._last
        return (last if last is not None and _now() - last.at <= STALE else None), found.why

    async def _look(self) -> Listing | dns_answers.Unknown:
        began = _now()
        try:
            machines = await self._api.machines(patience=self._patience())
        except ApiError as error:
            return self._failed(str(error))
        finally:
            self._late = False
        found = await asyncio.to_thread(listing, machines, self._key, began)  # there may be thousands
        if self._me.id not in found.states:  # the API has returned empty and partial lists before: fly.io/infra-log
            return self._failed(f"the Machines API lists {len(found.states)} machines, and not this one")
        if self._failures:
            self._log.event("info", "the Machines API lists the machines again", machines=len(found.states))
        self._failures, self._last = 0, found
        self._doubled = {user: ids for user, ids in self._doubled.items() if found.users.get(user) == ids}
        return found

    def _patience(self) -> float:
        """Return 0, for no retries, while the last list is usable: other machines share the API's limit."""
        return 0.0 if self._last is not None and _now() - self._last.at <= STALE else HURRIED

    def _failed(self, why: str) -> dns_answers.Unknown:
        self._failures += 1
        if self._failures == 1:
            self._log.event(
                "warning", "the Machines API does not list the machines: unknown users have to wait", reason=why
            )
        return dns_answers.Unknown(why)

    def _keep(self, result: Listing | dns_answers.Unknown) -> float:
        if isinstance(result, Listing):
            return result.good_for
        return timing.delay(self._failures, AGAIN, LONGEST)


def _now() -> float:
    return asyncio.get_running_loop().time()
