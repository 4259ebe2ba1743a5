"""Maintenance and pauses: of all, a user, a tenant."""

from aiohttp import web

from flyatc.dashboard import pages
from flyatc.dashboard.site import Site


def routes(site: Site) -> list[web.RouteDef]:
    async def page(request: web.Request) -> web.Response:
        return pages.render(request, "maintenance.html", found=site.operations.status())

    return [web.get("maintenance", page)]
