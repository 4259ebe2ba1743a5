"""Addresses and names as operators paste them, and the tenant they belong to."""

import click
import pytest
from msgspec import structs

from fakes.stage import make_config
from flyatc.cli import common
from flyatc.config.schema import Config, Server, make_tenant
from flyatc.control.route_explanation import explain
from flyatc.control.types import Explanation
from flyatc.routing.route import Routes

CONFIG = make_config("bellevue", "bellevue/2025/winter", "boston/2025", pattern="[0-9]+")


def below(root: str, **app: bool) -> Config:
    server = Server(data="/data", root=root, health="/up")
    tenants = {
        one.address: make_tenant(server, one.user, one.name, structs.replace(one.app, **app))
        for one in CONFIG.tenants.values()
    }
    return structs.replace(CONFIG, server=server, tenants=tenants)


def explained(url: str, config: Config = CONFIG) -> Explanation:
    return explain(config, Routes(config), url)


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("bellevue/2025/winter", "bellevue/2025/winter"),
        ("/bellevue/2025/winter/", "bellevue/2025/winter"),
        (" bellevue/2025/winter/ ", "bellevue/2025/winter"),
        ("https://example.com/bellevue/2025/winter", "bellevue/2025/winter"),
        ("https://example.com/bellevue/2025/winter/?page=2#top", "bellevue/2025/winter"),
        ("https://example.com/bellevue/2025/winter/heats/3", "bellevue/2025/winter"),
        ("bellevue", "bellevue"),
        ("/100/", "100"),
        ("http://localhost:3000/100/", "100"),
        # A mistyped tenant must never become all tenants of its user.
        ("https://example.com/bellevue/2025/wintre/", "bellevue/2025/wintre"),
        ("/bellevue/2025/wintre/", "bellevue/2025/wintre"),
    ],
)
def test_a_tenant_is_taken_as_people_paste_it(pasted: str, meant: str) -> None:
    assert common.of(CONFIG, pasted) == meant


def test_the_root_is_no_part_of_an_address() -> None:
    config = below("/customers")
    for pasted in ("/customers/bellevue/2025/winter/", "https://example.com/customers/bellevue/2025/winter"):
        assert common.of(config, pasted) == "bellevue/2025/winter"
    assert common.of(config, "customers/bellevue") == "customers/bellevue"


@pytest.mark.parametrize("pasted", ["", "/", "https://example.com", "https://example.com/?q"])
def test_a_name_of_no_user_is_wrong_usage(pasted: str) -> None:
    with pytest.raises(click.BadParameter, match="names no tenant"):
        common.of(CONFIG, pasted)


def test_a_command_for_a_user_is_for_all_its_tenants() -> None:
    assert common.belongs("bellevue/2025/winter", "bellevue")
    assert common.belongs("bellevue", "bellevue")
    assert not common.belongs("bellevue2", "bellevue")
    assert not common.belongs("bellevue", "bellevue/2025")


def test_the_longest_name_wins_and_says_so() -> None:
    found = explained("/bellevue/2025/winter/heats?x=1")
    assert (found.outcome, found.tenant, found.user, found.name) == (
        "here",
        "bellevue/2025/winter",
        "bellevue",
        "2025/winter",
    )
    assert found.app_path == "/bellevue/2025/winter/heats?x=1"
    assert "longest" in found.why


def test_the_user_is_the_tenant_where_no_name_fits() -> None:
    assert explained("/bellevue/elsewhere").tenant == "bellevue"
    assert "none of its named tenants fits" in explained("/bellevue/elsewhere").why


def test_a_user_by_pattern_is_shown_as_such() -> None:
    found = explained("http://localhost:3000/100/")
    assert found.by_pattern
    assert "matches '*' ([0-9]+)" in found.why


def test_a_missing_slash_is_a_redirect_which_keeps_the_query() -> None:
    found = explained("boston/2025?a=b")
    assert (found.outcome, found.status, found.location) == ("redirect", 308, "/boston/2025/?a=b")
    assert found.tenant == "boston/2025"


def test_the_stripped_prefix_is_shown() -> None:
    config = below("/customers", strip_prefix=True)
    assert explained("/customers/boston/2025/a?b", config).app_path == "/a?b"
    assert explained("/customers/boston/2025/", config).app_path == "/"
    config = below("/customers", strip_prefix=True, slash=False)
    assert explained("/customers/boston/2025?b", config).app_path == "/?b"


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/nonesuch/", 404, "no such user"),
        ("/boston/2026/", 404, "no such tenant of this user"),
        ("/bellevue/%2e%2e/x", 400, "the path has dot segments"),
        ("/", 404, "no such user"),
        ("http://[", 404, "no such user"),
        ("https://example.com?to=http://x/", 404, "no such user"),
        ("/bellevü/", 404, "no such user"),
    ],
)
def test_a_refusal_says_why(path: str, status: int, why: str) -> None:
    found = explained(path)
    assert (found.outcome, found.status, found.why) == ("refuse", status, why)


def test_the_daemons_own_health_path_belongs_to_no_user() -> None:
    found = explained("/up", below("/"))
    assert (found.tenant, found.status) == (None, 200)
