"""What tenants.yaml may say of limits and of the log: its sections ``limits`` and ``log``."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from flyatc.config.amounts import Octets, Seconds, SomeOctets


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    running: Annotated[
        int, Meta(ge=1, description="apps at the same time; the least recently used idle one makes room")
    ] = 20
    starting: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="apps being started at the same time, from spawn until ready; the others wait in line. "
             "Default: two for each core"),
    ] = None  # fmt: skip
    held: Annotated[
        int, Meta(ge=0, description="requests held by flyatc pause at the same time, for all tenants; 503 above")
    ] = 1000
    request_body: Annotated[Octets, Meta(description="largest request body, 413 above; 0: no limit")] = 0
    request_header: Annotated[SomeOctets, Meta(description="largest request head, 431 above")] = 65536
    header_timeout: Annotated[
        Seconds, Meta(description="longest time for a request's head to arrive, 408 after; 0: none")
    ] = 30.0
    body_timeout: Annotated[Seconds, Meta(description="longest pause in a request's body, 408 after; 0: none")] = 60.0
    idle_timeout: Annotated[
        Seconds, Meta(description="a kept-alive connection without a request is closed after; 0: none")
    ] = 60.0
    write_timeout: Annotated[
        Seconds, Meta(description="longest time in which a visitor takes none of an answer; 0: none")
    ] = 300.0


class Logging(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto: text in colour on a terminal, else JSON lines")
    ] = "auto"
    requests: Annotated[bool, Meta(description="false: no line for each request")] = True
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least level of the daemon's own events")
    ] = "info"
