"""Add and remove a user where one machine serves all: the entry in tenants.yaml, the tenants, the lease. On Fly see
``users_plan``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from flyatc.admin import config_edit, store_access
from flyatc.admin.config_file import ConfigFile
from flyatc.config import reload
from flyatc.config.schema import Config, prefix_of
from flyatc.control.types import Operations
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress
from flyatc.ownership import acquire, operator_commands
from flyatc.ownership.record import State
from flyatc.ownership.rules import Terms
from flyatc.tenants.errors import NoSuchTenant

RELOAD = "reload, which disturbs no other tenant"
MOST_NAMED = 5  # tenants


class FilePlan(Struct, frozen=True):
    """``steps``: sentences, in order; ``old``, ``new``: the texts of the file; ``based_on``: fingerprint of ``old``."""

    user: str
    removes: bool
    restores: bool  # the lease record says that the user is removed
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    based_on: str
    old: str
    new: str


async def is_removed(config: Config, environ: Mapping[str, str], user: str) -> bool:
    """Return whether the lease record says that no machine may serve the user. False: unknown, too."""
    if config.storage.mode == "none":
        return False
    try:
        async with store_access.opened(config, environ, hurried=store_access.PATIENCE) as store:
            found = await acquire.look(store, user)
    except FlyatcError:
        return False
    return found is not None and found[0].state is State.REMOVED


def add(
    file: ConfigFile, running: Config, user: str, tenants: Sequence[str], region: str | None, *, removed: bool
) -> FilePlan:
    """Plan a new user. ``running``: the daemon's configuration; ``removed``: see ``is_removed``. Blocking. Raises
    ConfigError with the faults that the file would have, FlyatcError."""
    old, based_on = _present(file)
    new = config_edit.add_user(old, file.path.name, user, tenants, region)
    config = file.check(new)
    steps = (
        *([f"put on record that {user} is served again, with all of its data"] if removed else []),
        f"write {user} into {file.path}",
        RELOAD,
    )
    addresses = [prefix_of(config.server, user, name) for name in tenants or [""]]
    notes = [f"it is served at {', '.join(addresses)}", *_others(running, config, user)]
    if running.is_of_pattern(user):
        notes.append("so far it is served by the entry of '*': from then on it has the tenants that are listed")
    return FilePlan(user, False, removed, steps, tuple(notes), based_on, old, new)


def remove(file: ConfigFile, running: Config, user: str) -> FilePlan:
    """Plan the end of a user. Blocking. Raises as ``add``."""
    old, based_on = _present(file)
    new = config_edit.remove_user(old, file.path.name, user)
    config = file.check(new)
    steps = (
        f"have {user} released: its requests wait, its apps end, all is saved",
        f"take {user} out of {file.path}",
        RELOAD,
    )
    notes = [f"its data stay: {_places(config, user)}", *_others(running, config, user)]
    if config.is_of_pattern(user):
        notes.append(f"{user} matches the pattern of '*', and is served by that entry from then on")
    return FilePlan(user, True, False, steps, tuple(notes), based_on, old, new)


def _others(running: Config, new: Config, user: str) -> list[str]:
    """Return a sentence on what the reload changes besides the user: the file was edited since the daemon read it."""
    found = reload.changes(running, new)
    tenants = [one for one in (*found.added, *found.changed, *found.removed) if one.partition("/")[0] != user]
    names = [*tenants[:MOST_NAMED], *([f"{len(tenants) - MOST_NAMED} more tenants"] if tenants[MOST_NAMED:] else [])]
    if not names and not found.restart:
        return []
    return [f"the file has other changes, which the daemon reads too: {', '.join((*names, *found.restart))}"]


def _present(file: ConfigFile) -> tuple[str, str]:
    present = file.read()
    if not present.text:
        raise FlyatcError(present.why or f"{file.path} is empty")
    return present.text, present.fingerprint


def _places(config: Config, user: str) -> str:
    here = Path(config.server.data, "tenants", user)
    return f"in {here}" + (f", and in {config.storage.url}/users/{user}" if config.storage.mode != "none" else "")


async def carry_out(
    plan: FilePlan,
    file: ConfigFile,
    config: Config,
    environ: Mapping[str, str],
    operations: Operations,
    report: Progress,
) -> str:
    """Return the result as a sentence. Raises Changed, FlyatcError; then the file is as it was, and nothing is lost."""
    total = len(plan.steps)
    report(plan.steps[0], 0, total)
    if plan.removes:
        await _release(plan.user, config, operations)
    elif plan.restores:
        await _undo_removal(plan.user, config, environ)
    report(plan.steps[-2], total - 2, total)
    await file.save(plan.new, plan.based_on, operations.reload)
    return f"{plan.user} is {'removed' if plan.removes else 'added'}; {'; '.join(plan.notes)}"


async def _release(user: str, config: Config, operations: Operations) -> None:
    try:
        if config.storage.mode == "none":
            await operations.stop(user)
        else:
            await operations.release(user, None)
    except NoSuchTenant:  # the file was edited since the daemon read it
        return


async def _undo_removal(user: str, config: Config, environ: Mapping[str, str]) -> None:
    async with store_access.opened(config, environ, hurried=store_access.PATIENCE) as store:
        await operator_commands.add(store, user, Terms.of(config.storage.session_ttl))
