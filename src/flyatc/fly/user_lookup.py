"""Look up a user's started machine, and existing machines, with the private DNS.

The address is the AAAA of ``<user>.<key>.kv._metadata.<app>.internal``, by the metadata of the machines. The id comes
from PTR, which Fly does not document, or from ``_instances.internal`` TXT, which it does."""

import asyncio

from flyatc.fly import dns_answers
from flyatc.fly.dns_answers import NoRecord, Unanswered
from flyatc.fly.dns_client import Dns
from flyatc.fly.environment import Machine
from flyatc.kit.async_cache import AsyncCache
from flyatc.observe.log import Log

FOUND, ABSENT, UNKNOWN = 10.0, 2.0, 1.0  # seconds for which a result is cached
STALE = 600.0  # seconds; maximum age of a result used when a new query fails
LISTED = 2.0  # seconds for which lists of machines and addresses are cached
MOST = 10_000  # users cached
AT_ONCE = 32  # concurrent queries
SILENT = 600.0  # seconds without PTR queries after one failed


class UserLookup:
    """Users' started machines. ``key``: of the metadata that names a machine's user."""

    def __init__(self, dns: Dns, me: Machine, key: str, log: Log) -> None:
        self._dns, self._me, self._key, self._log = dns, me, key, log
        self._users: AsyncCache[str, dns_answers.LookupResult] = AsyncCache(self._look, _keep, MOST)
        self._lists: AsyncCache[str, list[str]] = AsyncCache(dns.texts, lambda _: LISTED, 16)
        self._pointers: AsyncCache[str, str] = AsyncCache(dns.pointer, lambda _: LISTED, MOST)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._silent_until = 0.0

    async def machine_of(self, user: str) -> dns_answers.LookupResult:
        """Return the user's started machine. ``user``: matches config.schema.USER, a DNS label. Raises nothing."""
        return await self._users.get(user)

    def forget(self) -> None:
        """Forget all results, after this machine has slept."""
        self._users.clear()
        self._lists.clear()
        self._pointers.clear()
        self._dns.forget()

    async def deployed(self, app: str, machine: str) -> bool | None:
        """Return whether the machine exists, in any state. None: unknown now, also if the list lacks this machine."""
        try:
            listed = dns_answers.deployed(await self._lists.get(f"all.vms.{app}.internal"))
        except NoRecord:
            listed = frozenset()
        except Unanswered:
            return None
        return None if app == self._me.app and self._me.id not in listed else machine in listed

    async def _look(self, user: str) -> dns_answers.LookupResult:
        found, before = await self._query(user), self._users.last(user)
        if (
            not isinstance(found, dns_answers.Unknown)
            or not isinstance(before, dns_answers.Found)
            or _now() - before.at > STALE
        ):
            return found
        if not before.stale:
            self._log.event("warning", "DNS lookup failed: the last result is used", user=user, reason=found.why)
        return dns_answers.Found(
            before.machine, f"{found.why}; before, it was machine {before.machine}", before.at, stale=True
        )

    async def _query(self, user: str) -> dns_answers.LookupResult:
        name = f"{user}.{self._key}.kv._metadata.{self._me.app}.internal"
        async with self._turns:
            try:
                return await self._found(user, await self._dns.addresses(name))
            except NoRecord as error:
                return dns_answers.Absent(f"no started machine has the user: {error}")
            except Unanswered as error:
                return dns_answers.Unknown(str(error))

    async def _found(self, user: str, addresses: list[str]) -> dns_answers.LookupResult:
        """Choose the user's machine by its address. Raises Unanswered."""
        machines = {one for address in addresses if (one := await self._id(address)) is not None}
        if not machines:
            return dns_answers.Unknown(
                f"a machine at {addresses[0]} has the user, but its id is in neither PTR nor TXT"
            )
        chosen = dns_answers.one_of(machines, self._me.id)
        if len(machines) > 1:
            self._log.event(
                "warning", "several machines have one user by their metadata: let it be one of them",
                user=user, key=self._key, machines=sorted(machines), taken=chosen,
            )  # fmt: skip
        return dns_answers.Found(chosen, f"machine {chosen} has {self._key}={user} in its metadata", _now())

    async def _id(self, address: str) -> str | None:
        if self._me.address is not None and dns_answers.ip(address) == dns_answers.ip(self._me.address):
            return self._me.id
        return await self._by_pointer(address) or await self._by_list(address)

    async def _by_pointer(self, address: str) -> str | None:
        if _now() < self._silent_until:
            return None
        try:
            return dns_answers.pointer(await self._pointers.get(address), self._me.app)
        except (NoRecord, Unanswered):
            self._silent_until = _now() + SILENT
            return None

    async def _by_list(self, address: str) -> str | None:
        try:
            listed = dns_answers.instances(await self._lists.get("_instances.internal"), self._me.app)
        except NoRecord:
            return None
        found = dns_answers.ip(address)
        return listed.get(found) if found is not None else None


def _keep(result: dns_answers.LookupResult) -> float:
    match result:
        case dns_answers.Found(stale=False):
            return FOUND
        case dns_answers.Absent():
            return ABSENT
    return UNKNOWN


def _now() -> float:
    return asyncio.get_running_loop().time()
