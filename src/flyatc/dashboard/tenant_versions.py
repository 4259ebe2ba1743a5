"""The versions of a tenant's databases on a time line: restore one, or download a copy."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from time import time

from aiohttp import web

from flyatc.admin import store_access
from flyatc.admin.store_access import Orphan
from flyatc.control.api import KIND_OF_COPY
from flyatc.control.http_server import send_file
from flyatc.control.types import History, Version
from flyatc.dashboard import pages
from flyatc.dashboard.site import Site, elsewhere
from flyatc.dashboard.tenant_page import ago
from flyatc.databases.decisions.version_choice import Choice, Moment, OrphanChoice
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress, silent

STORE_SECONDS = 20.0  # for the history
MOST_SHOWN = 200  # versions of a database
COPY_SECONDS = 3600.0  # to make and to send a copy
_SNAPSHOT = re.compile(r"\d+-\d+")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_FUTURE = 60.0  # s; the clock of the operator may be ahead


@dataclass(frozen=True)
class Day:
    """The versions of a day in UTC, newest first."""

    date: str
    versions: list[Version]


@dataclass(frozen=True)
class Line:
    """The time line of a database, or of a folder of files. ``more``: how many older versions are left out."""

    database: str
    days: list[Day]
    more: int

    @property
    def is_folder(self) -> bool:
        return self.database.endswith("/")


def lines(versions: Iterable[Version], databases: Iterable[str]) -> list[Line]:
    """Arrange what is newest first, database by database. ``databases``: all, also without versions."""
    found: dict[str, list[Version]] = {name: [] for name in databases}
    for one in versions:
        found.setdefault(one.database, []).append(one)
    return [
        Line(name, [Day(date, list(of)) for date, of in groupby(kept[:MOST_SHOWN], lambda one: one.saved[:10])],
             max(0, len(kept) - MOST_SHOWN))
        for name, kept in found.items()
    ]  # fmt: skip


def is_snapshot(version: Version) -> bool:
    """Return whether it is one state; else it is a stream, of which any time up to ``saved`` can be restored."""
    return _SNAPSHOT.fullmatch(version.id) is not None


def fields_of(address: str, version: Version) -> dict[str, str]:
    """Return the fields of a form that is about a version. Of a stream it is the last state."""
    which = {"version": version.id} if is_snapshot(version) else {"when": version.saved}
    return {"address": address, "database": version.database, **which}


def choice_of(fields: Mapping[str, str], now: float) -> Choice:
    """Return the version that a form is about: ``version``, ``when`` (a time in UTC) or ``orphan``; none of them: the
    newest. Raises FlyatcError."""
    if fields.get("version"):
        return fields["version"]
    if fields.get("orphan"):
        return OrphanChoice(fields["orphan"])
    when = fields.get("when", "").strip()
    if not when:
        return None
    try:
        moment = datetime.fromisoformat(when)
    except ValueError as error:
        raise FlyatcError(f"{when[:40]!r} is not a time: write 2026-11-30 14:30 (UTC)") from error
    at = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if at > now + _FUTURE:
        raise FlyatcError(f"{when[:40]} is in the future: it is {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC")
    return Moment(at)


def named(choice: Choice) -> str:
    match choice:
        case None:
            return "the newest version in the store"
        case Moment():
            return f"the newest of {datetime.fromtimestamp(choice.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        case OrphanChoice():
            return f"what was set aside as {choice.name}"
    return f"version {choice}"


def file_name(address: str, database: str, choice: Choice, now: float) -> str:
    """Return the name of a downloaded copy: ``ann-one-app-000001-000000042.sqlite3``."""
    path = Path(database)
    match choice:
        case str():
            mark = choice
        case OrphanChoice():
            mark = choice.name
        case _:
            moment = now if choice is None else choice.at
            mark = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")
    return _UNFIT.sub("-", f"{address}-{path.stem}-{mark}")[:150] + (_UNFIT.sub("", path.suffix)[:20] or ".sqlite3")


class VersionsPage:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def page(self, request: web.Request) -> web.StreamResponse:
        site, address = self._site, request.query.get("address", "")
        if (away := await elsewhere(site, request, address)) is not None:
            return away
        details, missing = site.operations.tenant(address), ""
        history, orphans = History(versions=[]), list[Orphan]()
        try:
            async with asyncio.timeout(STORE_SECONDS):
                orphans = await store_access.orphans_in(site.config(), site.store, details.status.tenant)
                if site.store is not None:
                    history = await site.operations.history(address, None)
        except TimeoutError:
            missing = f"The store has not answered within {STORE_SECONDS:g} s."
        except (FlyatcError, OSError) as error:
            missing = str(error)
        now, names = time(), [one.name for one in details.databases]
        found = lines(history.versions, [*names, *(f"{name}/" for name in details.files)])
        return pages.render(
            request, "tenant_versions.html", address=details.status.tenant, page="tenant/versions", missing=missing,
            saves=site.store is not None, notes=history.notes, lines=found, orphans=list(reversed(orphans)),
            is_snapshot=is_snapshot, fields_of=fields_of, ago=lambda stamp: ago(stamp, now),
            now=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        )  # fmt: skip

    async def restore(self, request: web.Request) -> web.StreamResponse:
        """Replace databases by a version, after a question."""
        site, fields = self._site, await pages.form(request)
        address, database = fields.get("address", ""), fields.get("database") or None
        if (away := await elsewhere(site, request, address)) is not None:
            return away
        choice, back = choice_of(fields, time()), site.url("tenant/versions", address=address)
        status = site.operations.tenant(address).status
        what = database or "all databases"
        asked = await pages.confirm(
            request,
            title=f"Restore {address}",
            text=f"Replace {what} of {address} by {named(choice)}?",
            details=(
                "Its app is stopped and its requests wait meanwhile." if status.pid else "Its app does not run now.",
                "What is replaced stays in the store: the history has it, or it is set aside.",
            ),
            button=f"Replace {what}",
            back=back,
        )
        if asked is not None:
            return asked

        async def work(progress: Progress) -> str:
            notes = await site.operations.restore(address, database, choice, progress)
            return " ".join([f"{what} of {address} is now {named(choice)}.", *notes])

        job = site.jobs.start(f"Restore {what} of {address}", back, work)
        site.audit(request, "restore begun", tenant=address, database=database, version=named(choice))
        return pages.redirect(request, site.url(f"jobs/{job.id}"))

    async def copy(self, request: web.Request) -> web.StreamResponse:
        """Send a database as a file: whole, or the connection is cut. The copy is removed in any case."""
        site, fields = self._site, await pages.form(request)
        address, database = fields.get("address", ""), fields.get("database", "")
        if (away := await elsewhere(site, request, address)) is not None:
            return away
        choice = choice_of(fields, time())
        site.audit(request, "database downloaded", tenant=address, database=database, version=named(choice))
        try:
            async with asyncio.timeout(COPY_SECONDS), site.operations.copy(address, database, choice, silent) as copy:
                name = file_name(address, database, choice, time())
                disposition = f'attachment; filename="{name}"'
                return await send_file(
                    request, copy, {"Content-Type": KIND_OF_COPY, "Content-Disposition": disposition}
                )
        except TimeoutError as error:
            raise FlyatcError(f"the copy was not made and sent within {COPY_SECONDS:g} s") from error


def routes(site: Site) -> list[web.RouteDef]:
    page = VersionsPage(site)
    return [
        web.get("tenant/versions", page.page),
        web.post("tenant/restore", page.restore),
        web.post("tenant/copy", page.copy),
    ]
