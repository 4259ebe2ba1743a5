"""Plan the steps to add, remove or move a user from the machines, their metadata and the lease records. Pure.

A plan made again after an interruption continues where the previous one stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flyatc.admin.store_access import Owner
from flyatc.admin.users_steps import (
    Cordon,
    Destroy,
    Make,
    Mark,
    Plan,
    Release,
    Remove,
    Restore,
    Settle,
    Step,
    Stop,
    Unmark,
    Wake,
)
from flyatc.config.schema import Pin
from flyatc.fly import new_machine
from flyatc.fly.api_types import Machine
from flyatc.fly.new_machine import LEFT
from flyatc.kit.errors import FlyatcError

UNSAVED = ("held", "dirty", "unknown")  # lease states in which the machine may have unsaved data


@dataclass(frozen=True)
class Seen:
    """State of an app. ``machines``: oldest first, without those being destroyed. ``key``: the metadata key which names
    a machine's user. ``owners``: by user, for users with a lease record; None if unavailable, ``why`` says why."""

    app: str
    key: str
    machines: Sequence[Machine]
    owners: Mapping[str, Owner] | None
    why: str = ""

    def user_of(self, machine: Machine) -> str | None:
        return machine.metadata.get(self.key)

    def of(self, user: str) -> list[Machine]:
        """Machines of the user, by their metadata."""
        return [one for one in self.machines if self.user_of(one) == user]

    def left_by(self, user: str) -> list[Machine]:
        """Machines which the user was moved away from and which have no user now."""
        return [one for one in self.machines if one.metadata.get(LEFT) == user and self.user_of(one) is None]

    def find(self, name: str) -> Machine | None:
        """Machine with this id or name."""
        return next((one for one in self.machines if name in (one.id, one.name)), None)

    def owner(self, user: str) -> Owner | None:
        return None if self.owners is None else self.owners.get(user)

    def held_by(self, machine: Machine) -> list[str]:
        """Users whose unsaved data the machine may have."""
        return sorted(
            user for user, one in (self.owners or {}).items() if one.machine == machine.id and one.state in UNSAVED
        )


SETTLE = 15.0  # seconds; lifetime of a DNS answer: see fly.user_lookup
_AT_REST = ("stopped", "created", "suspended", "failed")  # states in which a machine can be destroyed
_RUNS = "started"
REMOVED = "removed"  # lease state


class Impossible(FlyatcError):
    """No plan is possible; the message says why and what to do."""


# --- add ---


def add(seen: Seen, user: str, region: str | None, like: str | None) -> Plan:
    """Plan a machine for the user. Raises Impossible."""
    own = seen.of(user)
    if own:
        again = _restored(seen, user, own[0].id)
        steps = (*_awake(own[0]), *again) if again else ()
        return Plan(user, steps, _there_already(seen, user, own, region), own[0].id)
    half = seen.find(new_machine.name_of(user))
    if half is not None:
        if seen.user_of(half) is not None:
            raise Impossible(f"machine {half.id} named {half.name} is not that of {user}: destroy it, or mark it")
        steps = (*_marked(seen, half, user), *_restored(seen, user, half.id))
        return Plan(user, steps, _notes(seen, user, half.id), half.id)
    model = _model(seen, like, region)
    made = Make(new_machine.name_of(user), region or model.region, model.id)
    return Plan(user, (made, *_restored(seen, user, made.name)), _notes(seen, user, made.name), made.name)


def _restored(seen: Seen, user: str, machine: str) -> tuple[Step, ...]:
    """Restore the user if removed, or if that is unknown."""
    owner = seen.owner(user)
    removed = seen.owners is None or (owner is not None and owner.state == REMOVED)
    return (Restore(machine, user),) if removed else ()


def _there_already(seen: Seen, user: str, own: Sequence[Machine], region: str | None) -> tuple[str, ...]:
    notes = [f"{user} has machine {one.id} ({one.name}) in {one.region}, which is {one.state}" for one in own]
    if region is not None and all(one.region != region for one in own):
        notes.append(f"to move it to {region}: flyatc users move {user} --region {region}")
    return tuple(notes)


