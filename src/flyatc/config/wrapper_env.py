"""Settings of ``flyatc run`` from the environment: thruster's variables, with thruster's names and defaults. Pure.

A variable is read as ``FLYATC_NAME``, ``THRUSTER_NAME`` or ``NAME``: the first that is set. An empty value stands for
the default. All invalid values are reported together; thruster silently uses the default instead.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from flyatc.config.errors import Faults
from flyatc.config.schema_sections import MOST_JITTER, CacheMode
from flyatc.kit import units

PREFIXES = ("FLYATC_", "THRUSTER_", "")

_TRUE = frozenset(("1", "t", "true", "y", "yes", "on"))
_FALSE = frozenset(("0", "f", "false", "n", "no", "off"))
_OF_TLS = ("ACME_DIRECTORY", "EAB_KID", "EAB_HMAC_KEY", "STORAGE_PATH", "HTTPS_PORT")
_NO_TLS = "flyatc speaks no TLS: unset it. Fly ends TLS before us; elsewhere put kamal-proxy or Caddy in front"
_NO_H2C = "flyatc speaks HTTP/1.1: unset it. Fly, kamal-proxy and Caddy take HTTP/2 and speak HTTP/1.1 to us"


class WrapperSettings(Struct, frozen=True, kw_only=True):
    """Settings in seconds and bytes; 0 is no limit, unless stated otherwise."""

    host: str | None = None  # address for clients, from FLYATC_HOST alone; None: all
    http_port: int = 80  # for clients; 0: any free port
    target_port: int = 3000  # the app's PORT
    verify_port: bool = True  # only a process of the app may listen there
    start_timeout: float = 60.0  # how long requests wait until the app first listens; 0: not at all
    http_idle_timeout: float = 60.0  # 0: as http_read_timeout
    http_read_timeout: float = 30.0  # for a head to arrive, and for a pause in a body
    http_write_timeout: float = 30.0  # in which a client reads none of a response
    max_request_body: int = 0
    forward_headers: bool = True
    bad_gateway_page: str = "./public/502.html"  # "": none
    log_requests: bool = True
    debug: bool = False
    cache_size: int = 64 << 20  # 0: nothing is cached
    cache_mode: CacheMode = "assets"  # delivery.cache.mode of the daemon
    max_cache_item_size: int = 1 << 20
    x_sendfile_enabled: bool = True
    compression_enabled: bool = True
    compression_disable_on_auth: bool = False
    compression_jitter: int = 32  # bytes at most; 0: off
    ignored: tuple[str, ...] = ()  # variables that are set and have no effect here

    @property
    def idle_timeout(self) -> float:
        return self.http_idle_timeout or self.http_read_timeout


def read(environ: Mapping[str, str]) -> WrapperSettings:
    """Read the settings. Raises ConfigError with every fault, each naming its variable."""
    faults = Faults("environment", None)
    values: dict[str, object] = {}
    for field, (name, parse) in _VARIABLES.items():
        variable, text = _find(name, environ)
        if (parse is not str and not text.strip()) or variable not in environ:
            continue
        try:
            values[field] = parse(text)
        except ValueError as error:
            way_out = "" if variable != name else f"; if it is meant for your app, set FLYATC_{name}, which comes first"
            faults.add_environment(variable, f"{error}{way_out}")
    _refuse(environ, faults)
    host = environ.get("FLYATC_HOST") or None
    settings = WrapperSettings(**values, host=host, ignored=tuple(_ignored(environ)))  # type: ignore[arg-type]  # one parser a field
    if settings.http_port == settings.target_port:
        variable, _ = _find("TARGET_PORT", environ)
        faults.add_environment(variable, f"{settings.target_port} is HTTP_PORT too: clients and the app need one each")
    faults.raise_if_any()
    return settings


def _find(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable used for ``name`` and its text; if none is set, the name itself and ``""``."""
    for prefix in PREFIXES:
        if prefix + name in environ:
            return prefix + name, environ[prefix + name]
    return name, ""


def _refuse(environ: Mapping[str, str], faults: Faults) -> None:
    variable, text = _find("TLS_DOMAIN", environ)
    if any(domain.strip() for domain in text.split(",")):
        faults.add_environment(variable, _NO_TLS)
    variable, text = _find("H2C_ENABLED", environ)
    try:
        if text.strip() and _flag(text):
            faults.add_environment(variable, _NO_H2C)
    except ValueError as error:
        faults.add_environment(variable, str(error))


def _ignored(environ: Mapping[str, str]) -> Iterator[str]:
    known = {name for name, _ in _VARIABLES.values()} | {"TLS_DOMAIN", "H2C_ENABLED"}
    for name in _OF_TLS:
        variable, text = _find(name, environ)
        if text:
            yield variable
    for variable in sorted(environ):
        name = variable.removeprefix("THRUSTER_")
        if name != variable and name not in known and name not in _OF_TLS:
            yield variable


def _flag(text: str) -> bool:
    flag = text.strip().lower()
    if flag in _TRUE or flag in _FALSE:
        return flag in _TRUE
    raise ValueError(f"{text!r} is neither on nor off: write 1 or 0, true or false, on or off")


def _port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text.strip()) is None or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port: it must be a number up to 65535")
    return int(text)


def _target(text: str) -> int:
    if not (port := _port(text)):
        raise ValueError("the app needs a known port: 0 is none")
    return port


def _seconds(text: str) -> float:
    return units.seconds(_positive(text))


def _size(text: str) -> int:
    return units.size(_positive(text))


def _jitter(text: str) -> int:
    if (size := _size(text)) > MOST_JITTER:
        raise ValueError(f"{text!r} is too much: {MOST_JITTER} at most")
    return size


def _mode(text: str) -> CacheMode:
    match text.strip().lower():
        case "assets":
            return "assets"
        case "rfc":
            return "rfc"
    raise ValueError(f"{text!r} is no mode of the cache: write assets or rfc")


def _positive(text: str) -> str:
    """Remove the sign; a negative number becomes 0, as in thruster."""
    return "0" if re.fullmatch(r"\s*-[0-9]+\s*", text) else re.sub(r"^\s*\+(?=[0-9])", "", text)


_VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "http_port": ("HTTP_PORT", _port),
    "target_port": ("TARGET_PORT", _target),
    "verify_port": ("VERIFY_PORT", _flag),
    "start_timeout": ("START_TIMEOUT", _seconds),
    "http_idle_timeout": ("HTTP_IDLE_TIMEOUT", _seconds),
    "http_read_timeout": ("HTTP_READ_TIMEOUT", _seconds),
    "http_write_timeout": ("HTTP_WRITE_TIMEOUT", _seconds),
    "max_request_body": ("MAX_REQUEST_BODY", _size),
    "forward_headers": ("FORWARD_HEADERS", _flag),
    "bad_gateway_page": ("BAD_GATEWAY_PAGE", str),
    "log_requests": ("LOG_REQUESTS", _flag),
    "debug": ("DEBUG", _flag),
    "cache_size": ("CACHE_SIZE", _size),
    "cache_mode": ("CACHE_MODE", _mode),
    "max_cache_item_size": ("MAX_CACHE_ITEM_SIZE", _size),
    "x_sendfile_enabled": ("X_SENDFILE_ENABLED", _flag),
    "compression_enabled": ("GZIP_COMPRESSION_ENABLED", _flag),
    "compression_disable_on_auth": ("GZIP_COMPRESSION_DISABLE_ON_AUTH", _flag),
    "compression_jitter": ("GZIP_COMPRESSION_JITTER", _jitter),
}
