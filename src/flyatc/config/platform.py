"""What tenants.yaml may say of Fly: its sections ``fly``, ``replay`` and ``machine_idle``; and how names look there."""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from flyatc.config.amounts import Seconds, SomeSeconds
from flyatc.config.listen import Listen

MACHINE = re.compile(r"[0-9a-z]{8,20}")  # an id on Fly, where they have 14: it becomes a header and a DNS label
LEAST_REPLAY_CACHE = 10  # seconds; Fly's own limit for a replay which its proxy remembers
REGION = re.compile(r"[a-z][a-z0-9]{1,15}")  # on Fly they have 3


class MachineIdle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    after: Annotated[Seconds, Meta(description="without any visitor for so long")] = 900.0
    then: Annotated[
        Literal["none", "exit", "stop", "suspend"],
        Meta(description="what is done when all is saved. exit: end with 0. stop, suspend: Fly is asked to do so with "
             "this machine, and the next request for it wakes it (auto_start_machines); after a suspend sooner, with "
             "the local copies still there. Elsewhere than on Fly nothing is done"),
    ] = "none"  # fmt: skip


class Fly(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    metadata: Annotated[
        str | None,
        Meta(description="the key of machine metadata whose value is the user of that machine, such as customer_id: "
             "his requests go there, and users of '*' whom no machine has get 404. Without it whoever is asked first "
             "takes a user whom nobody has. $FLYATC_METADATA wins; where --user or $CUSTOMER_ID names the user of this "
             "machine, it is customer_id unless something else is said"),
    ] = None  # fmt: skip
    resolver: Annotated[
        Listen | None,
        Meta(
            description="the DNS server for names below .internal, as host:port; default: that of /etc/resolv.conf; "
            "$FLYATC_RESOLVER wins"
        ),
    ] = None
    private: Annotated[
        int,
        Meta(ge=0, le=65535, description="the port at which each machine listens for the others, on its own address of "
             "the private network only: requests whose body is larger than 1 MB, or of unknown length, come there, "
             "since Fly Proxy does not replay them. 0: they are refused, 413 and 411"),
    ] = 8790  # fmt: skip
    machines_most: Annotated[
        int, Meta(ge=1, description="users.'*'.provision: none is made while the app has so many machines, all counted")
    ] = 20
    machines_a_minute: Annotated[
        int, Meta(ge=1, description="users.'*'.provision: how many this machine may make in a minute")
    ] = 3


class Replay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    trust_app: Annotated[
        bool,
        Meta(description="true: an app's own fly-replay answers reach Fly Proxy, which then sends the visitor wherever "
             "they say, to any app of the organization; false: they are cut out"),
    ] = False  # fmt: skip
    timeout: Annotated[
        SomeSeconds,
        Meta(description="how long Fly Proxy tries to reach the machine of a user, waking it included; then 503"),
    ] = 30.0
    cache: Annotated[
        Seconds,
        Meta(description="for how long Fly Proxy shall remember which machine serves a user, and not ask us; 10s or "
             "more; 0: not at all. Off by default, for a replay which is remembered has no timeout and no fallback: a "
             "machine that dies meanwhile is an empty 502 until the time is over, and up to 30 s more. Its hops are "
             "not counted, and the target is not told who sent the request. And who has moved is sent to his former "
             "machine once more from each of Fly's edges, until that machine has it forgotten. Worth it where machines "
             "are far apart and most requests reach the wrong one first. A replay is remembered only where others of "
             "that user to that machine have gone well just before, for longer than replay.timeout"),
    ] = 0.0  # fmt: skip
