"""Paths that no client and no app of another tenant may read, and the check of static folders against them. Pure."""

from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath

from flyatc.config.errors import Faults, Key
from flyatc.config.schema import Config
from flyatc.config.schema_file import File, UserEntry
from flyatc.config.schema_sections import Folder


def private_paths(config: Config) -> dict[str, str]:
    """Return the absolute paths, each with what it is: the data of all tenants, the store, the configuration."""
    found = {config.server.data: "the data folder (server.data)", str(config.path): "the configuration file"}
    if config.storage.mode != "none" and config.storage.url.startswith("file:"):
        found[config.storage.url.removeprefix("file:")] = "the store (storage.url)"
    return {normpath(path): what for path, what in found.items()}


def check(file: File, config: Config, faults: Faults) -> None:
    """Report static folders that contain a private path or lie within one, and writable ones that lie within one
    although the app does not (if it does, they are not granted). Links are checked when a file is sent."""
    private = private_paths(config)
    for key, folder, directory in _static_folders(file, config):
        place = normpath(Path(directory, folder.folder))
        for path, what in private.items():
            if Path(path).is_relative_to(place):
                faults.add((*key, "folder"), f"{place} contains {what}, which any client could read: name another one")
            elif Path(place).is_relative_to(path):
                faults.add((*key, "folder"), f"{place} lies within {what}, which any client could read")
    for tenant in config.tenants.values():
        folder_of_app = Path(tenant.app.directory)
        outside = {path: what for path, what in private.items() if not folder_of_app.is_relative_to(path)}
        for name in tenant.app.writable:
            place = normpath(folder_of_app / name)
            within = next((what for path, what in outside.items() if Path(place).is_relative_to(path)), None)
            if within is not None:
                faults.add(("app", "writable"), f"{place} lies within {within}, which no app may write as a whole")


def _static_folders(file: File, config: Config) -> Iterator[tuple[Key, Folder, str]]:
    """Yield each static folder of each tenant with the key that it was written at, and the app's directory."""
    apps = [(tenant.user, tenant.name, tenant.app) for tenant in config.tenants.values()]
    if config.pattern is not None:
        apps += [("*", name, app) for name, app in config.pattern.tenants]
    for user, name, app in apps:
        for index, folder in enumerate(app.delivery.static):
            yield (*_written_at(file, user, name), "delivery", "static", index), folder, app.directory


def _written_at(file: File, user: str, name: str) -> Key:
    """Return the key of the innermost layer that sets ``delivery.static``."""
    entry = file.users.get(user)
    if isinstance(entry, UserEntry):
        tenants = entry.tenants
        layer = tenants.get(name) if isinstance(tenants, dict) else None
        if layer is not None and layer.delivery and layer.delivery.static:
            return ("users", user, "tenants", name)
        if entry.delivery and entry.delivery.static:
            return ("users", user)
    return ("app",)
