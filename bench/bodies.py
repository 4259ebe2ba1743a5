"""Text as apps send it, the same in every run: a page of HTML, a stylesheet. It packs about as well as real ones."""

import itertools
import random

SYLLABLES = ("ac", "al", "bar", "but", "col", "con", "der", "ed", "en", "fer", "le", "men", "or", "per", "ta", "ver")
WORDS = [a + b for a, b in itertools.permutations(SYLLABLES, 2)]


def page(octets: int) -> bytes:
    """A table with links, names and numbers."""
    chance, lines = random.Random(20), ["<!doctype html><html><head><title>Entries</title></head><body><table>"]
    while sum(map(len, lines)) < octets:
        number, words = chance.randrange(100_000), chance.choices(WORDS, k=9)
        lines.append(
            f'<tr class="entry {words[0]}" id="entry_{number}"><td><a href="/events/{number}/edit">{words[1].title()} '
            f"{words[2].title()}</a></td><td>{' '.join(words[3:])}</td><td>{chance.random() * 1000:.2f}</td></tr>\n"
        )
    return "".join(lines)[:octets].encode()


def stylesheet(octets: int) -> bytes:
    chance, lines = random.Random(10), [""]
    while sum(map(len, lines)) < octets:
        (one, other, third), color = chance.choices(WORDS, k=3), chance.randrange(1 << 24)
        lines.append(f".{one}-{other} > .{third} {{\n  margin: {color % 64}px;\n  color: #{color:06x};\n}}\n")
    return "".join(lines)[:octets].encode()
