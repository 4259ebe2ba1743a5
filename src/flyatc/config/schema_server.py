"""The sections ``server`` and ``dashboard`` of tenants.yaml."""

from typing import Annotated

from msgspec import Meta, Struct

from flyatc.config.schema_sections import Listen, Seconds


class Server(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: Annotated[
        Listen, Meta(description="port or host:port for clients; $PORT wins over the port, $FLYATC_HOST over the host")
    ] = Listen(None, 3000)
    root: Annotated[str, Meta(description="the path before the user segment, e.g. /customers")] = "/"
    data: Annotated[
        str,
        Meta(
            description="folder of the running databases; the volume on Fly. Relative to this file; $FLYATC_DATA wins"
        ),
    ] = "./data"
    user_ids: Annotated[
        int,
        Meta(ge=1000, le=2_000_000_000, description="the first of the user ids that tenants get; see app.isolation. "
             "No other program of the machine may use ids from there on"),
    ] = 200_000  # fmt: skip
    shutdown_timeout: Annotated[
        Seconds, Meta(description="from SIGTERM to the end; keep it below Fly's kill_timeout")
    ] = 25.0
    control: Annotated[
        Listen | None,
        Meta(description="address for /metrics and /healthz; off by default; a bare port is loopback"),
    ] = None
    health: Annotated[
        str | None,
        Meta(description="a path that the daemon itself answers with 200, for the platform's checks, e.g. /up"),
    ] = None
    forward_headers: Annotated[
        bool, Meta(description="true: X-Forwarded-* from the client's side are kept and extended; false: replaced")
    ] = True
    trusted_hops: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="proxies in front whose X-Forwarded-For entry names the client in our log; "
             "default 0, and on Fly its Fly-Client-IP"),
    ] = None  # fmt: skip


class Dashboard(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: Annotated[
        str, Meta(description="where it is served; all below it is its own, so it must be no address of a user")
    ] = "/_flyatc"
    password: Annotated[
        str | None,
        Meta(description="of the operator: ${DASHBOARD_PASSWORD}, or ${FLYATC_…}, which no app gets; or a hash that "
             "htpasswd makes (bcrypt, argon2); or the password itself, at least 12 characters. Without one there is a "
             "dashboard only by flyatc serve --insecure, on loopback"),
    ] = None  # fmt: skip
    host: Annotated[
        str | None,
        Meta(description="a host name of its own, such as admin.example.com: the dashboard is served there and nowhere "
             "else, and no app is, so that no page of an app shares its origin"),
    ] = None  # fmt: skip
