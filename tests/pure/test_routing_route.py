"""Routes: each tenant is found by its own path, and by no other."""

from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.config.schema import App, Config, Limits, Logging, Pattern, Server, Storage, make_tenant
from flyatc.config.schema_sections import Cache, MachineIdle
from flyatc.routing import route

SEGMENT = st.sampled_from(["a", "b", "2025", "winter", "a-b", "x_1"])
TENANTS = st.lists(
    st.tuples(SEGMENT, st.lists(SEGMENT, max_size=3).map("/".join)), min_size=1, max_size=8, unique=True
)  # fmt: skip


def config(
    tenants: list[tuple[str, str]], *, root: str = "/", pattern: Pattern | None = None, app: App | None = None
) -> Config:
    server = Server(root=root, data="/data")
    made = [make_tenant(server, user, name, app or App()) for user, name in tenants]
    return Config(
        path=Path("/t.yaml"), server=server, storage=Storage(), limits=Limits(), cache=Cache(),
        machine_idle=MachineIdle(),
        log=Logging(), pages={},
        tenants={t.address: t for t in made}, pattern=pattern, users=frozenset(user for user, _ in tenants),
    )  # fmt: skip


def found(routes: route.Routes, path: bytes) -> tuple[str, str] | None:
    match = routes.match(path, None)
    return (match.user, match.name) if isinstance(match, route.Here) else None


@settings(deadline=None)
@given(TENANTS, st.sampled_from(["/", "/shows", "/a/b"]), st.sampled_from([b"", b"index", b"%2F", b"x//y", b"-"]))
def test_every_address_leads_to_its_tenant(tenants: list[tuple[str, str]], root: str, rest: bytes) -> None:
    whole = config(tenants, root=root)
    routes = route.Routes(whole)
    for tenant in whole.tenants.values():
        prefix = tenant.prefix.encode()
        assert found(routes, prefix + b"/" + rest) == (tenant.user, tenant.name)
        redirect = routes.match(prefix, b"q=1")
        assert isinstance(redirect, route.Redirect)
        assert redirect.location == prefix + b"/?q=1"


@settings(deadline=None)
@given(TENANTS, st.lists(SEGMENT | st.sampled_from(["", "A", "winterly", "~", "*"]), max_size=6))
def test_the_longest_name_on_whole_segments_wins(tenants: list[tuple[str, str]], segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    fitting = [(u, n) for u, n in tenants if (path + "/").startswith(f"/{u}/{n}/" if n else f"/{u}/")]
    longest = max(fitting, key=lambda t: len(t[1]), default=None)
    match = route.Routes(config(tenants)).match(path.encode(), None)
    if longest is None:
        assert isinstance(match, route.Refuse)
        assert match.status == 404
    elif path == f"/{longest[0]}/{longest[1]}".rstrip("/"):
        assert isinstance(match, route.Redirect)
    else:
        assert isinstance(match, route.Here)
        assert (match.user, match.name) == longest


_hostile = st.lists(
    st.sampled_from(
        [
            b"/",
            b"..",
            b".",
            b"%2e",
            b"%2E",
            b"%2f",
            b"%5c",
            b"\\",
            b"%25",
            b"2e",
            b"a",
            b"b",
            b"%00",
            b";",
            b"%",
            b"winter",
        ]
    ),
    max_size=10,
).map(lambda parts: b"/a/" + b"".join(parts))


@settings(deadline=None)
@given(_hostile)
def test_no_reading_of_an_accepted_path_leads_to_another_tenant(path: bytes) -> None:
    routes = route.Routes(config([("a", ""), ("b", ""), ("a", "b")]))
    here = found(routes, path)
    if here is None:
        return
    for form in (path, unquote_to_bytes(path), unquote_to_bytes(unquote_to_bytes(path))):
        for read in (form, form.replace(b"\\", b"/")):
            segments = [segment.partition(b";")[0] for segment in read.split(b"/")]
            assert b".." not in segments
            assert b"." not in segments
            assert read.startswith(b"/a/")
            assert b"\0" not in read


@pytest.mark.parametrize(
    "path", [b"", b"a", b"*", b"/", b"//", b"//a/", b"/%61/", b"/a%2f", b"/A/", b"/a\x00/", b"/\xff/"]
)
def test_what_is_no_address_is_refused(path: bytes) -> None:
    assert isinstance(route.Routes(config([("a", "")])).match(path, None), route.Refuse)


def test_users_by_pattern_are_found_and_the_listed_are_not_theirs() -> None:
    pattern = Pattern(match="[0-9]{1,4}", app=App(), tenants=(("x", App()), ("x/y", App())))
    routes = route.Routes(config([("17", "own")], pattern=pattern))
    for _ in range(2):  # the second time from memory
        assert found(routes, b"/18/x/") == ("18", "x")
        assert found(routes, b"/18/x/y/z") == ("18", "x/y")
    for path in (b"/17/x/", b"/12345/x/", b"/1a/x/", b"/18/z/", b"/18/", b"/*/x/", b"/18%0a/x/", b"/18\n/x/"):
        assert found(routes, path) is None
    assert found(routes, b"/17/own/") == ("17", "own")


def test_memory_of_users_by_pattern_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MOST_KNOWN", 10)
    routes = route.Routes(config([("a", "")], pattern=Pattern(match="[0-9]+", app=App(), tenants=(("", App()),))))
    for number in range(100):
        assert found(routes, b"/%d/" % number) == (str(number), "")
    assert len(routes._known) <= 10


@pytest.mark.parametrize(
    ("ready", "strip", "health"),
    [
        (None, False, None),
        ("{prefix}/up?x=1", False, b"/a/b/up"),
        ("/up", True, b"/a/b/up"),
        ("/{user}/{tenant}/up", False, b"/a/b/up"),
    ],
)
def test_where_the_readiness_of_an_app_stands(ready: str | None, strip: bool, health: bytes | None) -> None:
    match = route.Routes(config([("a", "b")], app=App(ready=ready, strip_prefix=strip))).match(b"/a/b/", None)
    assert isinstance(match, route.Here)
    assert match.health == health