def _notes(seen: Seen, user: str, machine: str) -> tuple[str, ...]:
    owner = seen.owner(user)
    if owner is None or owner.machine == machine:
        return ()
    if owner.state in UNSAVED:
        return (f"machine {owner.machine} holds {user} now; flyatc users move {user} --to {machine} hands it over",)
    return (f"machine {owner.machine} held {user} last; the new machine continues with what is in the store",)


def _model(seen: Seen, like: str | None, region: str | None) -> Machine:
    if like is not None:
        return _named(seen, like)
    if not seen.machines:
        raise Impossible(f"app {seen.app} has no machine to copy: make the first with fly deploy")

    def fits(one: Machine) -> tuple[bool, bool, bool]:
        return (seen.user_of(one) is None, one.region != region, one.state != _RUNS)

    return min(seen.machines, key=fits)


def _named(seen: Seen, name: str) -> Machine:
    found = seen.find(name)
    if found is None:
        raise Impossible(f"app {seen.app} has no machine {name}: flyatc machines lists them")
    return found


def _marked(seen: Seen, machine: Machine, user: str) -> tuple[Step, ...]:
    """Steps which start the machine and write the user into its metadata."""
    steps = _awake(machine)
    if seen.user_of(machine) != user or LEFT in machine.metadata:
        steps.append(Mark(machine.id, seen.key, user))
    return tuple(steps)


# --- remove ---


def remove(seen: Seen, user: str) -> Plan:
    """Plan the end of the user's machines. Raises Impossible if one of them has unsaved data of other users."""
    own = [*seen.of(user), *seen.left_by(user)]
    at = _where_to_remove(seen, user, own)
    steps: list[Step] = []
    if at is not None and at not in own:
        steps += [*_awake(at), Remove(at.id, user)]
    for machine in own:
        steps += _removed(seen, user, machine, last=machine is at)
    return Plan(user, tuple(steps), _kept(own) if own else (f"no machine of {seen.app} is {user}'s",))


def _where_to_remove(seen: Seen, user: str, own: Sequence[Machine]) -> Machine | None:
    """The machine which holds the user, so that all is saved; else a running one, preferably the user's own. None:
    there is no machine, or the user is removed already."""
    owner = seen.owner(user)
    if owner is not None and owner.state == REMOVED:
        return None
    holder = seen.find(owner.machine) if owner is not None and owner.state in UNSAVED else None
    if holder is not None:
        return holder
    candidates = own if seen.owners is None and own else [*own, *seen.machines]
    return next((one for one in candidates if one.state == _RUNS), next(iter(candidates), None))


def _removed(seen: Seen, user: str, machine: Machine, *, last: bool) -> list[Step]:
    """``last``: the user is removed on this machine."""
    _check_alone(seen, user, machine)
    steps: list[Step] = [Cordon(machine.id)]
    if last:
        steps += [*_awake(machine), Remove(machine.id, user)]
    if last or machine.state not in _AT_REST:
        steps.append(Stop(machine.id))
    return [*steps, Destroy(machine.id, user)]


def _awake(machine: Machine) -> list[Step]:
    return [] if machine.state == _RUNS else [Wake(machine.id)]


def _check_alone(seen: Seen, user: str, machine: Machine) -> None:
    others = [one for one in seen.held_by(machine) if one != user]
    if others:
        raise Impossible(
            f"machine {machine.id} has {', '.join(others[:5])} too, and is not destroyed: give them machines of their "
            f"own first (flyatc users add), and move them there"
        )


def _kept(machines: Sequence[Machine]) -> tuple[str, ...]:
    mounts = [mount for one in machines for mount in (one.config and one.config.mounts) or ()]
    return tuple(f"its volume {one.volume} stays, and costs: fly volumes destroy {one.volume}" for one in mounts)


