"""The lines that flyatc init prints."""

from collections.abc import Iterator, Sequence

from flyatc.admin.init.plan import Change, Plan

LONGEST = 200  # characters of a line of the app that are shown
MOST_UNREAD = 5  # files that are named


def changes(heading: str, found: Sequence[Change]) -> Iterator[str]:
    """Yield each change with its place and reason, then the old line and the new one."""
    if found:
        yield ""
        yield heading
    before: tuple[str, str] | None = None
    for one in found:
        place = f"{one.file}:{one.line}" if one.line is not None else one.file
        added = one.old is None and one.line is not None
        where = f"{place}{' (below it)' if added else ''}"
        if before is None or where != before[0] or one.why not in ("", before[1]):
            yield f"  {where}{f'  {one.why}' if one.why else ''}"
        before = where, one.why
        if one.old is not None:
            yield f"    - {_short(one.old)}"
        yield f"    + {_short(one.new)}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def header(plan: Plan, unread: Sequence[str]) -> Iterator[str]:
    yield f"{plan.stack} ({', '.join(plan.seen)})"
    yield from (f"  not read: {one}" for one in unread[:MOST_UNREAD])
    if len(unread) > MOST_UNREAD:
        yield f"  not read: {len(unread) - MOST_UNREAD} more"


def notes(plan: Plan) -> Iterator[str]:
    if plan.steps:
        yield ""
        yield "Then run once, and in the Dockerfile:"
        yield from (f"  {step}" for step in plan.steps)
    if plan.warnings:
        yield ""
        yield "Note:"
        yield from (f"  {warning}" for warning in plan.warnings)
