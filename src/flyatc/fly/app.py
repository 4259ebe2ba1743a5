"""Which app on Fly is meant, where nobody runs inside it: said, in the environment, or in fly.toml as for flyctl."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from flyatc.fly.machine import APP
from flyatc.kit.errors import FlyatcError

FILE = "fly.toml"


def name(given: str | None, environ: Mapping[str, str], folder: Path) -> str:
    """Raises FlyatcError where nobody says it, or it is no name."""
    found = given or environ.get("FLY_APP_NAME") or _of_file(folder / FILE)
    if not found:
        raise FlyatcError(
            f"which app is meant? Say --app NAME, set FLY_APP_NAME, or go where its {FILE} is (not in {folder})"
        )
    if APP.fullmatch(found) is None:
        raise FlyatcError(f"{found!r} is no name of an app on Fly")
    return found


def _of_file(path: Path) -> str | None:
    try:
        found = tomllib.loads(path.read_text()).get("app")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FlyatcError(f"{path} cannot be read: {error}. Say --app NAME") from error
    return found if isinstance(found, str) else None
