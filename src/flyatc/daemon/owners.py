"""Who owns whom, as the store tells it; for commands, which need no daemon."""

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct

from flyatc.config.schema import Config
from flyatc.kit import tasks
from flyatc.kit.errors import OwnershipUnknown
from flyatc.ownership import identity, record, taking
from flyatc.ownership.record import Session
from flyatc.ownership.rules import Rules
from flyatc.ownership.swap import RecordStore
from flyatc.ownership.terms import Terms

AT_ONCE = 8  # requests


class Owner(Struct, frozen=True, kw_only=True):
    """``state``: held, released, dirty, removed; unknown where the record cannot be read. ``to``: the machine which it
    is released to. ``sign``: seconds since the machine's last sign of life; None: it has no session. ``version``: of
    flyatc there. ``note``: what is to be known beyond that."""

    user: str
    state: str
    epoch: int = 0
    machine: str = ""
    region: str = ""
    app: str = ""
    to: str = ""
    here: bool = False  # this machine
    sign: float | None = None
    version: str = ""
    note: str = ""


async def look(config: Config, environ: Mapping[str, str], store: RecordStore, users: Iterable[str]) -> list[Owner]:
    """Those who have ever been owned."""
    me = await asyncio.to_thread(partial(identity.name, Path(config.server.data), environ))
    rules, turns = Rules(Terms.of(config.storage.session_ttl)), asyncio.Semaphore(AT_ONCE)

    async def one(user: str) -> Owner | None:
        async with turns:
            try:
                return await _look(store, rules, user, me)
            except OwnershipUnknown as error:
                return Owner(user=user, state="unknown", note=str(error))

    found = await tasks.every((one(user) for user in users), "look at an owner")
    return [owner for owner in found if owner is not None]


async def _look(store: RecordStore, rules: Rules, user: str, me: str | None) -> Owner | None:
    found = await taking.look(store, user)
    if found is None:
        return None
    owner, holder = found[0], found[0].holder
    session = await taking.read(store, record.session_key(holder.machine), Session)
    sign = session[1].age if session is not None else None
    return Owner(
        user=user,
        state=owner.state.value,
        epoch=owner.epoch,
        machine=holder.machine,
        region=holder.region,
        app=holder.app,
        to=owner.to.machine if owner.to is not None else "",
        here=holder.machine == me,
        sign=sign,
        version=session[0].version if session is not None else "",
        note=_note(user, rules, owner, session[0] if session is not None else None, sign or 0.0),
    )


def _note(user: str, rules: Rules, owner: record.Owner, session: Session | None, sign: float) -> str:
    if owner.state is record.State.REMOVED:
        return f"no machine serves it: flyatc users add {user}, or flyatc release {user} --undo-remove, adds it again"
    if owner.to is not None:
        return f"for {owner.to}, which takes it at the next visit"
    if owner.state is record.State.RELEASED:
        return "free: whoever is visited first takes it"
    if owner.state is record.State.DIRTY:
        return f"it could not save all: {owner.why}" if owner.why else "it could not save all"
    if session is None:
        return "its session has vanished from the store"
    dead = rules.dead(session, sign)
    if dead is not None:
        return f"{dead}: whoever is visited first takes it"
    return "" if session.boot == owner.holder.boot else "held by an earlier run of that machine's daemon"
