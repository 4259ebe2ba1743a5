"""A machine made like another, in any region, with volumes of its own where that has some."""

from collections.abc import Callable
from dataclasses import dataclass

from flyatc.fly import clones
from flyatc.fly.api_errors import ApiError, Conflict, NameTaken
from flyatc.fly.api_shapes import GONE, Machine
from flyatc.fly.machines_api import MachinesApi

Told = Callable[[str], None]  # gets a sentence for each volume which is made, or cannot be destroyed: they cost


@dataclass(frozen=True, slots=True)
class Copy:
    """``volumes``: made for it. ``new``: we made it, just now."""

    machine: Machine
    volumes: tuple[str, ...] = ()
    new: bool = True


async def copy(api: MachinesApi, like: str, name: str, region: str, key: str, user: str, told: Told) -> Copy:
    """``like``: its id. The copy is the user's by its metadata, and starts. One which has the name and is his already
    is taken for it. Raises ApiError; then no volume is left."""
    config = await api.config(like)
    volumes = await _volumes(api, clones.mounted(config), region, config.get("guest"), told)
    try:
        made = await api.create(clones.clone(config, key, user, volumes), region=region, name=name)
    except NameTaken as error:
        await _drop(api, volumes, told)
        there = await _named(api, name, key, user)
        if there is None:
            raise Conflict(f"{error}: set {key}={user} in its metadata, or destroy it") from error
        return Copy(there, new=False)
    except ApiError as error:  # of an answer that was lost the machine is looked for
        found = await _named(api, name, key, user) if error.done else None
        if found is None:
            await _drop(api, volumes, told)
            raise
        made = found
    return Copy(made, tuple(volumes))


async def undo(api: MachinesApi, copy: Copy, told: Told) -> None:
    """Raises ApiError."""
    await api.destroy(copy.machine.id, force=True)
    await _drop(api, list(copy.volumes), told)


async def _named(api: MachinesApi, name: str, key: str, user: str) -> Machine | None:
    his = await api.machines(metadata=(key, user))
    return next((one for one in his if one.name == name and one.state not in GONE), None)


async def _volumes(api: MachinesApi, like: list[str], region: str, guest: object, told: Told) -> list[str]:
    """One for each, of its name and its size, and empty: what is to be in them comes from the store."""
    if not like:
        return []
    known = {one.id: one for one in await api.volumes()}
    made: list[str] = []
    try:
        for volume in like:
            if volume not in known:
                raise ApiError(f"the volume {volume}, which is to be copied, is not listed")
            one = known[volume]
            new = await api.create_volume(one.name, region, one.size_gb, guest if isinstance(guest, dict) else None)
            made.append(new.id)
            told(f"volume {new.id} is made, of {one.size_gb} GB")
    except ApiError:
        await _drop(api, made, told)
        raise
    return made


async def _drop(api: MachinesApi, volumes: list[str], told: Told) -> None:
    """They were made for a machine that was not. One which is mounted all the same cannot be destroyed."""
    for volume in volumes:
        try:
            await api.destroy_volume(volume)
        except ApiError as error:
            told(f"volume {volume} is left, and nobody uses it: {error}")
