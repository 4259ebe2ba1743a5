"""How a long step tells how far it has come."""

from typing import Protocol


class Progress(Protocol):
    def __call__(self, step: str, done: int, total: int) -> None:
        """``step`` is a word for people (copy, upload, download); done and total in bytes. Called on the loop."""


def silent(step: str, done: int, total: int) -> None:
    """Tells nobody."""
