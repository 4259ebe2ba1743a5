"""The cache of a wrapped app: thruster's cases 6 to 17, with the differences that are meant."""

from collections.abc import Iterator

import pytest

from whole.daemon import eventually
from whole.visits import Line, Reply, get, request
from whole.wrapped import PARROT_APP, Wrapped, answering, wrapped

ITEM = 5000
PUBLIC = "Cache-Control: public, max-age=60"
ETAG = 'ETag: "abc"'


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    env = {"MAX_CACHE_ITEM_SIZE": str(ITEM)}
    with wrapped(tmp_path_factory.mktemp("cache"), *PARROT_APP, env=env) as running:
        yield running


def reported(reply: Reply) -> str:
    return reply.one("x-cache") or ""


def tally(one: Wrapped) -> int:
    """How often the app was asked to say something."""
    return int(get(one, "/tally").json.get("say", 0))


def twice(one: Wrapped, target: str, *headers: str, method: str = "GET") -> list[str]:
    """Return what the cache does with the same request, once and again."""
    with Line(one) as line:
        return [reported(line.get(target, *headers, method=method)) for _ in range(2)]


def test_what_is_public_comes_from_the_app_once(one: Wrapped) -> None:
    """Case 6."""
    before = tally(one)
    with Line(one) as line:
        first, second = (line.get(answering(PUBLIC, more="once")) for _ in range(2))
    assert (reported(first), reported(second)) == ("miss", "hit")
    assert first.body == second.body == b"hello"
    assert tally(one) == before + 1
    assert (second.one("cache-status") or "").startswith("flyatc; hit; ttl=")
    assert second.one("age") is not None


@pytest.mark.parametrize(
    ("status", "cache"), [("400 Bad Request", "miss"), ("500 Internal Server Error", "miss"), ("404 Not Found", "hit")]
)
def test_of_errors_only_404_is_kept(one: Wrapped, status: str, cache: str) -> None:
    """Case 8. A difference that is meant: thruster keeps no 404."""
    assert twice(one, answering(PUBLIC, status=status)) == ["miss", cache]


def test_a_redirect_is_kept(one: Wrapped) -> None:
    """Case 8."""
    assert twice(one, answering(PUBLIC, "Location: /", status="301 Moved Permanently")) == ["miss", "hit"]


def test_a_post_goes_past_the_cache_each_time(one: Wrapped) -> None:
    """Case 9."""
    before = tally(one)
    assert twice(one, answering(PUBLIC, more="post"), method="POST") == ["bypass", "bypass"]
    assert tally(one) == before + 2


def test_hosts_and_queries_have_entries_of_their_own(one: Wrapped) -> None:
    """Case 10. A difference that is meant: another order of a query is another address, as it is for the app."""
    first, swapped, other = (answering(PUBLIC, more=query) for query in ("a=1&b=2", "b=2&a=1", "a=2"))
    assert twice(one, first) == twice(one, swapped) == twice(one, other) == ["miss", "hit"]
    elsewhere = request(first).replace(b"here.example", b"there.example")
    with Line(one) as line:
        assert reported(line.send(elsewhere).reply()) == "miss"


@pytest.mark.parametrize(
    ("this", "that"),
    [
        (("/a/b/", "here", "key=1"), ("/a%2Fb/", "here", "key=1")),
        (("/", "here", "key=A"), ("/", "here", "key=%41")),
        (("/", "here", "key=2"), ("/", "here", "key=2&;")),
        (("/", "here", "key=3"), ("/", "here", "key=3&p=a;b")),
        (("/", "here", "key=4"), ("/", "here", "key=4&bad=%zz")),
        (("/", "ab.com", "key="), ("/", "b.com", "key=a")),
    ],
)
def test_no_two_addresses_are_one(one: Wrapped, this: tuple[str, str, str], that: tuple[str, str, str]) -> None:
    """A difference from thruster that is meant: there each of these hits the other's entry."""
    for prefix, host, query in (this, that):
        target = answering(PUBLIC, more=query).replace("/ann/", prefix)
        with Line(one) as line:
            assert reported(line.send(request(target).replace(b"here.example", host.encode())).reply()) == "miss"


def test_a_cookie_of_a_public_response_reaches_no_client(one: Wrapped) -> None:
    """Case 12."""
    with Line(one) as line:
        replies = [line.get(answering(PUBLIC, "Set-Cookie: session=1", more="cookie")) for _ in range(2)]
    assert [reported(reply) for reply in replies] == ["miss", "hit"]
    assert [reply.all("set-cookie") for reply in replies] == [[], []]


