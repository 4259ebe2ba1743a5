"""Orphaned copies, which ``tenant_versions`` restores; and tests of all that the store has."""

import asyncio

from aiohttp import web

from flyatc.admin import store_access
from flyatc.admin.store_access import Orphan
from flyatc.dashboard import pages
from flyatc.dashboard.jobs import Job
from flyatc.dashboard.site import Site
from flyatc.databases.verify import Verdict
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress
from flyatc.objects.store import StoreUnavailable

LIST_SECONDS = 10.0  # for the orphans of all tenants
MOST_SHOWN = 200  # orphans, and results
NO_STORE = "storage.mode is none: nothing is in a store"


class StorePages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._verdicts: list[Verdict] = []  # of the last verification that an operator started here
        self._verification: Job | None = None

    async def page(self, request: web.Request) -> web.Response:
        orphans, missing = await self._orphans()
        bad = [one for one in self._verdicts if one.state != "ok"]
        return pages.render(
            request, "store.html", orphans=orphans[:MOST_SHOWN], more=max(0, len(orphans) - MOST_SHOWN),
            missing=missing, verified=self._site.overview(True).verified, has_store=self._site.store is not None,
            job=self._verification, bad=bad[:MOST_SHOWN], sound=len(self._verdicts) - len(bad),
        )  # fmt: skip

    async def _orphans(self) -> tuple[list[Orphan], str]:
        """The orphans, newest first; and why some are missing, or nothing."""
        config, store, why = self._site.config(), self._site.store, ""
        try:
            if store is not None:
                try:
                    async with asyncio.timeout(LIST_SECONDS):
                        return _newest(await store_access.orphans_in(config, store, None)), ""
                except StoreUnavailable as error:
                    why = f"Those in the store are not shown: {error}."
                except TimeoutError:
                    why = f"Those in the store are not shown: it has not listed them within {LIST_SECONDS:g} s."
            return _newest(await store_access.orphans_in(config, None, None)), why
        except OSError as error:
            return [], f"The data folder cannot be read: {error.strerror}."

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """Begin to test all databases in the store, or show the test that is under way."""
        running = self._verification
        if running is None or running.ended is not None:
            running = self._begin((await pages.form(request)).get("address", "").strip())
            self._site.audit(request, "verification started")
        return pages.redirect(request, self._site.url(f"jobs/{running.id}"))

    def _begin(self, address: str) -> Job:
        site, wanted = self._site, self._site.operations.address(address)
        if site.store is None:
            raise FlyatcError(NO_STORE)

        async def work(progress: Progress) -> str:
            found = await self._verified(wanted, progress)
            if not found:
                return "The store has no database" + (f" of {wanted}." if wanted is not None else " yet.")
            if bad := sum(one.state != "ok" for one in found):
                return f"{bad} of {len(found)} copies cannot be restored."
            return f"All {len(found)} copies can be restored." if len(found) > 1 else "The copy can be restored."

        title = "Verify the store" if wanted is None else f"Verify what the store has of {wanted}"
        self._verification = site.jobs.start(title, site.url("store"), work, unit="databases")
        return self._verification

    async def _verified(self, wanted: str | None, progress: Progress) -> list[Verdict]:
        site, config = self._site, self._site.config()
        assert site.store is not None
        assert site.records is not None
        found = list[Verdict]()
        stock = (await store_access.take_inventory(site.store, wanted)).databases
        async with store_access.open_verifier(config, site.environ, site.store, site.records, site.log) as verifier:
            for number, one in enumerate(stock):
                tenant = config.tenant_kept_as(one.user, one.key)
                progress(f"{tenant.address}, {one.database}", number, len(stock))
                found += await verifier.verify(tenant, one)
                self._verdicts = list(found)
        self._verdicts = found
        return found


def _newest(orphans: list[Orphan]) -> list[Orphan]:
    return sorted(orphans, key=lambda one: one.at or "", reverse=True)


def routes(site: Site) -> list[web.RouteDef]:
    found = StorePages(site)
    return [
        web.get("store", found.page),
        web.post("store/verify", found.verify),
    ]
