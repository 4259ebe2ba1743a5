"""Patterns for user names (``users."*".match``): regular expressions with linear matching time. Pure.

Python's ``re`` backtracks: ``([a-z]+)+[0-9]`` takes seconds for a name of 26 letters, and clients choose the names.
Here a pattern becomes a position automaton (Glushkov), which reads each character once. Features that it cannot
express (look-around, back-references) are refused, and so are those without meaning when the whole name must match.

Supported, with the meaning of ``re.fullmatch``: characters, ``.``, ``[a-z]``, ``[^a-z]``, ``\\d \\w \\s``
and their opposites, ``(…)``, ``(?:…)``, ``|``, ``? * + {n} {n,} {n,m}``, ``^`` at the start and ``$`` at the end."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789_-"  # of user names (config.schema.USER)
MOST_POSITIONS = 500  # characters of the pattern, bounded repetitions written out
_DEEPEST = 50  # nested groups
_MEMORY = 2000  # cached transitions

_ANY = frozenset(ALPHABET)
_DIGITS, _WORDS = frozenset("0123456789"), _ANY - {"-"}
_KINDS = {"d": _DIGITS, "w": _WORDS, "s": frozenset[str]()}
_KINDS |= {kind.upper(): _ANY - characters for kind, characters in _KINDS.items()}
_REPEAT = re.compile(r"\{(?:([0-9]{1,4})(?:(,)([0-9]{1,4})?)?|,([0-9]{1,4}))\}")


class PatternError(ValueError):
    """Invalid pattern. ``at``: the character of the pattern, from 1."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(f"{reason} (character {at})")
        self.at = at