# --- move ---


def move(seen: Seen, user: str, *, to: str | None, region: str | None, pin: Pin | None, destroy: bool) -> Plan:
    """Plan a handover. ``to``: a machine's id or name; or ``region``: a machine there, made if there is none. ``pin``:
    the user's pin in tenants.yaml. Raises Impossible."""
    steps: list[Step] = []
    target = _named(seen, to) if to is not None else _in_region(seen, user, region or "")
    if target is None:
        made = _new(seen, user, region or "")
        name, where = made.name, made.region
        steps.append(made)
    else:
        name, where = target.id, target.region
        if seen.user_of(target) not in (None, user):
            raise Impossible(f"machine {name} is {seen.user_of(target)}'s by its metadata: choose another")
    _check_pin(user, pin, name, where)
    ready = _marked(seen, target, user) if target is not None else ()
    others = [one for one in seen.of(user) if one.id != name]
    handed = _handed_over(seen, user, name, others)
    old = [*others, *(one for one in seen.left_by(user) if one.id != name)] if destroy else []
    later: list[Step] = [Unmark(one.id, seen.key, user) for one in others]
    if old:
        later += _destroyed(seen, user, old)
    if handed or later or any(isinstance(step, Mark) for step in ready):
        steps += ready  # a sleeping target is woken only if there is something to do
    notes = _kept(old) if old else tuple(_stays(one, user) for one in others)
    return Plan(user, (*steps, *handed, *later), notes, name)


def _in_region(seen: Seen, user: str, region: str) -> Machine | None:
    """The user's machine in the region, or one which was made for the user."""
    names = (new_machine.name_of(user), _name_there(user, region))
    there = [one for one in seen.machines if one.region == region and seen.user_of(one) in (None, user)]
    return next((one for one in there if seen.user_of(one) == user or one.name in names), None)


def _name_there(user: str, region: str) -> str:
    return f"{new_machine.name_of(user)}-{region}"


def _new(seen: Seen, user: str, region: str) -> Make:
    own = seen.of(user)
    if not own and seen.owner(user) is None:
        raise Impossible(f"{user} has no machine yet: flyatc users add {user} --region {region}")
    owner = seen.owner(user)
    held = seen.find(owner.machine) if owner is not None else None
    model = next(iter([*own, *([held] if held is not None else [])]), None) or _model(seen, None, region)
    taken = seen.find(new_machine.name_of(user)) is not None
    return Make(_name_there(user, region) if taken else new_machine.name_of(user), region, model.id)


def _check_pin(user: str, pin: Pin | None, machine: str, region: str) -> None:
    if pin is not None and ((pin.machine or machine) != machine or (pin.region or region) != region):
        raise Impossible(
            f"tenants.yaml pins {user} to {pin}: it would not stay on machine {machine} in {region}: change that "
            "first, and deploy it"
        )


def _handed_over(seen: Seen, user: str, to: str, others: Sequence[Machine]) -> tuple[Step, ...]:
    if seen.owners is None:
        return (*_awake(others[0]), Release(others[0].id, user, to)) if others else ()
    owner = seen.owners.get(user)
    if owner is None or owner.to == to or (owner.machine == to and not owner.to):
        return ()
    holder = seen.find(owner.machine)
    if holder is not None and owner.state in UNSAVED:
        return (*_awake(holder), Release(holder.id, user, to))
    # Any machine can record it. One which still runs may have cached responses of the user, and drops them.
    return (Release(holder.id if holder is not None and holder.state == _RUNS else to, user, to),)


def _destroyed(seen: Seen, user: str, old: Sequence[Machine]) -> list[Step]:
    steps: list[Step] = [Settle(SETTLE)]
    for one in old:
        _check_alone(seen, user, one)
        steps += [Stop(one.id), Destroy(one.id, user)]
    return steps


def _stays(machine: Machine, user: str) -> str:
    return f"machine {machine.id} stays; flyatc users move {user} … --destroy --yes destroys it as well"
