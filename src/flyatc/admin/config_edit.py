"""Edits of tenants.yaml as text → text: add and remove a user; the difference of two texts. No files are touched.

The text is cut where the YAML parser reports keys and values, and everything else stays byte for byte: comments,
blanks, quotes. (ruamel.yaml would write the whole file anew: with other blanks, indentation and newlines.) Each result
is read again: if it says anything but what was asked for, the edit is refused.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET, Struct, structs

from flyatc.config import name_rules
from flyatc.config.document import Place, Section, compose, section
from flyatc.config.errors import ConfigError, Faults, ScalarNode
from flyatc.config.parse import parse
from flyatc.config.schema import ANYONE
from flyatc.config.schema_file import File, UserEntry
from flyatc.kit.errors import FlyatcError

_BREAK = re.compile(r"\r\n|\n|\r")
_LONGEST_LINE = 100  # a list of tenants that is longer gets a line for each
_BY_HAND = "change it in the editor of the file"
_Operation = tuple[str, int, int, int, int]  # of difflib


class EditRefused(FlyatcError):
    """The edit cannot be made in this text; the message says why."""


def add_user(text: str, file: str, user: str, tenants: Sequence[str] = (), region: str | None = None) -> str:
    """Return the text with one more user, below the last that has a name. ``file``: for messages. Raises ConfigError
    (the text is no YAML), EditRefused."""
    _check_names(user, tenants, region)
    before, users = _read(text, file), _users(text, file)
    if user in before.users:
        raise EditRefused(f"{user} is a user of {file} already")
    entry = UserEntry(tenants=list(tenants) or UNSET, region=region or UNSET)
    above = next((one for one in reversed(users.entries) if one.name != ANYONE), users.entries[-1])
    quoted = above.name != ANYONE and text[above.start] == '"'
    if users.flow:
        cut = above.end
        new = f", {_scalar(user, quoted)}: {_in_braces(entry, quoted)}"
    else:
        column = _column(text, above.start)
        step = column - _column(text, users.start)
        cut = _end_of_entry(text, above, column)
        newline = "\r\n" if "\r\n" in text else "\n"
        lines = list(_lines(user, entry, column, step, quoted))
        new = newline.join([*([] if text[:cut].endswith(("\n", "\r")) else [""]), *lines, ""])
    return _confirmed(text[:cut] + new + text[cut:], file, structs.replace(before, users={**before.users, user: entry}))


def remove_user(text: str, file: str, user: str) -> str:
    """Return the text without a user. Comments above it stay, those within its entry go. Raises as ``add_user``."""
    before, users = _read(text, file), _users(text, file)
    index = next((number for number, one in enumerate(users.entries) if one.name == user), None)
    if index is None:
        raise EditRefused(f"{user} is no user of {file}")
    one = users.entries[index]
    if not users.flow:
        column = _column(text, one.start)
        start, end = one.start - column, _end_of_entry(text, one, column)
    elif index + 1 < len(users.entries):
        start, end = one.start, users.entries[index + 1].start
    else:
        start, end = users.entries[index - 1].end if index else one.start, one.end
    left = {name: entry for name, entry in before.users.items() if name != user}
    return _confirmed(text[:start] + text[end:], file, structs.replace(before, users=left))


def with_newlines_of(text: str, submitted: str) -> str:
    """Return what a form has submitted, which ends its lines with CR LF, with the newlines of ``text``."""
    lines = _BREAK.sub("\n", submitted)
    if _BREAK.sub("\n", text) == lines:
        return text
    return lines.replace("\n", "\r\n") if "\r\n" in text else lines


# --- places in the text ---


def _check_names(user: str, tenants: Sequence[str], region: str | None) -> None:
    found = [name_rules.user(user), *map(name_rules.tenant, tenants), name_rules.region(region) if region else None]
    twice = [f"{name!r} is listed twice" for name in dict.fromkeys(tenants) if tenants.count(name) > 1]
    empty = ["a tenant has no name"] if "" in tenants else []
    if faults := [fault for fault in (*found, *twice, *empty) if fault is not None]:
        raise EditRefused("; ".join(faults))


def _users(text: str, file: str) -> Section:
    found = section(text, "users")
    if found is None or not found.entries:
        raise EditRefused(f"{file} has no list of users below users: {_BY_HAND}")
    return found


def _column(text: str, start: int) -> int:
    """The number of blanks before a key which begins its line. Raises EditRefused."""
    begin = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
    if text[begin:start].strip(" "):
        raise EditRefused(f"a key does not begin its line: {_BY_HAND}")
    return start - begin


def _end_of_entry(text: str, one: Place, column: int) -> int:
    """Offset behind the last line of an entry, with the comment lines below it that are indented more than its key."""
    end = one.end
    if not text[:end].endswith(("\n", "\r")):  # as a block scalar ends
        end = found.end() if (found := _BREAK.search(text, end)) else len(text)
    comment = re.compile(rf" {{{column + 1},}}#[^\r\n]*(?:\r\n|\n|\r|\Z)")
    while (found := comment.match(text, end)) is not None:
        end = found.end()
    return end


# --- the new entry ---


def _lines(user: str, entry: UserEntry, column: int, step: int, quoted: bool) -> Iterator[str]:
    blank, deeper = " " * column, " " * (column + step)
    if entry.region is UNSET and entry.tenants is UNSET:
        yield f"{blank}{_scalar(user, quoted)}: {{}}"
        return
    yield f"{blank}{_scalar(user, quoted)}:"
    if entry.region is not UNSET:
        yield f"{deeper}region: {_scalar(entry.region, quoted)}"
    if isinstance(entry.tenants, list):
        inline = f"{deeper}tenants: {_list(entry.tenants, quoted)}"
        if len(inline) <= _LONGEST_LINE:
            yield inline
            return
        yield f"{deeper}tenants:"
        yield from (f"{deeper}  - {_scalar(name, quoted)}" for name in entry.tenants)


def _in_braces(entry: UserEntry, quoted: bool) -> str:
    parts = []
    if entry.region is not UNSET:
        parts.append(f"{_scalar('region', quoted)}: {_scalar(entry.region, quoted)}")
    if isinstance(entry.tenants, list):
        parts.append(f"{_scalar('tenants', quoted)}: {_list(entry.tenants, quoted)}")
    return "{" + ", ".join(parts) + "}"


def _list(names: Sequence[str], quoted: bool) -> str:
    return "[" + ", ".join(_scalar(name, quoted) for name in names) + "]"


def _scalar(text: str, quoted: bool) -> str:
    """A name, which has no special characters; quoted if the file is written so, or if YAML would read null."""
    return json.dumps(text) if quoted or ScalarNode(0, text, True).null else text


# --- the proof ---


def _read(text: str, file: str) -> File:
    root = compose(text, file)
    return parse(root, Faults(file, root))


def _confirmed(text: str, file: str, wanted: File) -> str:
    try:
        good = _read(text, file) == wanted
    except ConfigError as error:  # such as *name, if the removed user has &name
        raise EditRefused(f"{error}. {_BY_HAND.capitalize()}") from error
    if not good:
        raise EditRefused(f"users: is written in a form that cannot be edited here: {_BY_HAND}")
    return text


# --- differences ---

_CONTEXT = 3  # lines around each change
_MOST_COMPARED = 1000  # lines; of more, the old ones are shown as removed, and the new ones as added


class DiffLine(Struct, frozen=True):
    """``kind``: "-", "+", " ", or "@", whose ``text`` is the number of the next line in the new text."""

    kind: str
    text: str


def difference(old: str, new: str) -> Iterator[DiffLine]:
    """Yield the unified difference, nothing for equal texts. The work is linear: see ``_MOST_COMPARED``."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    least = min(len(before), len(after))
    same = next((n for n in range(least) if before[n] != after[n]), least)
    tail = next((n for n in range(least - same) if before[-1 - n] != after[-1 - n]), least - same)
    first, last = max(0, same - _CONTEXT), max(0, tail - _CONTEXT)
    before, after = before[first : len(before) - last], after[first : len(after) - last]
    for group in _changes(before, after, same - first, tail - last):
        yield DiffLine("@", str(first + group[0][3] + 1))
        for kind, begin, end, new_begin, new_end in group:
            if kind == "equal":
                yield from (DiffLine(" ", line.rstrip("\r\n")) for line in after[new_begin:new_end])
            else:
                yield from (DiffLine("-", line.rstrip("\r\n")) for line in before[begin:end])
                yield from (DiffLine("+", line.rstrip("\r\n")) for line in after[new_begin:new_end])


def _changes(before: list[str], after: list[str], above: int, below: int) -> Iterable[list[_Operation]]:
    """Groups of operations as of SequenceMatcher. ``above``, ``below``: equal lines at both ends."""
    if max(len(before), len(after)) <= _MOST_COMPARED:
        return difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(_CONTEXT)
    end, new_end = len(before) - below, len(after) - below
    return [
        [
            ("equal", 0, above, 0, above),
            ("replace", above, end, above, new_end),
            ("equal", end, len(before), new_end, len(after)),
        ]
    ]
