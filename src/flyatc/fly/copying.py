"""A machine made like another, in any region, with volumes of its own where that has some."""

from flyatc.fly import clones
from flyatc.fly.api_errors import ApiError, NameTaken
from flyatc.fly.api_shapes import GONE, Machine
from flyatc.fly.machines_api import MachinesApi


async def copy(api: MachinesApi, like: str, name: str, region: str, key: str, user: str) -> Machine:
    """``like``: its id. The copy is the user's by its metadata, and starts. One which has the name and is his already
    is taken for it. Raises ApiError."""
    config = await api.config(like)
    volumes = await _volumes(api, clones.mounted(config), region, config.get("guest"))
    try:
        return await api.create(clones.clone(config, key, user, volumes), region=region, name=name)
    except ApiError as error:
        found = await _named(api, name, key, user) if error.done or isinstance(error, NameTaken) else None
        if found is None or found.id == getattr(error, "machine", None):
            await _drop(api, volumes)
        if found is None:
            raise
        return found


async def _named(api: MachinesApi, name: str, key: str, user: str) -> Machine | None:
    his = await api.machines(metadata=(key, user))
    return next((one for one in his if one.name == name and one.state not in GONE), None)


async def _volumes(api: MachinesApi, like: list[str], region: str, guest: object) -> list[str]:
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
    except ApiError:
        await _drop(api, made)
        raise
    return made


async def _drop(api: MachinesApi, volumes: list[str]) -> None:
    """They were made for a machine that was not. One which is mounted all the same cannot be destroyed."""
    for volume in volumes:
        try:
            await api.destroy_volume(volume)
        except ApiError:
            continue
