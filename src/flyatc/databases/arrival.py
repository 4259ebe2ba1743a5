"""A file on its way to become a database."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arrival:
    """A whole file, verified and synced."""

    raw: Path
    message: str  # restored, seeded, adopted
    version: str | None
    octets: int
    began: float
