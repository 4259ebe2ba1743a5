"""An address to listen at, or to ask. Frozen."""

import re

from msgspec import Struct


class Listen(Struct, frozen=True):
    """Where to listen: ``3000``, ``127.0.0.1:3000``, ``[::1]:3000``. Without a host: all interfaces, IPv4 and IPv6."""

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """Raises ValueError with a sentence for people."""
        match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):)?([0-9]{1,5})", text.strip())
        if match is None or int(match[2]) > 65535:
            raise ValueError(f"{text!r} is not a place to listen: write 3000, 127.0.0.1:3000 or [::1]:3000")
        return cls(match[1].strip("[]") if match[1] else None, int(match[2]))

    def __str__(self) -> str:
        host = self.host or "*"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
