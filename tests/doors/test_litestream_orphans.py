"""An orphaned copy is restored in litestream mode as well, and streams. With the real litestream."""

from pathlib import Path

import pytest

from fakes.machines import DATABASE
from fakes.owners import FakeLease, previous
from fakes.streams import Streamers, after
from flyatc.databases.decisions.version_choice import OrphanChoice
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import silent


async def test_what_was_set_aside_comes_back_and_streams(tmp_path: Path) -> None:
    machines = Streamers.on_folder(tmp_path)
    try:
        a = await machines.machine("a")
        one = FakeLease(1, previous(0, clean=True))
        await a.session(one, 1)
        aside = a.tenant.data / ".flyatc" / "orphans" / "20261121T143000.123456Z-abcd1234"
        aside.mkdir(parents=True)
        (aside / DATABASE).write_bytes(a.path.read_bytes())
        await a.session(after(one), 2)
        three = after(after(one))
        with pytest.raises(RestoreRefused, match="there is no orphaned copy 'x'"):
            await a.door.roll_back(a.tenant, await a.prepared(), three, [DATABASE], OrphanChoice("x"), silent)
        back = await a.door.roll_back(a.tenant, await a.prepared(), three, [DATABASE], OrphanChoice(aside.name), silent)
        await back.leave()
        assert await (await machines.machine("b")).session(after(three)) == [1]
    finally:
        await machines.close()
