"""Which kinds of content become smaller when they are compressed. Pure.

All but those which are known to be compressed already, as thruster does. Added to its exceptions: woff and woff2,
office documents, packages and disk images, PDF (deflated inside, and read in ranges, which an encoded answer does not
have), and application/octet-stream (unknown, so mostly a download that is some archive).
"""

import functools
import re

_PACKED = re.compile(rb"compress|zip|snappy|lzma|xz|zstd|brotli|stuffit|lz4|7z|rar\b")
_NEVER = re.compile(
    rb"(?:application/(?:"
    rb"octet-stream|pdf|ogg|mp4|vnd\.apple\.pkpass|vnd\.android\.package-archive|java-archive|x-java-archive"
    rb"|(?:x-)?font-woff2?|vnd\.openxmlformats-officedocument\..*|vnd\.oasis\.opendocument\..*|vnd\.ms-[a-z]+\..*macroenabled.*"
    rb"|x-apple-diskimage|x-iso9660-image|x-rpm|x-redhat-package-manager|(?:x-|vnd\.)debian.*|x-deb|x-xpinstall"
    rb"|x-shockwave-flash|x-chrome-extension|grpc.*)"
    rb"|font/woff2?|video/.*|audio/.*|multipart/(?:x-mixed-replace|byteranges))"
)
_IMAGES = re.compile(rb"image/(?:svg\+xml|x-icon|vnd\.microsoft\.icon|bmp|x-bmp|x-ms-bmp|tiff)")


LONGEST = 128  # octets of a Content-Type; a longer one is taken for something that does not become smaller


def compressible(content_type: bytes) -> bool:
    """``content_type``: the header's value; parameters and case do not matter."""
    return len(content_type) <= LONGEST and _judge(content_type)


@functools.lru_cache(256)
def _judge(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if b"/" not in kind:
        return False
    if kind.startswith(b"text/"):
        return True
    if kind.startswith(b"image/"):
        return _IMAGES.fullmatch(kind) is not None
    return _NEVER.fullmatch(kind) is None and _PACKED.search(kind) is None
