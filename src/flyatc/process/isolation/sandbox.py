"""Sandbox of the apps of one daemon: how each is separated from the others, and the folders and words for that."""

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flyatc.config.schema import App, Config, Tenant
from flyatc.kit import durable_files
from flyatc.kit.errors import StartFailed
from flyatc.observe.log import Log
from flyatc.process.isolation import limits, reach, refusals, rules, user_ids
from flyatc.process.launch_plan import Launch

SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108 - not closed by strict only
TEMPORARY = "tmp"  # in server.data: one folder for each tenant, emptied at the end of its run


def apps(config: Config) -> Iterator[App]:
    """Yield the app of each tenant and of those of '*'."""
    yield from (tenant.app for tenant in config.tenants.values())
    if config.pattern is not None:
        yield from (app for _, app in config.pattern.tenants)


@dataclass(frozen=True)
class Confined:
    """A launch plan with its confinement. ``text``: for ``flyatc status``."""

    launch: Launch
    text: str
    user: int | None = None
    advice: str | None = None  # if the app is refused something; None: it is not confined


class Sandbox:
    """``private``: absolute paths that no app may read: the data of all, the store, the configuration. ``first_id``: of
    the tenants' user ids."""

    def __init__(self, data: Path, private: Iterable[str], machine: rules.Machine, first_id: int, log: Log) -> None:
        self._data, self._private, self.machine, self._log = data, list(private), machine, log
        self._ids = user_ids.UserIds(data, first_id)
        self._lock = threading.Lock()
        self._logged: set[str] = set()
        self._hindered: dict[Path, str] = {}  # why the app with this data folder has no user id; "": it has

    def lacking(self, config: Config) -> list[str]:
        """Return what is not separated on this machine, a sentence each."""
        return rules.lacking({app.isolation for app in apps(config)}, self.machine)

    def log_lacking(self, config: Config) -> None:
        """Say once, at the start, what is not separated, if there is something beside ``rules.ALWAYS``."""
        if lacking := self.lacking(config):
            self._log.event("warning", "the apps are not fully separated", lacking=lacking)

    async def confine(self, tenant: Tenant, launch: Launch, cgroup: str, *, alone: bool = True) -> Confined:
        """Prepare the tenant's folders, and return the plan with its confinement. ``alone``: no process of the tenant
        runs; else its folders are prepared already, and it could exchange their content meanwhile. Raises
        StartFailed."""
        try:
            return await asyncio.to_thread(self._confine, tenant, launch, cgroup, alone)
        except (OSError, ValueError) as error:
            raise StartFailed(
                f"{tenant.address} cannot be separated from the other apps: {error}. See app.isolation"
            ) from error

    def _confine(self, tenant: Tenant, launch: Launch, cgroup: str, alone: bool) -> Confined:
        app = tenant.app
        words, limited = limits.limit(cgroup, app.memory, app.cpu, int(launch.env.get("PORT", "0")))
        decision = self._decide(tenant, launch)
        if not decision.confined:
            return Confined(replace(launch, confinement=tuple(words)), ", ".join(filter(None, ("none", limited))))
        user = None
        temporary = self._temporary(tenant)
        durable_files.make_folder(temporary)
        if decision.user_ids:
            user = self._give_to_user(tenant, temporary, alone)
            words.append(f"user={user}")
        if decision.landlock:
            words += self._landlock(tenant, temporary, decision)
        # gunicorn has a socket in the runtime folder, or else below $HOME, where nothing can be written
        own = dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR"), str(temporary))
        if user is not None:
            own["HOME"] = str(temporary)  # that of root cannot be entered
        env = launch.env | {name: folder for name, folder in own.items() if app.env.get(name) is None}
        text = rules.describe(decision, user, self.machine.abi)
        closed = (
            [one for one in SHARED if any(_within(path, {one}) for path in self._hidden())] if decision.landlock else ()
        )
        advice = refusals.advice(tenant, text, closed)
        launch = replace(launch, env=env, confinement=tuple(words))
        return Confined(launch, ", ".join(filter(None, (text, limited))), user, advice)

    def _decide(self, tenant: Tenant, launch: Launch) -> rules.Decision:
        app, hindrance = tenant.app, ""
        if not self.machine.no_user_ids and app.isolation in ("auto", "user", "strict"):
            hindrance = reach.hindrance(launch.directory, launch.argv, launch.env.get("PATH"), app.writable, self._data)
        of_app = "PORT" in launch.env
        if not of_app:  # a command of an operator: what the app has written as root, another user id could not open
            hindrance = hindrance or self._hindered.get(tenant.data, "")
        decision = rules.decide(app.isolation, self.machine, hindrance)
        if decision.refusal:
            raise StartFailed(f"{tenant.address} is not started: {decision.refusal}")
        if of_app:
            self._hindered[tenant.data] = hindrance
        if hindrance and hindrance not in self._logged:
            self._logged.add(hindrance)
            self._log.event("warning", "no user id of its own", tenant=tenant.address, reason=hindrance)
        return decision

    def _give_to_user(self, tenant: Tenant, temporary: Path, alone: bool) -> int:
        with self._lock:
            number = self._ids.of(tenant.address)
        if not alone:
            return number
        user_ids.own(
            tenant.data, number, self._data, [tenant.data / name for name in (*tenant.app.databases, *tenant.app.files)]
        )
        user_ids.make_reachable(temporary.parent)
        user_ids.make_private(temporary, number)
        return number

    def _landlock(self, tenant: Tenant, temporary: Path, decision: rules.Decision) -> list[str]:
        """Return the words of the rule set. A right on a folder holds for all below it: what lies in a directory that
        may be written as a whole cannot be hidden."""
        hidden = self._hidden()
        directory = os.path.realpath(tenant.app.directory)
        writable = [str(tenant.data), str(temporary), *(str(Path(directory, name)) for name in tenant.app.writable)]
        writable += SHARED if decision.shared_temp else ()
        if decision.own_directory:
            writable.append(directory)
            hidden = {path for path in hidden if not _within(path, {directory})}
        resolved = dict.fromkeys(os.path.realpath(path) for path in writable)
        own = {os.path.realpath(tenant.data), os.path.realpath(temporary)}
        return [
            f"landlock={self.machine.abi}",
            *(f"hide={path}" for path in sorted(hidden)),
            *(() if decision.own_directory else (f"keep={directory}",)),
            f"list={directory}",
            *(f"write={path}" for path in resolved if path in own or not _within(path, hidden)),
        ]

    def _hidden(self) -> set[str]:
        return {os.path.realpath(path) for path in self._private}

    def _temporary(self, tenant: Tenant) -> Path:
        return Path(os.path.realpath(self._data), TEMPORARY, "~".join(tenant.data.parts[-2:]))

    async def clean(self, tenant: Tenant) -> None:
        """Empty the tenant's temporary folder; no process of it is left."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, self._temporary(tenant))


def _within(path: str, hidden: Iterable[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in hidden)
