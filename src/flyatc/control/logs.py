"""The journal told to an operator, and then what comes, as he can take it."""

from flyatc.control.call import Call
from flyatc.observe.journal import Entry, Journal


async def tell(journal: Journal, call: Call, address: str | None, lines: int, *, follow: bool) -> None:
    """The last ``lines``, as JSON lines; ``follow``: and all later ones, until the operator leaves.

    Who reads too slowly misses what the journal has no room for: memory is bounded."""
    entries = journal.since(0, address)
    number = journal.last
    await call.write(_joined(entries[max(0, len(entries) - lines) :]))
    while follow:
        if journal.last == number:
            await journal.more()
        entries = journal.since(number, address)
        number = journal.last
        if entries:
            await call.write(_joined(entries))


def _joined(entries: list[Entry]) -> bytes:
    return b"".join(line + b"\n" for _, _, line in entries)
