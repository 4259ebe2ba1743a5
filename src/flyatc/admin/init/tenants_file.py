"""The text of tenants.yaml for a plan, with comments from which a reader learns the keys."""

import json
import re
from collections.abc import Iterator, Sequence

from flyatc.admin.init.plan import Plan

COLUMN, LONGEST = 44, 120  # of the comments; of a line
FIRST = "bellevue/2025/winter"
_BARE = re.compile(r"-{0,2}[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"})


def render(plan: Plan) -> str:
    return "\n".join(line.rstrip() for line in _lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"# How flyatc runs a copy of this app for each tenant ({plan.stack})."
    yield "# `flyatc check` lists the errors of this file; docs/configuration.md of flyatc has every key."
    yield ""
    yield "server:"
    yield from _noted("  health: /up", "flyatc itself responds there: a health check starts no tenant")
    if plan.outside:
        yield from _noted(f"  data: ../{plan.outside}-data", "not in this folder, whose files PHP sends to clients")
        yield ""
        yield "storage:"
        url = f"  url: file:../{plan.outside}-store"
        yield from _noted(url, "likewise; without this section: the bucket of $BUCKET_NAME")
    yield ""
    yield from _noted("app:", "one tenant: {data} is its folder, {prefix} its path")
    yield from _commands(plan)
    yield from _environment(plan)
    yield from _saved(plan)
    yield from _paths(plan)
    yield ""
    yield from _noted("users:", "the first segment of a path")
    yield "  bellevue:"
    yield from _noted("    tenants: [2025/winter, 2025/summer]", f"http://localhost:3000/{FIRST}/")
    yield from _noted("  # boston: {idle: 30m}", "a tenant itself: /boston/; it may override any key of app")
    if not plan.outside:
        yield ""
        yield "# The store has the databases while no app runs: the bucket of $BUCKET_NAME, or ./store without one."
        yield from _noted("# storage: {mode: litestream}", "streams each change; the default saves every minute")


def _commands(plan: Plan) -> Iterator[str]:
    if plan.before_start:
        only = plan.before_start[0] if len(plan.before_start) == 1 else None
        listed = sequence(only) if only else f"[{', '.join(map(sequence, plan.before_start))}]"
        yield from _noted(f"  before_start: {listed}", "at each start: migrations")
    yield from _noted(f"  command: {sequence(plan.command)}", plan.listens)


def _environment(plan: Plan) -> Iterator[str]:
    if plan.env:
        yield "  env:"
    for one in plan.env:
        yield from _noted(f"    {one.name}: {scalar(one.value)}", one.why)


def _saved(plan: Plan) -> Iterator[str]:
    names = sequence(plan.databases)
    yield from _noted(f"  databases: {names}", "below {data}: restored before the start, saved at the stop")
    if len(plan.databases) == 1:
        yield from _noted("  # seed: template.sqlite3", "a database that new tenants begin with")
    if plan.files:
        yield from _noted(f"  files: {sequence(plan.files)}", "folders below {data}, saved with the databases")
    if plan.writable:
        folders = sequence(("tmp", "log", *plan.writable))
        yield from _noted(f"  writable: {folders}", "of the app's folder; all tenants share them")


def _paths(plan: Plan) -> Iterator[str]:
    if plan.ready:
        yield from _noted(f"  ready: {scalar(plan.ready)}", "requested until the app responds")
    if plan.strip_prefix:
        yield from _noted("  strip_prefix: true", "the app sees /orders, and X-Forwarded-Prefix: /bellevue/…")
    if plan.static:
        yield "  delivery:"
        yield from _noted("    static:", "sent by flyatc, without starting the app")
    for one in plan.static:
        age = ", max_age: 365d, immutable: true" if one.digests else ""
        yield f"    - {{path: {scalar(one.path)}, folder: {scalar(one.folder)}{age}}}"


def sequence(items: Sequence[str]) -> str:
    return f"[{', '.join(map(scalar, items))}]"


def scalar(text: str) -> str:
    """Return a text as YAML, quoted where it must be."""
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _noted(text: str, comment: str) -> Iterator[str]:
    """Yield a line with its comment, which precedes it where both together are too long."""
    line = f"{text.ljust(COLUMN - 2)}  # {comment}" if comment else text
    if len(line) > LONGEST:
        yield f"{text[: len(text) - len(text.lstrip())]}# {comment}"
        line = text
    yield line
