"""Check the separation of the apps for ``flyatc doctor``: user ids, Landlock, limits. Blocking."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from flyatc.config.schema import App, Config
from flyatc.process import members
from flyatc.process.isolation import limits, machine, reach, rules
from flyatc.process.isolation.sandbox import apps

Found = tuple[Literal["good", "doubt", "fault"], str, str, str]  # the fields of doctor.Finding
WHAT = "isolation"


def separation(config: Config, environ: Mapping[str, str]) -> list[Found]:
    found = machine.examine(environ)
    different = {(app.directory, app.isolation, *app.command[:1], *app.writable): app for app in apps(config)}
    hindrances = {hindrance: None for app in different.values() if (hindrance := _hindrance(config, app, environ))}
    return [
        *_user_ids(found, list(hindrances)),
        *_landlock(found),
        *(("doubt", WHAT, f"not separated: {one}", "") for one in _lacking(config, found, bool(hindrances))),
        ("good", WHAT, f"never separated: {rules.ALWAYS}", ""),
        *_limits(config, environ),
    ]


def _hindrance(config: Config, app: App, environ: Mapping[str, str]) -> str:
    if app.isolation in ("landlock", "off") or not app.command or "{" in app.command[0]:
        return ""
    return reach.hindrance(
        app.directory, app.command, app.env.get("PATH") or environ.get("PATH"), app.writable, Path(config.server.data)
    )


def _user_ids(found: rules.Machine, hindrances: list[str]) -> Iterator[Found]:
    if found.no_user_ids:
        yield ("doubt", "user ids", f"tenants have none of their own: {found.no_user_ids}",
                      "run flyatc as root, and each tenant gets one")  # fmt: skip
    elif hindrances:
        for hindrance in hindrances:
            yield ("doubt", "user ids", hindrance, "do that, and each tenant gets a user id of its own")
    else:
        yield ("good", "user ids", "each tenant gets a user id of its own", "")


def _landlock(found: rules.Machine) -> Iterator[Found]:
    if found.no_landlock:
        yield ("doubt", "landlock", f"it is not used: {found.no_landlock}", "take a kernel with Landlock")
    else:
        yield ("good", "landlock", f"ABI {found.abi}; 6 also covers signals and abstract sockets", "")


def _lacking(config: Config, found: rules.Machine, hindered: bool) -> list[str]:
    isolations = {app.isolation for app in apps(config)}
    if hindered and not found.no_user_ids:
        found = rules.Machine(found.root, found.abi, found.no_landlock, "see above")
    return rules.lacking(isolations, found)


def _limits(config: Config, environ: Mapping[str, str]) -> Iterator[Found]:
    if all(app.memory is None and app.cpu is None for app in apps(config)):
        return
    cgroups = members.Cgroups.of(environ.get(members.SWITCH))
    try:
        run = cgroups.make("doctor")
        _, text = limits.limit(run, 1 << 40, 1.0, 0)
        members.remove(run)
    finally:
        cgroups.close()
    if "each process" in text:
        text = "app.memory and app.cpu hold for each process: no cgroup (version 2) with memory and cpu can be made"
        yield ("doubt", "limits", text, "docs/isolation.md says how")
    else:
        yield ("good", "limits", "app.memory and app.cpu are kept by cgroups", "")
