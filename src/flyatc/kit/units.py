"""Parse and format durations and sizes. Pure."""

import re

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
LONGEST = 3650 * 86400.0  # ten years: more is a typing error, and system timers have limits
LARGEST = 2**63 - 1  # the limit of the system calls


def seconds(text: str) -> float:
    """Parse a duration: ``"5m"`` → 300.0, ``"1h30m"`` → 5400.0, ``"2.5"`` → 2.5 (a bare number is seconds).

    Raises ValueError with a sentence for people."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        value = float(text)
    elif text and not _DURATION.sub("", text):
        value = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
    else:
        raise ValueError(f"{text!r} is not a duration: write 500ms, 60s, 5m, 1h30m or 2d")
    if value > LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    return value


def written_seconds(value: float) -> str:
    """Return the shortest text that ``seconds`` parses to this, to the millisecond: 300.0 → ``"5m"``."""
    left, parts = round(value * 1000), []
    for unit, size in (("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


def size(text: str) -> int:
    """Parse a size: ``"64KB"`` → 65536, ``"1MiB"`` → 1048576, ``"10"`` → 10 (a bare number is bytes; K is 1024).

    Raises ValueError with a sentence for people."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write 512, 64KB, 10MB or 1GB")
    value = float(match[1]) * 1024 ** _POWER[match[2].lower()]
    if value > LARGEST:
        raise ValueError(f"{text!r} is larger than any file can be")
    return int(value)


def written_size(count: int) -> str:
    """Return the shortest text that ``size`` parses to this: 65536 → ``"64KB"``, 1000 → ``"1000"``."""
    for unit in ("", "KB", "MB", "GB"):
        if count == 0 or count % 1024:
            return f"{count}{unit}"
        count //= 1024
    return f"{count}TB"


def human_size(count: float) -> str:
    """1536 → ``"1.5 KB"``."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1023.95:  # above, .1f would say 1024.0
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def human_seconds(value: float) -> str:
    """Format a duration for people, in its two largest units: 0.0123 → ``"12 ms"``, 1.5 → ``"1.5 s"``, 95 →
    ``"1 min 35 s"``, 7500 → ``"2 h 5 min"``; from ten minutes on without seconds."""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0") + " s"
    whole = round(value)
    for size, unit, smaller, other in _UNITS:
        if whole >= size:
            rest = whole % size // smaller if smaller > 1 or whole < 600 else 0
            return f"{whole // size} {unit}" + (f" {rest} {other}" if rest else "")
    return f"{whole} s"
