"""The page of tenants.yaml: an editor with the faults at their lines, differences, and the texts that it had before.

A text is saved in two steps: it is checked and shown beside the present file, then saved as it was shown.
"""

import asyncio
import re
from collections.abc import Sequence
from itertools import islice

from aiohttp import web
from msgspec import Struct, structs

from flyatc.admin.config_edit import DiffLine, difference, with_newlines_of
from flyatc.admin.config_file import Changed, ConfigFile, Present, fingerprint
from flyatc.config import reload
from flyatc.config.errors import ConfigError, Fault
from flyatc.config.schema import Config
from flyatc.control.types import Reloaded
from flyatc.dashboard import pages
from flyatc.dashboard.site import Site
from flyatc.kit.errors import FlyatcError

LARGEST = 1_000_000  # octets as a form sends it, which takes 1 MB: see application.MOST_BODY
MOST_LINES = 2000  # shown of a text or a difference
NEAR = 3  # lines around a fault that are shown of a longer text
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # as YAML counts lines


class Line(Struct, frozen=True):
    number: int
    text: str
    faults: tuple[str, ...] = ()


class Review(Struct, frozen=True):
    """A text for the file. ``faults``: the daemon refuses it for them; ``remarks``: what else is to be known of it;
    ``effect``: of a reload with it."""

    text: str
    fingerprint: str
    lines: tuple[Line, ...]
    changes: tuple[DiffLine, ...]
    faults: tuple[Fault, ...] = ()
    remarks: tuple[str, ...] = ()
    effect: str = ""


def examine(file: ConfigFile, present: Present, running: Config, text: str) -> Review:
    """Check a text and compare it with the present one. Blocking. ``running``: the daemon's configuration."""
    found = Review(
        text=text,
        fingerprint=fingerprint(text.encode()),
        lines=tuple(listing(text, ())),
        changes=tuple(islice(difference(present.text or "", text), MOST_LINES + 1)),
    )
    remarks: list[str] = []
    try:
        try:
            new = file.check(text, thorough=True)
        except ConfigError as error:  # maybe only for what flyatc check reports
            new = file.check(text)
            remarks += map(str, error.faults)
    except ConfigError as error:
        return structs.replace(found, faults=error.faults, lines=tuple(listing(text, error.faults)))
    if new.dashboard is None and running.dashboard is not None:
        remarks.append("this text turns the dashboard off: you cannot undo it here")
    elif new.dashboard != running.dashboard:
        remarks.append("this text changes the dashboard itself: you may have to log in again, perhaps elsewhere")
    changed = reload.changes(running, new)
    effect = f"In the daemon: {summary(changed.added, changed.changed, changed.removed, changed.restart)}"
    return structs.replace(found, remarks=tuple(remarks), effect=effect)


def listing(text: str, faults: Sequence[Fault]) -> list[Line]:
    """Return the lines with their faults; of a long text only those near a fault."""
    lines = _BREAK.split(text)
    of_line: dict[int, list[str]] = {}
    for fault in faults:
        if fault.line is not None:
            sentence = f"{fault.key}: {fault.message}" if fault.key else fault.message
            of_line.setdefault(min(fault.line, len(lines)), []).append(sentence)
    numbers = set(range(1, len(lines) + 1))
    if len(lines) > MOST_LINES:
        numbers &= {near for line in of_line for near in range(line - NEAR, line + NEAR + 1)}
    shown = sorted(numbers)[:MOST_LINES]
    return [Line(number, lines[number - 1], tuple(of_line.get(number, ()))) for number in shown]


def summary(added: Sequence[str], changed: Sequence[str], removed: Sequence[str], restart: Sequence[str]) -> str:
    """Return what a reload changes. All are addresses of tenants, but ``restart``: settings."""
    counts = {"added": added, "changed": changed, "removed": removed}
    parts = [
        f"{len(names)} {'tenant' if len(names) == 1 else 'tenants'} {how}" for how, names in counts.items() if names
    ]
    text = f"{', '.join(parts) or 'no tenant is affected'}."
    return f"{text} These settings need a restart of the daemon: {', '.join(restart)}." if restart else text


def routes(site: Site) -> list[web.RouteDef]:
    page = ConfigPage(site)
    return [web.get("config", page.show), web.post("config", page.change), web.post("config/reload", page.reload)]


class ConfigPage:
    def __init__(self, site: Site) -> None:
        self._site, self._file = site, site.config_file

    async def show(self, request: web.Request) -> web.Response:
        """The present text; with ``version`` an earlier one, to be saved again."""
        version, present = request.query.get("version"), await asyncio.to_thread(self._file.read)
        if version is None:
            return await self._render(request, present, present.text or "")
        return await self._render(
            request, present, await asyncio.to_thread(self._file.text_of, version), version=version
        )

    async def change(self, request: web.Request) -> web.Response:
        """Check a text, or save it if it is the one that was shown."""
        fields, present = await pages.form(request), await asyncio.to_thread(self._file.read)
        text, based_on = with_newlines_of(present.text or "", fields.get("text", "")), fields.get("base", "")
        if fields.get("action") == "save" and fields.get("reviewed") == fingerprint(text.encode()):
            return await self._save(request, text, based_on)
        changed = based_on != present.fingerprint
        return await self._render(request, present, text, changed=changed)

    async def reload(self, request: web.Request) -> web.Response:
        done = await self._site.operations.reload()
        self._site.audit(request, "configuration reloaded")
        return pages.redirect(request, self._site.url("config"), f"Reloaded: {_summary(done)}")

    async def _save(self, request: web.Request, text: str, based_on: str) -> web.Response:
        why, changed = "", False
        try:
            done = await self._file.save(text, based_on, self._site.operations.reload)
        except Changed:
            changed = True
        except ConfigError:
            why = "Nothing was saved: the text has faults."
        except FlyatcError as error:
            why = f"Not saved: {error}"
        else:
            counts = {"added": len(done.added), "changed": len(done.changed), "removed": len(done.removed)}
            self._site.audit(request, "configuration saved", **counts, restart=done.restart)
            return pages.redirect(request, self._site.url("config"), f"Saved, and reloaded: {_summary(done)}")
        self._site.audit(request, "configuration not saved", changed_meanwhile=changed)
        present = await asyncio.to_thread(self._file.read)
        return await self._render(request, present, text, changed=changed, why=why, status=409 if changed else 422)

    async def _render(
        self,
        request: web.Request,
        present: Present,
        text: str,
        *,
        version: str | None = None,
        changed: bool = False,
        why: str = "",
        status: int = 200,
    ) -> web.Response:
        """``version``: the text is this earlier one. ``changed``: the file has changed since the edit began."""
        config = self._site.config()
        review = await asyncio.to_thread(examine, self._file, present, config, text)
        kept = await asyncio.to_thread(self._file.kept)
        return pages.render(
            request,
            "config.html",
            status,
            present=present,
            review=review,
            edited=text != present.text,
            earlier=next((one for one in kept if one.name == version), None),
            changed=changed,
            why=why,
            kept=kept,
            last=next((one for one in kept if one.fingerprint != present.fingerprint), None),
            file=config.path,
            editable=present.text is not None and len(text.encode()) + text.count("\n") <= LARGEST,
            most_lines=MOST_LINES,
        )


def _summary(done: Reloaded) -> str:
    return summary(done.added, done.changed, done.removed, done.restart)
