"""The section ``delivery:``: read, inherited part by part, and described."""

from pathlib import Path

import pytest

from flyatc.config.document import compose
from flyatc.config.errors import ConfigError, Faults
from flyatc.config.parse import parse
from flyatc.config.reload import changes
from flyatc.config.resolve import resolve
from flyatc.config.schema import Config
from flyatc.config.schema_docs import reference
from flyatc.config.schema_sections import Cache, Compression, Delivery, Folder


class AnyDisk:
    def text(self, path: Path, most: int) -> str | None:
        return ""

    def runs(self, path: Path) -> bool:
        return True

    """Has every directory and every file."""

    def is_directory(self, path: Path) -> bool:
        return True

    def readable_size(self, path: Path) -> int | None:
        return 1


def configured(app: str = "", users: str = "a: ", top: str = "") -> Config:
    root = compose(f"app: {{command: [x], delivery: {{{app}}}}}\nusers: {{{users}}}\n{top}", "f")
    faults = Faults("f", root)
    config = resolve(parse(root, faults), Path("/srv/f"), {}, AnyDisk(), faults)
    faults.raise_if_any()
    return config


def of(app: str = "", users: str = "a: ") -> Delivery:
    return configured(app, users).tenants["a"].app.delivery


def test_everything_is_on_by_default_but_there_are_no_static_folders() -> None:
    assert of() == Delivery()
    assert of().compression.enabled
    assert of().static == []
    assert configured().cache == Cache()


def test_each_part_is_inherited_or_replaced_as_a_whole() -> None:
    found = of(
        "compression: {min_size: 2KB, jitter: 0}, cache: {enabled: false, mode: rfc}",
        "a: {delivery: {compression: {codings: [gzip]}}}",
    )
    assert found.compression == Compression(codings=["gzip"])
    assert (found.cache.enabled, found.cache.mode) == (False, "rfc")


def test_a_static_folder_is_read_with_its_units() -> None:
    assert of("static: [{path: /assets, folder: public, max_age: 1d, immutable: true}]").static == [
        Folder(path="/assets", folder="public", max_age=86400, immutable=True)
    ]


def test_roots_become_absolute_and_keep_their_placeholders() -> None:
    assert of("sendfile: {roots: [files, '{data}/up', /mnt]}").sendfile.roots == ["/srv/files", "{data}/up", "/mnt"]


FAULTS = [
    ("static: [{folder: x}]", "static[0]: needs path"),
    ("static: [{path: assets, folder: x}]", "static[0]: 'assets' is not a path: write / or /assets"),
    ("static: [{path: /, folder: x, index: [.x]}]", "static[0]: '.x' is not the name of an index file"),
    ('static: [{path: /, folder: x, cache_control: "a\\nb"}]', "static[0]: 'a\\nb' cannot be a header value"),
    (
        "static: [{path: /, folder: .}]",
        "static[0].folder: /srv contains the data folder (server.data), which any client",
    ),
    ("static: [{path: /, folder: ..}]", "static[0].folder: / contains the configuration file, which any client"),
    ("static: [{path: /, folder: ./store/x/..}]", "static[0].folder: /srv/store contains the store (storage.url)"),
    ("static: [{path: /, folder: data/x}]", "static[0].folder: /srv/data/x lies within the data folder"),
    (
        "static: [{path: /, folder: public}, {path: /f, folder: f}]",
        "static[1].folder: /srv/f contains the configuration",
    ),
    ("compression: {codings: [deflate]}", "compression.codings[0]: 'deflate' is not one of br, gzip, zstd"),
    ("compression: {jitter: 70000}", "compression.jitter: must be at most 65533"),
    ("sendfile: {roots: ['{date}']}", "sendfile.roots[0]: {date} is not a placeholder, did you mean {data}?"),
]


@pytest.mark.parametrize(("section", "fault"), FAULTS)
def test_a_fault_names_its_place(section: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(section)
    assert f"app.delivery.{fault}" in str(caught.value)


def test_the_fault_of_a_static_folder_is_reported_where_it_is_written() -> None:
    folders = "{delivery: {static: [{path: /, folder: data}]}}"
    for users, key in (
        (f"a: {folders}", "users.a.delivery.static[0].folder"),
        (f"a: {{tenants: {{b: {folders}}}}}", "users.a.tenants.b.delivery.static[0].folder"),
        (
            "a: , '*': {match: '[0-9]+', delivery: {static: [{path: /, folder: data}]}}",
            "users.*.delivery.static[0]",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            configured(users=users)
        assert key in str(caught.value)
    configured("static: [{path: /, folder: database}, {path: /s, folder: public/data}]")


def test_folders_that_apps_may_write_are_no_secret_ones() -> None:
    for written, fault in {
        "[data/x]": "/srv/data/x lies within the data folder (server.data), which no app may write",
        "[/srv/store]": "/srv/store lies within the store (storage.url), which no app may write",
        "[../etc]": "'../etc' must be a folder, such as tmp, without '..'",
    }.items():
        with pytest.raises(ConfigError) as caught:
            configured(top="", users=f"a: {{writable: {written}}}")
        assert fault in str(caught.value)
    configured(users="a: {writable: [tmp, ., /var/cache/app]}")


def test_the_size_of_the_cache_waits_for_a_restart() -> None:
    found = changes(configured(), configured(top="cache: {size: 1MB}"))
    assert found.restart == ("cache.size",)
    assert found.config.cache == Cache()


def test_the_reference_describes_every_part() -> None:
    page = reference()
    for title in ("app.delivery", "app.delivery.compression", "app.delivery.static: each entry"):
        assert f"### {title}\n" in page
    assert "| `codings` | a list | `[zstd, br, gzip]` |" in page
    assert "| `folder` | text | required |" in page
