"""Launch plan of a tenant's app: arguments, environment, directory. Pure: the environment is an argument.

Placeholders are ``{port} {user} {tenant} {prefix} {data}``, ``${NAME}`` and ``${NAME:-default}`` (as in a shell, the
default also stands for an empty variable); ``{{`` and ``}}`` are braces, so ``${{NAME}}`` reaches the app as
``${NAME}``. ``{secret}`` and ``{secret.base64}`` are known in the environment only. They are expanded in one pass over
the operator's text: inserted values are not expanded again. There is no shell, so one item of the command stays one
argument for any user name.

The app gets the daemon's environment *without the daemon's own variables*: the credentials of the store open every
customer's databases, so no app may have them. An app that needs such a variable must name it:
``env: {AWS_REGION: "${AWS_REGION}"}``. ``FLYATC_TENANT`` and ``FLYATC_USER`` name its tenant; ``app.env`` may set them.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flyatc.config import name_rules, placeholders
from flyatc.config.schema import Tenant
from flyatc.kit.errors import StartFailed

WITHHELD_PREFIXES = ("AWS_", "FLYATC_", "LITESTREAM_")
FOLDER_VARIABLE = "FLYATC_FOLDER"  # identifies processes after their data folder was deleted
WITHHELD = frozenset({"BUCKET_NAME", "DASHBOARD_PASSWORD", "FLY_API_TOKEN", "LOG_LEVEL", "PORT", "NOTIFY_SOCKET"})

_PART = re.compile(
    r"\{\{|\}\}|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}"
    r"|\{(?P<word>[a-z]+(?:\.[a-z0-9]+)?)\}|[{}]"
)


@dataclass(frozen=True)
class Launch:
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)  # it may hold secrets
    directory: str
    ready: str | None  # the path of the readiness request, placeholders expanded
    ready_host: str = "127.0.0.1"  # its Host header
    confinement: tuple[str, ...] = ()  # KEY=VALUE, see isolation.confine; empty: none


def words(tenant: Tenant, port: int) -> dict[str, str]:
    """Return the values of the placeholders in braces. ``{tenant}`` is the part after the user; it may be empty."""
    return {
        "port": str(port),
        "user": tenant.user,
        "tenant": tenant.name,
        "prefix": tenant.prefix,
        "data": str(tenant.data),
    }


def needs_secret(tenant: Tenant) -> bool:
    """Return whether a secret of the tenant is among its environment."""
    return any(text is not None and placeholders.has_secret(text) for text in tenant.app.env.values())


def secret_words(key: bytes, address: str) -> dict[str, str]:
    """Return the values of ``{secret}`` (64 bytes in hex, as Rails makes them) and ``{secret.base64}`` (32 bytes, as
    Laravel wants them) of the tenant at ``address``, derived from ``key`` by HMAC. Neither reveals the other.

    The labels keep them apart from all else that is derived from FLYATC_SECRET: see routing.request_signature."""
    of_tenants = hmac.digest(key, b"flyatc secrets of tenants", "sha256")
    return {
        "secret": hmac.digest(of_tenants, b"secret " + address.encode(), "sha512").hex(),
        "secret.base64": base64.b64encode(
            hmac.digest(of_tenants, b"secret.base64 " + address.encode(), "sha256")
        ).decode(),
    }


def expand(text: str, known: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return ``text`` with placeholders expanded. Raises StartFailed if one is unknown or its variable is not set."""

    def fill(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match["name"] is not None:
            return _variable(match["name"], match["default"], text, environ)
        if match["word"] in known:
            return known[match["word"]]
        names = " ".join(f"{{{name}}}" for name in known)
        raise StartFailed(
            f"{text!r} in tenants.yaml: {match[0]} is no placeholder; use {names}, or {{{{ }}}} for braces"
        )

    return _PART.sub(fill, text)


def _variable(name: str, default: str | None, text: str, environ: Mapping[str, str]) -> str:
    if default is not None:
        return environ.get(name) or default
    if name in environ:
        return environ[name]
    raise StartFailed(
        f"{text!r} in tenants.yaml needs the variable {name}, which is not set: "
        f"set it, or write ${{{name}:-default}} with a default"
    )


def literal(text: str) -> str:
    """Return what ``expand`` makes ``text`` of."""
    return text.replace("{", "{{").replace("}", "}}")


def plan(tenant: Tenant, port: int, environ: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> Launch:
    """Return the launch plan of the tenant. ``port`` 0: of a command, which has none. ``secrets``: from
    ``secret_words``. Raises StartFailed with a sentence for the operator."""
    app = tenant.app
    if not app.command:
        raise StartFailed(f"there is no command to run {tenant.address} with: set app.command in tenants.yaml")
    known = words(tenant, port)
    env = {**without_secrets(environ), "FLYATC_TENANT": tenant.address, "FLYATC_USER": tenant.user}
    if port:
        env["PORT"] = str(port)
    for name, text in app.env.items():
        if text is None:
            env.pop(name, None)
        else:
            env[name] = expand(text, {**known, **(secrets or {})}, environ)
    if FOLDER_VARIABLE in environ:
        env[FOLDER_VARIABLE] = environ[FOLDER_VARIABLE]
    return Launch(
        argv=tuple(expand(item, known, environ) for item in app.command),
        env=env,
        directory=app.directory,
        ready=None if app.ready is None else expand(app.ready, known, environ),
        ready_host=_host(app.ready_host, known, environ),
    )


def _host(text: str, known: Mapping[str, str], environ: Mapping[str, str]) -> str:
    host = expand(text, known, environ)
    if fault := name_rules.host(host):
        raise StartFailed(f"app.ready_host in tenants.yaml: {fault}")
    return host


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the daemon's own variables."""
    return {name: value for name, value in environ.items() if not _withheld(name)}


def _withheld(name: str) -> bool:
    return name in WITHHELD or name.startswith(WITHHELD_PREFIXES)
