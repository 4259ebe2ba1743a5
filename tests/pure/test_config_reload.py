"""Differences between two configurations: tenants added, removed and changed, and what waits for a restart."""

from pathlib import Path

from flyatc.config.document import compose
from flyatc.config.errors import Faults
from flyatc.config.parse import parse
from flyatc.config.reload import changes
from flyatc.config.resolve import resolve
from flyatc.config.schema import Config
from flyatc.config.schema_sections import Listen


class AnyDisk:
    def text(self, path: Path, most: int) -> str | None:
        return None

    def runs(self, path: Path) -> bool:
        return True

    """Has every directory and every file."""

    def is_directory(self, path: Path) -> bool:
        return True

    def readable_size(self, path: Path) -> int | None:
        return 1


def configured(text: str) -> Config:
    root = compose(f"app: {{command: [x]}}\n{text}", "f")
    faults = Faults("f", root)
    config = resolve(parse(root, faults), Path("/srv/f"), {}, AnyDisk(), faults)
    faults.raise_if_any()
    return config


def test_the_same_file_changes_nothing() -> None:
    config = configured("users: {a: , b: {tenants: [c]}}")
    found = changes(config, configured("users: {a: , b: {tenants: [c]}}"))
    assert (found.added, found.removed, found.changed, found.restart) == ((), (), (), ())
    assert found.config == config


def test_tenants_come_go_and_change() -> None:
    old = configured("users: {a: , b: {tenants: [c, d]}, e: }")
    new = configured("users: {e: {idle: 1m}, b: {tenants: [d, f]}, g: }")
    found = changes(old, new)
    assert (found.added, found.removed, found.changed) == (("b/f", "g"), ("a", "b/c"), ("e",))
    assert found.config == new


def test_a_new_root_changes_every_tenant() -> None:
    found = changes(configured("users: {a: , b: }"), configured("users: {a: , b: }\nserver: {root: /x}"))
    assert found.changed == ("a", "b")
    assert found.restart == ()


def test_what_needs_a_restart_is_named_and_stays_as_it_was() -> None:
    old = configured("users: {a: }")
    new = configured(
        "users: {a: , b: }\nserver: {listen: 80, data: d, control: 81, health: /up}\n"
        "storage: {url: 'file:s', keep: 2}\n"
        "replay: {trust_app: true}"
    )
    found = changes(old, new)
    assert found.restart == (
        "server.listen",
        "server.data",
        "server.control",
        "storage.url",
        "storage.keep",
        "replay.trust_app",
    )
    assert found.config.server.listen == Listen(None, 3000)
    assert found.config.server.health == "/up"
    assert found.config.storage == old.storage
    assert (found.added, found.changed) == (("b",), ())
    assert found.config.tenants["b"].data == Path("/srv/data/tenants/b/~")


def test_tenants_made_by_the_pattern_are_judged_too() -> None:
    old = configured("users: {'*': {match: '[0-9]+'}}")
    made = [tenant for name in ("1", "22", "333") if (tenant := old.tenant_of_pattern(name, ""))]
    new = configured("users: {'*': {match: '[0-9]{2,}'}, '333': {idle: 1m}}")
    found = changes(old, new, made)
    assert (found.added, found.removed, found.changed) == ((), ("1",), ("333",))


def test_a_listed_tenant_which_the_pattern_now_makes_alike_is_left_alone() -> None:
    found = changes(configured("users: {'1': }"), configured("users: {'*': {match: '[0-9]+'}}"))
    assert (found.removed, found.changed) == ((), ())