def test_other_cookies_pass_in_their_order(one: Wrapped) -> None:
    """Case 12."""
    reply = get(one, answering("Set-Cookie: b=2", "Set-Cookie: a=1"))
    assert reply.all("set-cookie") == ["b=2", "a=1"]


def test_a_client_that_has_it_gets_304_from_the_cache(one: Wrapped) -> None:
    """Case 13."""
    target = answering(PUBLIC, ETAG, "Content-Type: text/html", more="known")
    assert reported(get(one, target)) == "miss"
    known, other = (get(one, target, f"If-None-Match: {tags}") for tags in ('"x", "abc"', '"zzz"'))
    assert (known.status, known.body, known.one("etag"), reported(known)) == (304, b"", '"abc"', "hit")
    assert (other.status, other.body, reported(other)) == (200, b"hello", "hit")


def test_head_is_kept_by_itself_and_is_no_response_to_get(one: Wrapped) -> None:
    """Case 14."""
    target = answering(PUBLIC, more="head")
    with Line(one) as line:
        heads = [line.get(target, method="HEAD") for _ in range(2)]
        assert [(reported(reply), reply.one("content-length")) for reply in heads] == [("miss", "5"), ("hit", "5")]
        replies = [line.get(target) for _ in range(2)]
        assert [(reported(reply), reply.body) for reply in replies] == [("miss", b"hello"), ("hit", b"hello")]
        assert reported(line.get(target, method="HEAD")) == "hit"


def test_a_part_is_not_kept_and_what_is_kept_gives_parts(one: Wrapped) -> None:
    """Case 15. That a hit gives the part is a difference that is meant: thruster gives the whole."""
    target, part = answering(PUBLIC, more="part"), "Range: bytes=1-3"
    assert reported(get(one, target, part)) == "bypass"
    whole = get(one, target)
    assert (reported(whole), whole.status, whole.body) == ("miss", 200, b"hello")
    cut = get(one, target, part)
    assert (reported(cut), cut.status, cut.body, cut.one("content-range")) == ("hit", 206, b"ell", "bytes 1-3/5")


def test_what_is_too_old_is_asked_of_the_app_again(one: Wrapped) -> None:
    """Case 16."""
    target = answering("Cache-Control: public, max-age=1")
    with Line(one) as line:
        eventually(lambda: reported(line.get(target)) == "hit", what="a hit")
        eventually(lambda: reported(line.get(target)) == "miss", what="its end")
        eventually(lambda: reported(line.get(target)) == "hit", what="a hit of the new one")


def test_what_is_too_large_is_delivered_and_not_kept(one: Wrapped) -> None:
    """Case 17. What is measured is the body, not what Python makes of it."""
    with Line(one) as line:
        for size, second in ((ITEM, "hit"), (ITEM + 1, "miss")):
            target = answering(PUBLIC, body=b"x" * size)
            replies = [line.get(target) for _ in range(2)]
            assert [reported(reply) for reply in replies] == ["miss", second]
            assert {reply.body for reply in replies} == {b"x" * size}


@pytest.mark.parametrize(
    ("control", "second"),
    [
        ("public, max-age=60, no-store", "miss"),
        ("public, max-age=60, private", "miss"),
        ("public, max-age=60, s-maxage=0", "miss"),
        ("public, max-age=0, s-maxage=60", "hit"),
        ("PUBLIC, MAX-AGE=60", "hit"),
        ("public, s-max-age=60", "miss"),
    ],
)
def test_the_words_of_the_standard_count(one: Wrapped, control: str, second: str) -> None:
    """Differences from thruster that are meant."""
    assert twice(one, answering(f"Cache-Control: {control}")) == ["miss", second]


def test_every_line_of_vary_counts(one: Wrapped) -> None:
    """A difference from thruster that is meant: there only the first does."""
    target = answering(PUBLIC, "Vary: Accept", "Vary: X-Colour", more="vary")
    assert [twice(one, target, f"X-Colour: {colour}") for colour in ("red", "blue")] == [["miss", "hit"]] * 2
    assert reported(get(one, target, "X-Colour: red")) == "hit"


def test_a_client_that_wants_the_apps_response_gets_it(one: Wrapped) -> None:
    """A difference from thruster that is meant: a browser's reload is heard."""
    target = answering(PUBLIC, more="reload")
    assert twice(one, target) == ["miss", "hit"]
    assert reported(get(one, target, "Cache-Control: no-cache")) == "miss"


def test_the_apps_own_x_cache_is_not_the_last_word(one: Wrapped) -> None:
    for method, ours in (("GET", "miss"), ("POST", "bypass")):
        assert get(one, answering("X-Cache: theirs"), method=method).all("x-cache") == [ours]
