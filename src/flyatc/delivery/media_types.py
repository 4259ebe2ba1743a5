"""The media type of a file, by the end of its name. The same on every machine: /etc/mime.types is not asked."""

import mimetypes

UNKNOWN = b"application/octet-stream"  # a browser saves it, and does not guess that it is a page

_OURS = {  # what Python's own table lacks, or says in a way of the past
    "apng": "image/apng",
    "avif": "image/avif",
    "br": "application/octet-stream",
    "bz2": "application/x-bzip2",
    "cjs": "text/javascript",
    "flac": "audio/flac",
    "gz": "application/gzip",
    "heic": "image/heic",
    "ico": "image/x-icon",
    "js": "text/javascript",
    "jsonld": "application/ld+json",
    "jxl": "image/jxl",
    "m4a": "audio/mp4",
    "map": "application/json",
    "md": "text/markdown",
    "mjs": "text/javascript",
    "ogg": "audio/ogg",
    "otf": "font/otf",
    "rss": "application/rss+xml",
    "toml": "application/toml",
    "ttf": "font/ttf",
    "vtt": "text/vtt",
    "wasm": "application/wasm",
    "webm": "video/webm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xz": "application/x-xz",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zst": "application/zstd",
}


def _line(kind: str) -> bytes:
    return (kind + "; charset=utf-8" if kind.startswith("text/") else kind).encode()


_TYPES = {
    ending.removeprefix(".").encode(): _line(kind) for ending, kind in mimetypes.MimeTypes().types_map[True].items()
} | {ending.encode(): _line(kind) for ending, kind in _OURS.items()}


def of(name: bytes) -> bytes:
    """``b"app-1f.css"`` → ``b"text/css; charset=utf-8"``; any path will do for a name."""
    stem, dot, ending = name.rpartition(b".")
    if not dot or stem.endswith(b"/") or not stem:
        return UNKNOWN
    return _TYPES.get(ending.lower(), UNKNOWN)
