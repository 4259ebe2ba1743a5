"""Commands of operators for a tenant (``flyatc exec``): beside its app, or in a trial while its app is stopped."""

import asyncio
from collections.abc import Callable

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.control.execute import Command, Ended
from flyatc.daemon import rehearsal
from flyatc.daemon.wiring import Parts
from flyatc.databases import trial
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, HeldElsewhere, RestoreRefused, SaveFailed, StillRunning
from flyatc.kit.streams import Streams
from flyatc.kit.types import Exit, silent
from flyatc.ownership.lease import Lease
from flyatc.process import child, launch_plan
from flyatc.routing import placement_rules
from flyatc.tenants.errors import Elsewhere
from flyatc.tenants.interfaces import Child

CUT = "the command was ended with the run of the tenant: it was stopped, its app ended, or this machine lost the user"
LOST = "this machine may not write the user's databases any more"
UNDONE = "what it changed is undone: the databases are as they were"
LATER = "what it changed will be undone before the next use of the databases"
KEPT = "its changes are on this machine only; they are saved unless another machine takes the user"


class Call:
    """A command of an operator. ``signals``: for it; ``begun``: called when it runs."""

    def __init__(
        self, command: Command, streams: Streams, signals: "asyncio.Queue[int]", begun: Callable[[], None]
    ) -> None:
        self.command, self.streams, self._signals, self._begun = command, streams, signals, begun

    async def relay(self, running: Child) -> None:
        """Pass signals on to the command; never ends."""
        self._begun()
        while True:
            running.signal(await self._signals.get())

    def tenant(self, tenant: Tenant) -> Tenant:
        """Return the tenant with the command in place of its app's. Its words are taken as they are."""
        env = {name: launch_plan.literal(text) for name, text in self.command.env.items()} | tenant.app.env
        words = [launch_plan.literal(word) for word in self.command.words]
        return structs.replace(tenant, app=structs.replace(tenant.app, command=words, env=env, verify_port=False))


