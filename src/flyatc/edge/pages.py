"""The pages that flyatc shows by itself: ours, or the operator's (``pages:``). Read once per configuration."""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import msgspec

TITLES = {
    400: ("This request cannot be understood", "Something between you and this server wrote it in an unexpected way."),
    404: ("There is nothing here", "Check the address: it may be misspelled, or what stood here has moved."),
    405: ("This is not possible here", "The address exists, but not for this kind of request."),
    408: ("The request took too long", "It did not arrive completely. Please try again."),
    411: ("The size is missing", "The server takes uploads only when it is told beforehand how large they are."),
    413: ("This is too large", "The server does not take uploads of this size."),
    414: ("The address is too long", "Check the address: it may have been put together wrongly."),
    431: ("The request's head is too large", "Deleting the cookies of this site often helps."),
    502: ("The application did not answer", "It has been told. Please try again in a moment."),
    503: ("Not available at the moment", "Please try again in a moment."),
    504: ("The application took too long", "It did not answer in time. Please try again in a moment."),
}
WAITING = ("One moment, please", "This application is being started for you. The page will appear by itself.")
IN_LINE = "Other applications are being started first. Place in line: {}. The page will appear by itself."
_UNKNOWN = ("Something went wrong", "Please try again in a moment.")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">{refresh}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2733; --soft: #5d6b7a; --paper: #f6f7f9; --line: #d9dee5;
  --accent: #2f6fde }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8edf3; --soft: #93a1b1; --paper: #12171d; --line: #2a333d;
  --accent: #78a6ff }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }}
main {{ width: min(34rem, 100% - 3rem); padding: 3rem 0 }}
h1 {{ margin: 0 0 .6rem; font-size: clamp(1.5rem, 4vw, 2rem); line-height: 1.2; letter-spacing: -.01em;
  text-wrap: balance }}
p {{ margin: 0; color: var(--soft) }}
small {{ display: block; margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .8125rem; overflow-wrap: anywhere }}
.bar {{ height: 4px; margin-top: 2rem; border-radius: 2px; background: var(--line); overflow: hidden }}
.bar i {{ display: block; width: 35%; height: 100%; border-radius: 2px; background: var(--accent);
  animation: go 1.4s ease-in-out infinite }}
@keyframes go {{ from {{ transform: translateX(-100%) }} to {{ transform: translateX(290%) }} }}
@media (prefers-reduced-motion: reduce) {{ .bar i {{ animation: none; width: 100%; opacity: .5 }} }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>{bar}
<small>{foot}</small>
</main>
</body>
</html>
"""


def builtin(status: int, identity: str, text: str | None = None) -> bytes:
    """``text``: other words than ours, not yet escaped."""
    title, ours = TITLES.get(status, _UNKNOWN)
    text = ours if text is None else escape(text)
    foot = f"{status} · request {escape(identity)}"
    return _PAGE.format(title=title, text=text, foot=foot, refresh="", bar="").encode()


def waiting(seconds: int, identity: str, place: int | None = None) -> bytes:
    """``place``: in line to be started; None: it is being started."""
    text, state = (WAITING[1], "starting") if place is None else (IN_LINE.format(place), "queued")
    refresh = f'\n<meta http-equiv="refresh" content="{seconds}">'
    foot, bar = f"{state} · request {escape(identity)}", '\n<div class="bar" role="progressbar"><i></i></div>'
    return _PAGE.format(title=WAITING[0], text=text, foot=foot, refresh=refresh, bar=bar).encode()


def problem(status: int, title: str, identity: str, retry_after: int | None, place: int | None = None) -> bytes:
    """The same for programs: one JSON object."""
    what: dict[str, object] = {"error": title, "status": status, "request_id": identity}
    if retry_after is not None:
        what["retry_after"] = retry_after
    if place is not None:
        what["queued"] = place
    return msgspec.json.encode(what) + b"\n"


class Pages:
    """The operator's own pages, by the path of their file."""

    def __init__(self, files: Iterable[str]) -> None:
        self._bodies: dict[str, bytes] = {}
        for file in set(files):
            try:
                self._bodies[file] = Path(file).read_bytes()
            except OSError:  # it was there when the configuration was checked; ours serves as well
                continue

    def own(self, pages: Mapping[str, str], kind: str) -> bytes | None:
        """``kind``: a status, or ``waiting``."""
        file = pages.get(kind)
        return None if file is None else self._bodies.get(file)
