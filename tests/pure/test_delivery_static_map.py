"""The file of a URL."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.config.schema_sections import Folder
from flyatc.delivery.files.static import Nowhere, Place, StaticMap

ASSETS = StaticMap([Folder(path="/assets", folder="public/assets")])


@pytest.mark.parametrize(
    ("path", "inner", "slash"),
    [
        (b"/assets/app.css", b"app.css", False),
        (b"/assets/img/a%20b.png", b"img/a b.png", False),
        (b"/assets/caf%C3%A9.txt", "café.txt".encode(), False),
        (b"/assets/100%25.txt", b"100%.txt", False),
        (b"/assets/%2541", b"%41", False),  # once is enough
        (b"/assets/a+b", b"a+b", False),
        (b"/assets", b"", False),
        (b"/assets/", b"", True),
        (b"/assets/docs/", b"docs", True),
    ],
)
def test_an_address_is_decoded_once(path: bytes, inner: bytes, slash: bool) -> None:
    assert ASSETS.find(path) == [Place(0, inner, slash)]


@pytest.mark.parametrize("path", [b"/", b"/asset", b"/assets2/app.css", b"/assets%2Fapp.css", b"/other/assets/app.css"])
def test_addresses_beside_the_folder_are_not_its(path: bytes) -> None:
    assert ASSETS.find(path) == []


@pytest.mark.parametrize(
    "rest",
    [
        b"../secret", b"a/../../secret", b"%2e%2e/secret", b".%2E/secret", b"..%2fsecret", b"a%2fb", b"a%5cb", b"a\\b",
        b"%5c%5chost", b"a%00.css", b".env", b"%2eenv", b".git/config", b"a/.htaccess", b".", b"/evil.com", b"a//b",
        b"a//", b"%", b"a%zz", b"a%2", b"%u002e",
    ],
)  # fmt: skip
def test_tricks_are_files_nowhere(rest: bytes) -> None:
    (found,) = ASSETS.find(b"/assets/" + rest)
    assert isinstance(found, Nowhere), found


@given(st.binary(max_size=40).map(lambda data: b"/" + data))
def test_no_address_leads_out_of_the_folder(path: bytes) -> None:
    check(path)


_pieces = st.sampled_from(
    [
        b"..",
        b".",
        b"/",
        b"//",
        b"%2e",
        b"%2E",
        b"%2f",
        b"%5c",
        b"\\",
        b"%00",
        b"%25",
        b"2e",
        b"a",
        b"%",
        b"%c0%ae",
        b" ",
    ]
)


@given(st.lists(_pieces, max_size=12).map(lambda parts: b"/" + b"".join(parts)))
def test_no_mixture_of_tricks_leads_out_of_the_folder(path: bytes) -> None:
    check(path)


def check(path: bytes) -> None:
    for found in StaticMap([Folder(path="/", folder="public")]).find(path):
        if isinstance(found, Place) and found.inner:
            for segment in found.inner.split(b"/"):
                assert segment
                assert not segment.startswith(b".")
                assert not set(segment) & set(b"\\\0")
            assert not path.startswith(b"//")  # a redirect to path + "/" would lead to another host


def test_the_folder_with_the_longest_path_is_asked_first() -> None:
    both = StaticMap(
        [
            Folder(path="/", folder="public"),
            Folder(path="/assets", folder="build"),
            Folder(path="/assets/img/", folder="img"),
        ]
    )
    assert both.find(b"/assets/img/a.png") == [
        Place(2, b"a.png", False),
        Place(1, b"img/a.png", False),
        Place(0, b"assets/img/a.png", False),
    ]
    assert both.find(b"/robots.txt") == [Place(0, b"robots.txt", False)]


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, None),
        ({"max_age": 0.0}, b"public, max-age=0"),
        ({"max_age": 31536000.0, "immutable": True}, b"public, max-age=31536000, immutable"),
        ({"max_age": 60.0, "cache_control": "no-cache"}, b"no-cache"),
        ({"max_age": 60.0, "cache_control": ""}, None),
    ],
)
def test_cache_control_is_written_as_it_is_meant(settings: dict[str, Any], header: bytes | None) -> None:
    assert Folder(path="/a", folder="a", **settings).header == header


@pytest.mark.parametrize("path", ["assets", "", "//x", "/a//b", "/a%20b", "/a b", "/a?b", "/a#b", "/a\\b"])
def test_a_path_which_is_none_is_refused_with_a_sentence(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        Folder(path=path, folder="a")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "../x"])
def test_an_index_must_be_the_name_of_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="index file"):
        Folder(path="/", folder="a", index=[name])