class Execution:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def execute(
        self, command: Command, streams: Streams, signals: "asyncio.Queue[int]", begun: Callable[[], None]
    ) -> Ended:
        """Run a command with the environment and the isolation of the tenant's app. Raises FlyatcError."""
        if not command.words:
            raise FlyatcError("there is no command to run")
        tenant = self._parts.fleet.one(command.address).spec
        call = Call(command, streams, signals, begun)
        self._parts.log.event("info", "a command begins", tenant=tenant.address, program=command.words[0])
        try:
            if command.rehearse:
                ended = _ended(await rehearsal.rehearse(self._parts, tenant, call.tenant, streams, call.relay), None)
            elif command.run is None:
                ended = await self._beside(tenant, call)
            else:
                ended = await self._alone(tenant, call, command.run)
        except (Elsewhere, HeldElsewhere) as error:
            machine = (error.owner if isinstance(error, Elsewhere) else error.machine) or "another machine"
            ended = _elsewhere(tenant, machine, error.reason)
        except OSError as error:
            raise FlyatcError(f"{error}: look at the space and the permissions of server.data") from error
        fields = {name: value for name, value in structs.asdict(ended).items() if value}
        self._parts.log.event("info", "a command has ended", tenant=tenant.address, **fields)
        return ended

    async def _refuse_elsewhere(self, tenant: Tenant) -> None:
        """Raise HeldElsewhere if the user belongs to another machine."""
        user_placement = self._parts.user_placement
        place = await user_placement.find(tenant.user) if user_placement is not None else None
        if isinstance(place, placement_rules.There):
            raise HeldElsewhere(str(place.target), place.explanation)

    # --- beside the app ---

    async def _beside(self, spec: Tenant, call: Call) -> Ended:
        """A running app runs on; without one, the databases are restored and saved as for an app. What the command has
        changed is saved at its end."""
        await self._refuse_elsewhere(spec)
        run = await self._parts.fleet.one(spec.address).attached()
        error: str | None = None
        try:
            end, cut = await run.commands.execute(call.tenant(run.spec), call.streams, call.relay)
            if cut or run.databases is None:
                error = CUT
            else:
                await run.databases.save(silent)
        except SaveFailed as failure:
            error = f"what the command has changed is not saved yet: {failure}"
        finally:
            run.commands.exit()
        return _ended(end, error)

    # --- while the app is stopped ---

    async def _alone(self, tenant: Tenant, call: Call, run: str) -> Ended:
        """Stop the app and hold its requests; save; run the command; keep what it has changed if it succeeds, else undo
        it; start the app again. ``run`` makes sure that it succeeds only once."""
        await self._refuse_elsewhere(tenant)
        if call.command.undo and self._parts.store is None:
            raise FlyatcError("storage.mode is none: no version can be brought back. --no-rollback goes without")
        async with self._parts.fleet.paused(tenant.address), self._parts.leases.hold(tenant) as lease:
            try:
                return await self._try(tenant, call, lease, run)
            finally:  # what is cached was made of other data
                if self._parts.cache is not None:
                    self._parts.cache.clear(tenant.address)

    async def _try(self, tenant: Tenant, call: Call, lease: Lease, run: str) -> Ended:
        parts, note = self._parts, await asyncio.to_thread(trial.read, tenant)
        await child.settle(tenant.address, parts.log, parts.records, parts.launcher)
        await parts.secrets.load(tenant)
        async with parts.databases.hold(tenant, lease):
            pass  # from now on the store has all, and what a killed trial has left is undone
        if note is not None and note.done and note.run == run:
            return Ended(code=0, before=True)
        try:
            end = await self._in_trial(tenant, call, lease, run)
        except StillRunning as error:
            raise FlyatcError(f"{error}. {LATER}") from error
        except BaseException:
            await tasks.to_the_end(tasks.start(self._settle(tenant, lease), f"end of a command of {tenant.address}"))
            raise
        unsettled = await tasks.to_the_end(tasks.start(self._settle(tenant, lease), "end of a command"))
        if unsettled == LATER and _succeeded(end):
            unsettled = KEPT if await asyncio.to_thread(_committed, tenant) else LATER
        lost = LOST if lease.ended.is_set() else None
        undone = UNDONE if call.command.undo and not _succeeded(end) and unsettled is None else None
        return _ended(end, ". ".join(filter(None, (lost, undone, unsettled))) or None)

    async def _in_trial(self, tenant: Tenant, call: Call, lease: Lease, run: str) -> Exit | None:
        """Run the command between its note and the commit, while nothing else has the databases."""
        parts = self._parts
        with parts.databases.held.exclusively(tenant):
            await parts.databases.mark_in_use(tenant)
            await asyncio.to_thread(trial.write, tenant, trial.Note(run=run, keep=not call.command.undo))
            hold = parts.command(call.tenant(tenant), lambda: lease.ended.is_set() or parts.fleet.hurried, call.streams)
            async with hold as running:
                await tasks.first_of(running.exited.wait(), lease.ended.wait(), call.relay(running))
                end = running.exit
            if _succeeded(end) and not lease.ended.is_set():
                commit = asyncio.to_thread(trial.write, tenant, trial.Note(run=run, done=True))
                await tasks.to_the_end(tasks.start(commit, f"commit of {tenant.address}"))
        return end if end is not None else running.exit

    async def _settle(self, tenant: Tenant, lease: Lease) -> str | None:
        """Save what is committed, undo what is not. Return what is left to do, a sentence; None: nothing."""
        if lease.ended.is_set():
            return LATER
        try:
            async with self._parts.databases.hold(tenant, lease):
                return None
        except SaveFailed as error:
            self._parts.fleet.one(tenant.address).mark_unsaved(str(error))
            return f"what it changed is not saved yet: {error}"
        except (RestoreRefused, StillRunning) as error:
            return f"{LATER}: {error}"


def _succeeded(end: Exit | None) -> bool:
    return end is not None and end.code == 0


def _committed(tenant: Tenant) -> bool:
    note = trial.read(tenant)
    return note is not None and note.done


def _ended(end: Exit | None, error: str | None) -> Ended:
    return Ended(code=None if end is None else end.code, signal=None if end is None else end.signal, error=error)


def _elsewhere(tenant: Tenant, machine: str, why: str) -> Ended:
    text = (
        f"{tenant.user} belongs to {machine}: type this command there. Or type flyatc release {tenant.user} there; "
        f"then this machine can take it. {why}"
    )
    return Ended(error=text, machine=machine)
