"""Users of one machine: planned from tenants.yaml; the tenants are saved, the file is replaced, the daemon reloads."""

import asyncio
from pathlib import Path

import pytest

from fakes.operations import Desk
from flyatc.admin import users_of_file
from flyatc.admin.config_file import Changed, ConfigFile
from flyatc.admin.users_of_file import FilePlan
from flyatc.config.errors import ConfigError
from flyatc.kit.errors import FlyatcError, SaveFailed

TEXT = """app: {command: [sleep, 1h]}
storage: {mode: none}
users:
  ann: {tenants: [a]}
  nonesuch: {}  # which the daemon does not know yet
  "*": {match: "[0-9]+"}
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "tenants.yaml"
    path.write_text(TEXT)
    (tmp_path / "data" / ".flyatc").mkdir(parents=True)
    return ConfigFile(path, tmp_path / "data", {})


def removal(file: ConfigFile, user: str) -> FilePlan:
    return users_of_file.remove(file, file.check(TEXT), user)


def addition(file: ConfigFile, user: str, text: str = TEXT) -> FilePlan:
    return users_of_file.add(file, file.check(text), user, [], None, removed=False)


def carry_out(plan: FilePlan, file: ConfigFile, desk: Desk, text: str = TEXT) -> tuple[str, list[tuple[str, int, int]]]:
    seen: list[tuple[str, int, int]] = []

    async def one() -> str:
        return await users_of_file.carry_out(plan, file, file.check(text), {}, desk, lambda *step: seen.append(step))

    return asyncio.run(one()), seen


def test_a_removed_user_is_stopped_and_saved_before_the_file_is_touched(file: ConfigFile) -> None:
    desk, plan = Desk(), removal(file, "ann")
    result, steps = carry_out(plan, file, desk)
    assert desk.reported == ["stop ann", "reload"]
    assert steps == [(plan.steps[0], 0, 3), (plan.steps[1], 1, 3)]
    assert result == f"ann is removed; its data stay: in {file.path.parent}/data/tenants/ann"
    assert file.path.read_text() == TEXT.replace("  ann: {tenants: [a]}\n", "")


def test_with_a_store_the_lease_is_released_too(file: ConfigFile) -> None:
    text = TEXT.replace("{mode: none}", "{url: 'file:./store'}")
    file.path.write_text(text)
    desk = Desk()
    result, _ = carry_out(removal(file, "ann"), file, desk, text)
    assert desk.reported == ["release ann None", "reload"]
    assert f"and in file:{file.path.parent}/store/users/ann" in result


def test_a_user_that_cannot_be_saved_stays_in_the_file(file: ConfigFile) -> None:
    desk = Desk()
    desk.fails = SaveFailed("the store is away")
    with pytest.raises(SaveFailed):
        carry_out(removal(file, "ann"), file, desk)
    assert (desk.reported, file.path.read_text()) == (["stop ann"], TEXT)


def test_a_user_that_the_daemon_does_not_know_yet_is_only_taken_out_of_the_file(file: ConfigFile) -> None:
    desk = Desk()
    carry_out(removal(file, "nonesuch"), file, desk)
    assert desk.reported == ["stop nonesuch", "reload"]
    assert "nonesuch" not in file.path.read_text()


def test_a_file_that_was_edited_since_the_plan_is_not_overwritten(file: ConfigFile) -> None:
    desk, plan = Desk(), addition(file, "bob")
    file.path.write_text(f"# by hand\n{TEXT}")
    with pytest.raises(Changed):
        carry_out(plan, file, desk)
    assert (desk.reported, file.path.read_text()) == ([], f"# by hand\n{TEXT}")


def test_a_plan_says_where_the_pattern_serves_the_user_and_what_else_the_reload_reads(file: ConfigFile) -> None:
    assert removal(file, "ann").notes == (f"its data stay: in {file.path.parent}/data/tenants/ann",)
    assert "so far it is served by the entry of '*'" in addition(file, "100").notes[-1]
    assert (
        "the file has other changes, which the daemon reads too: nonesuch"
        in addition(file, "bob", TEXT.replace("  nonesuch: {}  #", "  #")).notes
    )
    file.path.write_text(TEXT.replace('"*"', '100: {}\n  "*"'))
    assert "and is served by that entry from then on" in removal(file, "100").notes[-1]


def test_the_last_user_and_a_file_that_is_no_text_are_refused(file: ConfigFile) -> None:
    file.path.write_text("app: {command: [sleep, 1h]}\nusers:\n  ann: {}\n")
    with pytest.raises(ConfigError, match="at least one user is needed"):
        removal(file, "ann")
    file.path.write_bytes(b"users: {\xff: {}}\n")
    with pytest.raises(FlyatcError, match="is not UTF-8"):
        removal(file, "ann")
    file.path.unlink()
    with pytest.raises(FlyatcError, match="there is no file"):
        addition(file, "bob")