@dataclass(frozen=True, slots=True)
class _Chars:
    allowed: frozenset[str]

    @property
    def size(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class _Row:
    """A sequence of parts; if ``either``, alternatives."""

    parts: tuple["_Node", ...]
    either: bool
    size: int  # positions; an upper bound of the work to build them


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: "_Node"
    least: int
    most: int | None
    size: int


_Node = _Chars | _Row | _Repeat


def _row(parts: list[_Node], *, either: bool) -> _Node:
    return parts[0] if len(parts) == 1 else _Row(tuple(parts), either, 1 + sum(part.size for part in parts))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def parse(self) -> _Node:
        text = self._text
        if text.startswith("^"):
            self._at = 1
        if text.endswith("$") and (len(text) - len(text[:-1].rstrip("\\"))) % 2:
            self._text = text[:-1]
        node = self._either()
        if self._at < len(self._text):
            raise self._error("this ')' closes no group")
        return node

    def _error(self, reason: str, at: int | None = None) -> PatternError:
        return PatternError(reason, (self._at if at is None else at) + 1)

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _either(self) -> _Node:
        parts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            parts.append(self._sequence())
        return _row(parts, either=True)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while (character := self._next()) and character not in "|)":
            parts.append(self._repeated(self._one()))
        return _row(parts, either=False)

    def _repeated(self, part: _Node) -> _Node:
        start, bounds = self._at, self._bounds()
        if bounds is None:
            return part
        if self._next() in ("?", "+", "*", "{"):
            raise self._error(
                "a repetition of a repetition, lazy and possessive ones too, is not supported: leave it out"
            )
        least, most = bounds
        if most is not None and most < least:
            raise self._error("the second number of a repetition is below the first", start)
        made = _Repeat(part, least, most, 1 + part.size * max(1, least, most or 0))
        if made.size > MOST_POSITIONS:
            raise self._error(f"with its repetitions written out the pattern is longer than {MOST_POSITIONS}", start)
        return made

    def _bounds(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        character = self._next()
        if character in simple:
            self._at += 1
            return simple[character]
        if character != "{":
            return None
        match = _REPEAT.match(self._text, self._at)
        if match is None:
            raise self._error("'{' begins a repetition such as {3} or {1,9}")
        self._at = match.end()
        if match[4] is not None:
            return 0, int(match[4])
        least = int(match[1])
        return least, least if match[2] is None else None if match[3] is None else int(match[3])

    def _one(self) -> _Node:
        character, start = self._next(), self._at
        if character in "?*+{":
            raise self._error(f"there is nothing before {character!r} to repeat")
        if character in "^$":
            raise self._error("the whole name must match anyway: '^' may only be the first character, '$' the last")
        self._at += 1
        match character:
            case "(":
                return self._group(start)
            case "[":
                return _Chars(self._class(start))
            case "\\":
                return _Chars(self._escape())
            case ".":
                return _Chars(_ANY)
        return _Chars(_ANY & {character})

    def _group(self, start: int) -> _Node:
        if self._text.startswith("?", self._at) and not self._text.startswith("?:", self._at):
            what = "look-around, named groups, flags and other groups that begin with '(?'"
            raise self._error(f"{what} are not supported: only (…) and (?:…)", start)
        if self._next() == "?":
            self._at += 2
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} groups within each other", start)
        node = self._either()
        if self._next() != ")":
            raise self._error("this '(' is not closed", start)
        self._at, self._depth = self._at + 1, self._depth - 1
        return node

    def _escape(self) -> frozenset[str]:
        character, start = self._next(), self._at - 1
        self._at += 1
        if character in _KINDS:
            return _KINDS[character]
        if not character or character.isalnum():
            raise self._error(f"'\\{character}' is not supported: only \\d \\w \\s \\D \\W \\S and signs", start)
        return _ANY & {character}

    def _class(self, start: int) -> frozenset[str]:
        negated = self._next() == "^"
        self._at += negated
        found: frozenset[str] = frozenset()
        first = True
        while first or self._next() != "]":
            first = False
            found |= self._member(start)
        self._at += 1
        return _ANY - found if negated else found

    def _member(self, start: int) -> frozenset[str]:
        """Parse one member of a class: a character, a range or an escape such as ``\\d``."""
        low = self._next()
        if not low:
            raise self._error("this '[' is not closed", start)
        self._at += 1
        if low == "\\":
            if self._next() in _KINDS:
                return self._escape()
            self._escape()
            low = self._text[self._at - 1]
        if self._next() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return _ANY & {low}
        high = self._text[self._at + 1]
        if high == "\\" or high < low:
            raise self._error(f"'{low}-{high}' is no range of characters", self._at - 1)
        self._at += 2
        return frozenset(character for character in ALPHABET if low <= character <= high)


@dataclass(slots=True)
class _Part:
    """Automaton of a part. Sets of positions are integers, one bit each."""

    empty: bool  # the empty string matches too
    first: int
    last: int


@dataclass(slots=True)
class Pattern:
    """A compiled pattern. State 1 is the start; other bits are positions."""

    _follows: list[int] = field(default_factory=lambda: [0])
    _allowed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ALPHABET, 0))
    _accepts: int = 0
    _known: dict[tuple[int, int], int] = field(default_factory=dict)

    def matches(self, name: str) -> bool:
        """Return whether the whole name matches, in one step per character for any pattern."""
        state = 1
        for character in name:
            allowed = self._allowed.get(character, 0)
            after = self._known.get((state, allowed))
            if after is None:
                after = self._step(state, allowed)
            state = after
            if not state:
                return False
        return bool(state & self._accepts)

    def _step(self, state: int, allowed: int) -> int:
        after, rest = 0, state
        while rest:
            bit = rest & -rest
            after |= self._follows[bit.bit_length() - 1]
            rest ^= bit
        after &= allowed
        if len(self._known) >= _MEMORY:
            self._known.clear()
        self._known[state, allowed] = after
        return after

    # --- building ---

    def build(self, node: _Node) -> "Pattern":
        whole = self._part(node)
        self._follows[0] = whole.first
        self._accepts = whole.last | whole.empty
        return self

    def _part(self, node: _Node) -> _Part:
        if isinstance(node, _Chars):
            bit = 1 << len(self._follows)
            self._follows.append(0)
            for character in node.allowed:
                self._allowed[character] |= bit
            return _Part(False, bit, bit)
        if isinstance(node, _Repeat):
            return self._repeat(node)
        if node.either:
            parts = [self._part(part) for part in node.parts]
            made = _Part(False, 0, 0)
            for part in parts:
                made = _Part(made.empty or part.empty, made.first | part.first, made.last | part.last)
            return made
        made = _Part(True, 0, 0)
        for member in node.parts:
            made = self._join(made, self._part(member))
        return made

    def _repeat(self, node: _Repeat) -> _Part:
        made = _Part(True, 0, 0)
        for _ in range(node.least if node.most is not None else max(0, node.least - 1)):
            made = self._join(made, self._part(node.part))
        if node.most is None:
            again = self._part(node.part)
            self._link(again.last, again.first)
            again.empty = again.empty or not node.least
            return self._join(made, again)
        for _ in range(node.most - node.least):
            once = self._part(node.part)
            once.empty = True
            made = self._join(made, once)
        return made

    def _join(self, before: _Part, after: _Part) -> _Part:
        self._link(before.last, after.first)
        return _Part(
            before.empty and after.empty,
            before.first | (after.first if before.empty else 0),
            after.last | (before.last if after.empty else 0),
        )

    def _link(self, ends: int, starts: int) -> None:
        while ends:
            bit = ends & -ends
            self._follows[bit.bit_length() - 1] |= starts
            ends ^= bit


@lru_cache(8)
def compiled(text: str) -> Pattern:
    """Compile a pattern. Raises PatternError."""
    node = _Parser(text).parse()
    if node.size > MOST_POSITIONS:
        raise PatternError(f"with its repetitions written out the pattern is longer than {MOST_POSITIONS}", len(text))
    return Pattern().build(node)
