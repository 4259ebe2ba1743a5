"""The log of a tenant or a user: the newest lines with a search, renewed while the page is open."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from flyatc.dashboard import pages
from flyatc.dashboard.live import live
from flyatc.dashboard.site import Site, elsewhere
from flyatc.observe.log import LEVELS, Journal
from flyatc.observe.log_text import Shown, shown

MOST_LINES = 200
TURN = 100  # lines that are looked at in one go: 2 ms
LONGEST_SEARCH = 200  # characters
LONGEST_LINE = 4000  # characters that are shown
KINDS = {"": "Everything", "app": "The app's output", "request": "Requests", "event": "flyatc"}


@dataclass(frozen=True)
class Search:
    """``text``: a part of the line, in any case; ``level``: the lowest; ``kind``: of KINDS."""

    address: str
    text: str = ""
    level: str = "debug"
    kind: str = ""

    def fits(self, line: Shown) -> bool:
        return (
            self.kind in ("", line.kind)
            and LEVELS.get(line.level, 0) >= LEVELS[self.level]
            and self.text.casefold() in f"{line.mark} {line.text}".casefold()
        )


def search_of(request: web.Request) -> Search:
    """Return the search of a form. What is not valid is left out."""
    found = request.query
    level, kind = found.get("level", "debug"), found.get("kind", "")
    return Search(
        found.get("address", ""),
        found.get("q", "").strip()[:LONGEST_SEARCH],
        level if level in LEVELS else "debug",
        kind if kind in KINDS else "",
    )


class Tail:
    """The newest lines of a journal that fit a search."""

    def __init__(self, journal: Journal, search: Search) -> None:
        self._journal, self._search = journal, search
        self._number = 0  # of the last entry that was looked at
        self._lines: list[Shown] = []

    async def lines(self) -> tuple[list[Shown], bool]:
        """Return them, newest first, and whether there are new ones since the last call. A long journal is searched in
        turns with other work of the loop."""
        entries, self._number = self._journal.since(self._number, self._search.address), self._journal.last
        new: list[Shown] = []
        for at, (_, _, line) in enumerate(reversed(entries), 1):
            one = shown(line)
            new += [one] if self._search.fits(one) else []
            if len(new) == MOST_LINES:
                break
            if at % TURN == 0:
                await asyncio.sleep(0)
        self._lines = [*new, *self._lines][:MOST_LINES]
        return self._lines, bool(new)


def routes(site: Site) -> list[web.RouteDef]:
    def html(request: web.Request, lines: list[Shown], search: Search) -> str:
        return pages.text(request, "tenant_lines.html", lines=lines, search=search, longest=LONGEST_LINE)

    async def page(request: web.Request) -> web.StreamResponse:
        search = search_of(request)
        if (away := await elsewhere(site, request, search.address)) is not None:
            return away
        found = site.operations.tenant(search.address).status.tenant
        lines, _ = await Tail(site.operations.journal, search).lines()
        return pages.render(
            request, "tenant_log.html", address=found, page="tenant/log", search=search, kinds=KINDS,
            levels=LEVELS, most=MOST_LINES, lines=lines, longest=LONGEST_LINE,
        )  # fmt: skip

    async def follow(request: web.Request) -> web.StreamResponse:
        search = search_of(request)
        if (away := await elsewhere(site, request, search.address)) is not None:
            return away
        site.operations.tenant(search.address)
        tail, last = Tail(site.operations.journal, search), ""

        async def parts() -> dict[str, str]:
            nonlocal last
            lines, new = await tail.lines()
            last = html(request, lines, search) if new or not last else last
            return {"lines": last}

        return await live(request, parts)

    return [web.get("tenant/log", page), web.get("tenant/log/live", follow)]
