"""What ``users."*".provision`` stands on."""

from collections.abc import Mapping

from flyatc.config.schema import Config
from flyatc.fly import api_line
from flyatc.fly.api_errors import ApiError


def lacking(config: Config, environ: Mapping[str, str]) -> str | None:
    """Why no machine can be made. None: it can, or none is asked for."""
    if config.pattern is None or not config.pattern.provision:
        return None
    if config.fly.metadata is None:
        return "fly.metadata is not set: name the key of metadata which says whose a machine is, such as customer_id"
    try:
        api_line.base(environ)
        api_line.token(environ)
    except ApiError as error:
        return str(error)
    return None
