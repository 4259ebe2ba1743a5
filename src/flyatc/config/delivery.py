"""How answers are delivered: the section ``delivery:`` of an app, and what the daemon has for all of them."""

import re
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from flyatc.config.amounts import Octets, Seconds, SomeOctets

Coding = Literal["zstd", "br", "gzip"]

MOST_JITTER = 65_533  # octets: what fits into gzip's comment

_PLACE = re.compile(r"(?:/[^/?#%\\\x00-\x20\x7f]+)*/?")
_VALUE = re.compile(r"[\t -~]*")


class Compression(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: bodies go out as the app made them")] = True
    min_size: Annotated[Octets, Meta(description="smaller bodies are not compressed, where the size is known")] = 1024
    codings: Annotated[
        list[Coding], Meta(description="what visitors are offered; where they like several equally, the first")
    ] = field(default_factory=lambda: ["zstd", "br", "gzip"])
    jitter: Annotated[
        int, Meta(ge=0, le=MOST_JITTER, description="most octets of padding of a body, against BREACH; 0: none")
    ] = 32
    disable_on_auth: Annotated[
        bool, Meta(description="true: no compression with cookies, Authorization, or answers for one visitor only")
    ] = False


class Sendfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[
        bool, Meta(description="send the file which the app names in X-Sendfile or X-Accel-Redirect")
    ] = True
    roots: Annotated[
        list[str],
        Meta(
            description="folders whose files may be sent, relative to this file, placeholders as in env; "
            "none: the app's directory and the tenant's data"
        ),
    ] = field(default_factory=list)


class Folder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry of ``static:``. The folder with the longest path that fits is asked first."""

    path: Annotated[str, Meta(description="where it is seen, below the tenant's prefix: /assets, or / for all")]
    folder: Annotated[str, Meta(description="the folder; relative to the app's directory")]
    max_age: Annotated[
        Seconds | None, Meta(description="sends Cache-Control: public, max-age=…; null: no such header")
    ] = None
    immutable: Annotated[bool, Meta(description="with max_age: names with a digest, whose content never changes")] = (
        False
    )
    cache_control: Annotated[str | None, Meta(description="the whole header instead of max_age and immutable")] = None
    index: Annotated[list[str], Meta(description="what is sent for a folder: the first that exists; []: nothing")] = (
        field(default_factory=lambda: ["index.html"])
    )
    precompressed: Annotated[bool, Meta(description="send app.css.br, .zst or .gz where it lies beside app.css")] = True
    fallthrough: Annotated[bool, Meta(description="what is not there is asked of the app; false: 404")] = True

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not _PLACE.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is not a path: write / or /assets, without % and spaces")
        if self.cache_control is not None and not _VALUE.fullmatch(self.cache_control):
            raise ValueError(f"{self.cache_control!r} cannot stand in a header")
        for name in self.index:
            if "/" in name or name.startswith(".") or not name:
                raise ValueError(f"{name!r} is not the name of an index file")

    @property
    def header(self) -> bytes | None:
        """The value of Cache-Control."""
        if self.cache_control is not None:
            return self.cache_control.encode() or None
        if self.max_age is None:
            return None
        return b"public, max-age=%d" % self.max_age + (b", immutable" if self.immutable else b"")


class Caching(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: every request goes to the app")] = True


class Delivery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    compression: Annotated[Compression, Meta(description="answers made smaller on their way")] = Compression()
    sendfile: Annotated[Sendfile, Meta(description="files which the app names instead of sending them")] = Sendfile()
    static: Annotated[list[Folder], Meta(description="folders which are served without the app")] = field(
        default_factory=list
    )
    cache: Annotated[Caching, Meta(description="answers kept as their Cache-Control permits")] = Caching()


class DeliveryOverrides(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of Delivery, each of which may be left out."""

    compression: Compression | UnsetType = UNSET
    sendfile: Sendfile | UnsetType = UNSET
    static: list[Folder] | UnsetType = UNSET
    cache: Caching | UnsetType = UNSET


class Cache(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size: Annotated[Octets, Meta(description="memory for the answers of all tenants; 0: nothing is cached")] = 64 << 20
    item: Annotated[SomeOctets, Meta(description="the largest body that is cached")] = 1 << 20
