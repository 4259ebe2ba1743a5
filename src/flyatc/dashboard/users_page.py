"""The page of the users: list, add, remove, move, each with its plan before and its progress afterwards.

With one machine for each user (Fly, ``fly.metadata``) a plan is that of ``flyatc users``; else it edits tenants.yaml.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic

from aiohttp import web
from msgspec import Struct

from flyatc.admin import users_of_file, users_plan, users_view
from flyatc.admin.config_edit import DiffLine, difference
from flyatc.admin.users_of_file import FilePlan
from flyatc.admin.users_plan import Seen
from flyatc.admin.users_steps import Destroy, Plan, Stop
from flyatc.admin.users_view import UserRow
from flyatc.config import name_rules
from flyatc.config.errors import ConfigError
from flyatc.dashboard import pages
from flyatc.dashboard.jobs import Work
from flyatc.dashboard.site import Site, to_machine
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress
from flyatc.tenants.state import INACTIVE_STATES, Status

MOST_ROWS = 200  # shown; a search finds the others
FEW = 8  # users; for more a search is offered
MOST_LINES = 200  # of a difference
FRESH = 5.0  # s; the list shows machines as they were: the API takes one request a second
_SEPARATORS = re.compile(r"[\s,;]+")
_NUMBERED = re.compile(r"(\d+)/(\d+) (.*)", re.DOTALL)  # a line that a plan reports: users_apply.PlanRunner


class Row(Struct, frozen=True):
    """A user. ``tenants``: those which run or are configured; ``machines``: on Fly, one row of each."""

    user: str
    tenants: list[Status]
    listed: bool  # in tenants.yaml; others are of its pattern, or of the machines
    pin: str
    machines: list[UserRow]


class Proposal(Struct, frozen=True):
    """A plan as it is shown, before it is carried out. ``risky``: it removes something."""

    title: str
    steps: Sequence[str]
    notes: Sequence[str]
    work: Work
    risky: bool = False
    changes: Sequence[DiffLine] = ()

    @property
    def digest(self) -> str:
        shown = (*self.steps, *self.notes, *(one.kind + one.text for one in self.changes))
        return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def routes(site: Site) -> list[web.RouteDef]:
    page = UsersPage(site)
    return [
        web.get("users", page.show),
        web.post("users/add", page.add),
        web.post("users/remove", page.remove),
        web.post("users/move", page.move),
    ]


class UsersPage:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._seen: tuple[float, Seen] | None = None

    @property
    def _by_machine(self) -> bool:
        """True if each user has a machine of its own."""
        return self._site.machine is not None and self._site.config().fly.metadata is not None

    async def show(self, request: web.Request, why: str = "") -> web.Response:
        """``why``: a change was refused for this reason; its form is filled in again."""
        config, fields = self._site.config(), await pages.form(request) if why else {}
        tenants: dict[str, list[Status]] = {}
        for one in self._site.operations.status().tenants:
            tenants.setdefault(one.user, []).append(one)
        machines, warning = await self._machines()
        wanted = request.query.get("find", "").strip().lower()
        found = [name for name in dict.fromkeys((*tenants, *machines)) if wanted in name]
        rows = [
            Row(
                user=name,
                tenants=tenants.get(name, []),
                listed=name in config.users,
                pin=str(config.pin_of(name) or ""),
                machines=machines.get(name, []),
            )
            for name in found[:MOST_ROWS]
        ]
        return pages.render(
            request, "users.html", 422 if why else 200, rows=rows, more=len(found) - len(rows), find=wanted,
            by_machine=self._by_machine, warning=warning, why=why,
            fields={name: fields.get(name, "") for name in ("user", "tenants", "region")},
            file=config.path, pattern=config.pattern, few=FEW, at_rest=INACTIVE_STATES,
        )  # fmt: skip

    async def _machines(self) -> tuple[dict[str, list[UserRow]], str]:
        """Return the machines by user, and what is not known of them."""
        found: dict[str, list[UserRow]] = {}
        if not self._by_machine:
            return found, ""
        try:
            seen = await self._look(FRESH)
        except FlyatcError as error:
            return found, f"The machines are not known: {error}"
        for row in users_view.users(seen, self._site.config()):
            found.setdefault(row.user, []).append(row)
        return found, f"The owners are not known: {seen.why}" if seen.owners is None else ""

    async def _look(self, age: float = 0.0) -> Seen:
        """Return the machines and their owners, at most ``age`` seconds old. Raises FlyatcError."""
        if self._seen is None or monotonic() - self._seen[0] > age:
            async with users_view.opened(self._site.config(), self._site.environ, None) as directory:
                self._seen = monotonic(), await directory.look()
        return self._seen[1]

    # --- changes ---

    async def add(self, request: web.Request) -> web.Response:
        fields = await pages.form(request)
        user, region = _stripped(fields, "user"), _stripped(fields, "region") or None
        tenants = [name for name in _SEPARATORS.split(_stripped(fields, "tenants")) if name]
        if self._by_machine:
            return await self._on_machines(
                request, user, f"Add {user}", lambda seen: users_plan.add(seen, user, region, None)
            )
        file, config, removed = self._site.config_file, self._site.config(), False
        if name_rules.user(user) is None:
            removed = await users_of_file.is_removed(config, self._site.environ, user)
        return await self._in_file(
            request, f"Add {user}", lambda: users_of_file.add(file, config, user, tenants, region, removed=removed)
        )

    async def remove(self, request: web.Request) -> web.Response:
        user = _stripped(await pages.form(request), "user")
        if self._by_machine:
            return await self._on_machines(request, user, f"Remove {user}", lambda seen: users_plan.remove(seen, user))
        file, config = self._site.config_file, self._site.config()
        return await self._in_file(request, f"Remove {user}", lambda: users_of_file.remove(file, config, user))

    async def move(self, request: web.Request) -> web.Response:
        """Move a user to the machine ``to``, or into ``region``; ``destroy``: and destroy the one that it leaves."""
        fields = await pages.form(request)
        user, to, region = (_stripped(fields, name) for name in ("user", "to", "region"))
        if not self._by_machine:
            return await self.show(request, "One machine serves all users here: there is nowhere to move one.")
        if bool(to) == bool(region):
            return await self.show(request, "Say either the region or the machine to move to.")
        pin, destroy = self._site.config().pin_of(user), fields.get("destroy") == "yes"
        return await self._on_machines(
            request, user, f"Move {user} to {to or region}",
            lambda seen: users_plan.move(seen, user, to=to or None, region=region or None, pin=pin, destroy=destroy),
        )  # fmt: skip

    async def _in_file(self, request: web.Request, title: str, make: Callable[[], FilePlan]) -> web.Response:
        site = self._site
        try:
            plan = await asyncio.to_thread(make)
        except ConfigError as error:
            return await self.show(request, f"{site.config().path} would have faults, and nothing was done: {error}")
        except FlyatcError as error:
            return await self.show(request, str(error))

        async def work(progress: Progress) -> str:
            return await users_of_file.carry_out(
                plan, site.config_file, site.config(), site.environ, site.operations, progress
            )

        changes = list(islice(difference(plan.old, plan.new), MOST_LINES + 1))
        return await self._propose(request, Proposal(title, plan.steps, plan.notes, work, plan.removes, changes))

    async def _on_machines(
        self, request: web.Request, user: str, title: str, make: Callable[[Seen], Plan]
    ) -> web.Response:
        site, config = self._site, self._site.config()
        try:
            if (fault := name_rules.user(user)) is not None:
                raise FlyatcError(fault)
            seen = await self._look()
            plan = make(seen)
        except FlyatcError as error:
            return await self.show(request, str(error))
        if (other := self._better_machine(request, seen, plan)) is not None:
            return other
        notes = [*plan.notes, *([f"the owners are not known: {seen.why}"] if seen.owners is None else [])]
        if user not in config.users and not config.is_of_pattern(user):
            notes.append(f"{config.path} has no entry for {user}: its machine answers 404 until one is deployed")

        async def work(progress: Progress) -> str:
            try:
                async with users_view.opened(site.config(), site.environ, None) as directory:
                    await directory.carry_out(plan, _reporter(progress))
            finally:
                self._seen = None
            return "; ".join(("done", *plan.notes))

        risky = any(isinstance(step, Destroy) for step in plan.steps)
        steps = [str(step) for step in plan.steps]
        return await self._propose(request, Proposal(title, steps, notes, work, risky))

    def _better_machine(self, request: web.Request, seen: Seen, plan: Plan) -> web.Response | None:
        """Have another machine carry out a plan that stops this one."""
        stopped = {step.machine for step in plan.steps if isinstance(step, Stop | Destroy)}
        here = self._site.machine
        if here is None or here.id not in stopped:
            return None
        others = [one for one in seen.machines if one.id not in stopped and one.id != here.id]
        if not others:
            raise FlyatcError("this is the only machine: it cannot stop itself. Add another user first")
        best = min(others, key=lambda one: one.state != "started")
        if (response := to_machine(self._site, request, best.id)) is None:
            raise FlyatcError(f"this machine cannot stop itself: open the dashboard at another one, such as {best.id}")
        return response

    async def _propose(self, request: web.Request, proposal: Proposal) -> web.Response:
        """Show the plan; begin it if it is the one that was shown and confirmed."""
        fields, site = await pages.form(request), self._site
        confirmed = fields.pop("confirmed", None)
        fields.pop("csrf", None)
        if confirmed == proposal.digest and proposal.steps:
            site.audit(request, proposal.title[:1].lower() + proposal.title[1:], steps=len(proposal.steps))
            job = site.jobs.start(proposal.title, site.url("users"), proposal.work, unit="steps")
            return pages.redirect(request, site.url(f"jobs/{job.id}"))
        return pages.render(
            request, "users_plan.html", plan=proposal, fields=fields, changed=confirmed is not None,
            action=site.url(request.path[1:]), most_lines=MOST_LINES,
        )  # fmt: skip


def _stripped(fields: dict[str, str], name: str) -> str:
    return fields.get(name, "").strip()


def _reporter(progress: Progress) -> Callable[[str], None]:
    """Return what passes the lines of a plan under way on: steps with their numbers, and remarks on them."""
    done, total = 0, 0

    def report(text: str) -> None:
        nonlocal done, total
        if (found := _NUMBERED.fullmatch(text)) is not None:
            done, total, text = int(found[1]) - 1, int(found[2]), found[3]
        progress(text.strip(), done, total)

    return report
