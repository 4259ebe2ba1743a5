"""Maintenance and pauses: of all, a user, a tenant. A pause is a job, which ends when no app has a request any more."""

from aiohttp import web

from flyatc.config.schema import Config
from flyatc.control.types import LONGEST_HOLD, Overview
from flyatc.dashboard import pages
from flyatc.dashboard.live import live
from flyatc.dashboard.site import Site, elsewhere
from flyatc.kit import units
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress

LISTED = 500  # addresses that the page proposes
LONGEST_MESSAGE = 1000  # characters
USUAL_HOLD = 60.0  # seconds

PATH = "maintenance"


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def show(self, request: web.Request) -> web.Response:
        found = self._site.operations.status()
        return pages.render(
            request, "maintenance.html", found=found, addresses=_addresses(found), hold=int(USUAL_HOLD),
            most=int(LONGEST_HOLD), given=request.query.get("address", ""),
        )  # fmt: skip

    async def follow(self, request: web.Request) -> web.StreamResponse:
        def parts() -> dict[str, str]:
            found = self._site.operations.status(seen=True)
            return {"present": pages.text(request, "maintenance_present.html", found=found)}

        return await live(request, parts)

    async def close(self, request: web.Request) -> web.Response:
        fields, address = await self._scope(request)
        if (there := await self._there(request, address)) is not None:
            return there
        message = fields.get("message", "").strip()[:LONGEST_MESSAGE] or None
        question = await pages.confirm(
            request,
            title=f"Close {_named(address)}?",
            text="Clients get status 503 and your message until you open it again. Requests in flight end as usual.",
            button="Close",
            back=self._site.url(PATH),
        )
        if question is not None:
            return question
        await self._site.operations.maintain(address, message, closed=True)
        self._site.audit(request, "closed for maintenance", scope=_named(address), page=message)
        return self._back(request, fields, f"{_heading(address)}: closed for maintenance.")

    async def open(self, request: web.Request) -> web.Response:
        fields, address = await self._scope(request)
        if (there := await self._there(request, address)) is not None:
            return there
        changed = await self._site.operations.maintain(address, None, closed=False)
        self._site.audit(request, "opened after maintenance", scope=_named(address))
        notice = "open again." if changed else "it was open already."
        return self._back(request, fields, f"{_heading(address)}: {notice}")

    async def pause(self, request: web.Request) -> web.Response:
        fields, address = await self._scope(request)
        if (there := await self._there(request, address)) is not None:
            return there
        limit = _seconds(fields.get("limit", ""))

        async def work(progress: Progress) -> str:
            progress("Requests in flight end; new ones wait", 0, 0)
            left = await self._site.operations.pause(address, limit)
            rest = f" {left.tunnels} open connections (WebSockets) go on." if left.tunnels else ""
            if left.requests:
                return f"Paused, but {left.requests} requests have not ended within {limit:g} s.{rest}"
            return f"Paused, and no app has a request any more.{rest}"

        self._site.audit(request, "paused", scope=_named(address), limit=limit)
        job = self._site.jobs.start(f"Pause {_named(address)}", self._site.url(PATH), work)
        return pages.redirect(request, self._site.url(f"jobs/{job.id}"))

    async def resume(self, request: web.Request) -> web.Response:
        fields, address = await self._scope(request)
        if (there := await self._there(request, address)) is not None:
            return there
        released = await self._site.operations.resume(address)
        self._site.audit(request, "resumed", scope=_named(address))
        notice = "it was not paused." if released is None else f"resumed, {released} requests went on."
        return self._back(request, fields, f"{_heading(address)}: {notice}")

    async def _scope(self, request: web.Request) -> tuple[dict[str, str], str | None]:
        """Return the fields, and the address that they mean; None: everything. Raises FlyatcError."""
        fields = await pages.form(request)
        given = fields.get("address", "").strip()
        if given in ("", "*", "everything"):
            return fields, None
        status = self._site.operations.status(seen=True)
        if given in [*(one.scope for one in status.closed), *(one.scope for one in status.paused)]:
            return fields, given  # maybe of a tenant that was removed meanwhile
        address = self._site.operations.address(given)
        if address is None or not _exists(self._site.config(), address):
            raise FlyatcError(f"{given[:200]!r} is no user and no tenant of this service")
        return fields, address

    async def _there(self, request: web.Request, address: str | None) -> web.Response | None:
        return None if address is None else await elsewhere(self._site, request, address)

    def _back(self, request: web.Request, fields: dict[str, str], notice: str) -> web.Response:
        return pages.redirect(request, self._site.inside(fields.get("back", "")) or self._site.url(PATH), notice)


def _addresses(found: Overview) -> list[str]:
    users = dict.fromkeys(one.user for one in found.tenants)
    return [*users, *(one.tenant for one in found.tenants if one.tenant not in users)][:LISTED]


def _exists(config: Config, address: str) -> bool:
    user, _, name = address.partition("/")
    of_pattern = config.is_of_pattern(user) if not name else config.tenant_of_pattern(user, name) is not None
    return address in config.tenants or address in config.users or of_pattern


def _named(address: str | None) -> str:
    return address or "everything"


def _heading(address: str | None) -> str:
    return address or "Everything"


def _seconds(text: str) -> float:
    """Return the limit of a pause. Raises FlyatcError."""
    try:
        found = units.seconds(text.strip() or f"{USUAL_HOLD:g}")
    except ValueError as error:
        raise FlyatcError(f"The longest wait: {error}") from error
    if not 0 < found <= LONGEST_HOLD:
        raise FlyatcError(f"The longest wait must be from 1 s to {LONGEST_HOLD:g} s")
    return found


def routes(site: Site) -> list[web.RouteDef]:
    page = _Page(site)
    return [
        web.get(PATH, page.show),
        web.get(f"{PATH}/live", page.follow),
        web.post(f"{PATH}/close", page.close),
        web.post(f"{PATH}/open", page.open),
        web.post(f"{PATH}/pause", page.pause),
        web.post(f"{PATH}/resume", page.resume),
    ]
