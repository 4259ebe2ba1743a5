"""Storability, freshness and reuse: tables from RFC 9111 and RFC 5861."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.delivery import conditional
from flyatc.delivery.cache import policy, vary

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", {}),
        (b"public", {b"public": None}),
        (b"PUBLIC, Max-Age=60", {b"public": None, b"max-age": b"60"}),
        (b' max-age = "60" ,, no-store', {b"max-age": b"60", b"no-store": None}),
        (b'no-cache="Set-Cookie, X", max-age=1', {b"no-cache": b"Set-Cookie, X", b"max-age": b"1"}),
        (b"max-age=60, max-age=0", {b"max-age": b"0"}),
        (b"max-age=60, max-age=x", {b"max-age": b"x"}),
        (b'private="a", private', {b"private": None}),
        (b'private="a", private="b"', {b"private": b"a,b"}),
        (b'x="a, no-store', {b"x": b"a", b"no-store": None}),
        (b'x="a\\", no-store', {b"x": b"a\\", b"no-store": None}),
        (b'x="a, no-store"', {b"x": b"a, no-store"}),
        (b"=5, ;max-age=5", {b";max-age": b"5"}),
    ],
)
def test_directives_are_read_to_the_stricter_side(text: bytes, found: dict[bytes, bytes | None]) -> None:
    assert policy.parse_directives(text) == found


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"0", 0), (b"60", 60), (b"9" * 5000, 2**31), (b"4294967296", 2**31), (b"-1", None), (b"1.5", None), (None, None)],
)
def test_delta_seconds_are_bounded(text: bytes | None, number: int | None) -> None:
    assert policy.seconds(text) == number


def date(offset: int) -> bytes:
    return conditional.write(NOW + offset)


@pytest.mark.parametrize(
    ("control", "expires", "seconds"),
    [
        (b"max-age=60", None, 60),
        (b"s-maxage=30, max-age=60", None, 30),
        (b"s-maxage=0, max-age=60", None, 0),
        (b"s-max-age=30, max-age=60", None, 60),
        (b"max-age=60", date(10), 60),
        (b"max-age=no", date(10), 0),
        (b"", date(10), 10),
        (b"", date(-10), 0),
        (b"", b"0", 0),
        (b"", None, 0),
    ],
)
def test_the_lifetime_is_that_of_the_first_directive_with_one(
    control: bytes, expires: bytes | None, seconds: int
) -> None:
    fields = {b"date": date(0)} | ({} if expires is None else {b"expires": expires})
    assert policy.freshness_lifetime(fields, policy.parse_directives(control), 200, NOW, rfc=False) == seconds


def test_nothing_is_guessed_unless_wished() -> None:
    fields = {b"date": date(0), b"last-modified": date(-1000)}
    assert policy.freshness_lifetime(fields, {}, 200, NOW, rfc=False) == 0
    assert policy.freshness_lifetime(fields, {}, 200, NOW, rfc=True) == 100
    assert policy.freshness_lifetime(fields, {}, 302, NOW, rfc=True) == 0
    assert policy.freshness_lifetime(fields | {b"last-modified": date(-(10**8))}, {}, 200, NOW, rfc=True) == 86400


@pytest.mark.parametrize(
    ("fields", "asked", "age"),
    [
        ({b"date": date(0)}, NOW, 0),
        ({b"date": date(-5)}, NOW, 5),
        ({b"date": date(5)}, NOW, 0),
        ({b"date": date(-5), b"age": b"7"}, NOW, 7),
        ({b"date": date(-5), b"age": b"7"}, NOW - 3, 10),
        ({b"date": date(-50), b"age": b"7"}, NOW - 3, 50),
        ({b"age": b"7, 9"}, NOW, 7),
        ({b"age": b"old"}, NOW, 0),
        ({}, NOW + 5, 0),
    ],
)
def test_the_age_of_what_comes(fields: dict[bytes, bytes], asked: float, age: int) -> None:
    assert policy.initial_age(fields, asked, NOW) == age


texts = st.one_of(
    st.none(), st.binary(max_size=12), st.integers(-(10**12), 10**12).map(lambda n: b"%d" % n), st.just(b"9" * 400)
)
moments = st.one_of(st.floats(0, 4e9), st.just(0.0))


@given(texts, texts, texts, texts, moments, moments, moments, st.booleans())
def test_no_time_is_negative_or_endless(
    control: bytes | None,
    expires: bytes | None,
    date: bytes | None,
    age: bytes | None,
    asked: float,
    received: float,
    now: float,
    rfc: bool,
) -> None:
    given_ = {b"expires": expires, b"date": date, b"age": age, b"last-modified": expires}
    fields = {name: value for name, value in given_.items() if value is not None}
    said = {} if control is None else {b"max-age": control}
    lifetime = policy.freshness_lifetime(fields, said, 200, received, rfc=rfc)
    initial = policy.initial_age(fields, asked, received)
    current = policy.age(initial, received, now)
    assert 0 <= lifetime <= policy.FOR_EVER
    assert 0 <= initial <= current <= policy.FOR_EVER
    if now >= received and current < policy.FOR_EVER:
        assert current - initial == int(now - received)


# --- storing ---


def judged(
    control: str | None = None, status: int = 200, asker: policy.Asker = policy.ANONYMOUS, /, **named: str
) -> policy.Terms | str:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in named.items()}
    if control is not None:
        fields[b"cache-control"] = control.encode()
    return policy.terms(status, fields, asker=asker, times=policy.Times(NOW, NOW))


MINUTE = "max-age=60"
REPORTED_NOTHING = "nothing says that it may be stored"
USELESS = "stale at once, and without a validator"
KIND = "a response of this kind is not stored"
COOKIE = "sets a cookie, and is not public"


@pytest.mark.parametrize(
    ("control", "more", "reason"),
    [
        (None, {}, REPORTED_NOTHING),
        (None, {"etag": '"a"'}, REPORTED_NOTHING),
        ("no-cache", {}, USELESS),
        ('no-cache="a"', {"etag": '"a"'}, REPORTED_NOTHING),
        ("no-transform, must-revalidate", {}, REPORTED_NOTHING),
        ("s-max-age=60", {}, REPORTED_NOTHING),
        (None, {"pragma": "public"}, REPORTED_NOTHING),
        ("public", {}, USELESS),
        ("public, max-age=0", {}, USELESS),
        ("max-age=60, no-cache", {}, USELESS),
        (None, {"expires": "0"}, USELESS),
        ("public, max-age=60, no-store", {}, "no-store"),
        ("public, max-age=60, No-Store=1", {}, "no-store"),
        ("public, max-age=60, private", {}, "private"),
        ("max-age=60, private=", {}, "private"),
        (MINUTE, {"vary": "*"}, "Vary: *"),
        (MINUTE, {"vary": "Accept, *"}, "Vary: *"),
        (MINUTE, {"set_cookie": "a=b"}, COOKIE),
        ("s-maxage=60", {"set_cookie": "a=b"}, COOKIE),
        (MINUTE, {"content_range": "bytes 0-1/3"}, "a part with the status of the whole"),
    ],
)
def test_what_is_not_stored_and_why(control: str | None, more: dict[str, str], reason: str) -> None:
    assert judged(control, 200, **more) == reason


@pytest.mark.parametrize("status", [100, 101, 201, 206, 304, 400, 412, 416, 500, 502, 503])
def test_errors_and_parts_are_not_stored_even_by_wish(status: int) -> None:
    assert judged("public, max-age=60", status) == KIND


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_absent_is_stored_only_with_explicit_freshness(status: int) -> None:
    for control in (None, "public", "no-cache"):
        assert judged(control, status, etag='"a"') == KIND
    assert isinstance(judged(None, status, expires=date(5).decode()), policy.Terms)


@pytest.mark.parametrize("value", ["bytes 0-1/2", "bytes 0-1/*", "bytes */2", "pages 1-2/9", "bytes 2-1/9", "x"])
def test_a_content_range_without_a_meaning_does_not_matter(value: str) -> None:
    assert isinstance(judged(MINUTE, content_range=value), policy.Terms)


@pytest.mark.parametrize("status", [200, 203, 300, 301, 308])
@pytest.mark.parametrize("validator", [{"etag": 'W/"a"'}, {"last_modified": date(-5).decode()}])
def test_no_cache_with_a_validator_is_stored_to_be_validated(status: int, validator: dict[str, str]) -> None:
    terms = judged("no-cache", status, **validator)
    assert isinstance(terms, policy.Terms)
    assert (terms.ask, terms.lifetime, terms.guessed) == (True, 0, False)


def test_no_cache_alone_does_not_permit_to_store_every_status() -> None:
    for status in (302, 303, 307):
        assert judged("no-cache", status, etag='"a"') == REPORTED_NOTHING


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 410])
def test_responses_which_say_for_how_long_are_stored(status: int) -> None:
    terms = judged(MINUTE, status)
    assert isinstance(terms, policy.Terms)
    assert terms.lifetime == 60


@pytest.mark.parametrize(
    ("control", "may"),
    [(MINUTE, False), ("public, max-age=60", True), ("s-maxage=60", True), ("max-age=60, must-revalidate", True)],
)
def test_an_authorized_response_is_stored_only_by_permission(control: str, may: bool) -> None:
    terms = judged(control, 200, policy.Asker(authorized=True))
    assert isinstance(terms, policy.Terms) is may
    anyone = judged(control)
    assert isinstance(anyone, policy.Terms)
    assert anyone.authorized is may


def test_an_app_may_keep_single_fields_from_the_store() -> None:
    terms = judged('max-age=60, private="Set-Cookie, X-User", no-cache=X-Token', set_cookie="a=b")
    assert isinstance(terms, policy.Terms)
    assert terms.hidden == {b"set-cookie", b"x-user", b"x-token"}
    assert not terms.ask


@pytest.mark.parametrize(
    ("control", "ask", "exact", "meanwhile", "on_error"),
    [
        ("max-age=1", False, False, 0, 0),
        ("max-age=1, stale-while-revalidate=5, stale-if-error=9", False, False, 5, 9),
        ("s-maxage=1, stale-while-revalidate=5, stale-if-error=9", False, True, 5, 9),
        ("max-age=1, must-revalidate, stale-while-revalidate=5, stale-if-error=9", False, True, 0, 0),
        ("max-age=1, proxy-revalidate, stale-while-revalidate=5", False, True, 0, 0),
        ("public, no-cache", True, False, 0, 0),
        ("max-age=1, stale-if-error=soon", False, False, 0, 0),
    ],
)
def test_the_terms_of_use(control: str, ask: bool, exact: bool, meanwhile: int, on_error: int) -> None:
    terms = judged(control, etag='"a"')
    assert isinstance(terms, policy.Terms)
    assert (terms.ask, terms.exact, terms.meanwhile, terms.on_error) == (ask, exact, meanwhile, on_error)


# --- reuse ---


@pytest.mark.parametrize(
    ("control", "age", "asked", "way"),
    [
        ("max-age=60", 59, "", policy.FRESH),
        ("max-age=60", 60, "", policy.ASK),
        ("max-age=60", 10, "no-cache", policy.ASK),
        ("max-age=60", 10, "max-age=0", policy.ASK),
        ("max-age=60", 0, "max-age=0", policy.ASK),
        ("max-age=60", 10, "max-age=10", policy.FRESH),
        ("max-age=60", 10, "max-age=9", policy.ASK),
        ("max-age=60", 10, "max-age=x", policy.ASK),
        ("max-age=60", 10, "min-fresh=50", policy.FRESH),
        ("max-age=60", 10, "min-fresh=51", policy.ASK),
        ("max-age=60", 10, "min-fresh", policy.ASK),
        ("max-age=60", 10, "no-store", policy.FRESH),
        ("max-age=60", 10, "only-if-cached", policy.FRESH),
        ("max-age=60", 70, "max-stale", policy.STALE),
        ("max-age=60", 70, "max-stale=10", policy.STALE),
        ("max-age=60", 70, "max-stale=9", policy.ASK),
        ("max-age=60, must-revalidate", 70, "max-stale", policy.ASK),
        ("max-age=60, proxy-revalidate", 70, "max-stale", policy.ASK),
        ("s-maxage=60", 70, "max-stale", policy.ASK),
        ("max-age=60, stale-while-revalidate=10", 69, "", policy.MEANWHILE),
        ("max-age=60, stale-while-revalidate=10", 70, "", policy.ASK),
        ("max-age=60, stale-while-revalidate=10", 65, "no-cache", policy.ASK),
        ("public, no-cache", 0, "max-stale", policy.ASK),
    ],
)
def test_when_a_stored_response_is_used(control: str, age: int, asked: str, way: str) -> None:
    terms = judged(control, etag='"a"')
    assert isinstance(terms, policy.Terms)
    assert policy.weigh(terms, age, policy.parse_directives(asked.encode())).way == way


@pytest.mark.parametrize(
    ("control", "age", "asked", "may"),
    [
        ("max-age=60", 61, "", False),
        ("max-age=60, stale-if-error=10", 69, "", True),
        ("max-age=60, stale-if-error=10", 70, "", False),
        ("max-age=60, stale-if-error=10", 65, "no-cache", False),
        ("max-age=60", 65, "stale-if-error=10", True),
        ("max-age=60, must-revalidate", 65, "stale-if-error=10", False),
        ("max-age=60, must-revalidate, stale-if-error=10", 65, "", False),
        ("public, no-cache, stale-if-error=10", 0, "", False),
    ],
)
def test_when_a_stale_response_stands_in_for_an_app_that_fails(control: str, age: int, asked: str, may: bool) -> None:
    terms = judged(control, etag='"a"')
    assert isinstance(terms, policy.Terms)
    assert policy.on_error(terms, age, policy.parse_directives(asked.encode())) is may


# --- vary ---


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, ()),
        (b"", ()),
        (b"Accept", (b"accept",)),
        (b"Cookie, accept ,,Cookie", (b"accept", b"cookie")),
        (b"*", None),
        (b"accept, *", None),
    ],
)
def test_the_names_in_vary(value: bytes | None, names: vary.Names | None) -> None:
    assert vary.names({} if value is None else {b"vary": value}) == names


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        (b"accept", b"text/html, */*", b"text/html,*/*", True),
        (b"accept", b"text/html, */*", b"*/*, text/html", False),
        (b"accept", b"text/html", b"Text/HTML", False),
        (b"accept", None, b"", False),
        (b"x", b'"a, b"', b'"a,b"', False),
        (b"accept-encoding", b"gzip, br", b"BR,gzip", True),
        (b"accept-encoding", b"gzip;q=0", b"gzip", False),
        (b"accept-encoding", b"gzip", None, False),
        (b"cookie", b"a=1; b=2", b"a=1; b=3", False),
    ],
)
def test_values_that_mean_the_same_are_the_same(
    name: bytes, one: bytes | None, other: bytes | None, same: bool
) -> None:
    values = [vary.values((name,), {} if v is None else {name: v}, rfc=False) for v in (one, other)]
    assert (values[0] == values[1]) is same


header = st.dictionaries(
    st.sampled_from([b"accept", b"cookie", b"accept-encoding"]),
    st.sampled_from([b"a", b"a, b", b"a,b", b"b ,a", b"", b'"a, b"', b'"a,b"']),
)


@given(header, header)
def test_requests_that_differ_in_more_than_spaces_never_share_a_response(
    one: dict[bytes, bytes], other: dict[bytes, bytes]
) -> None:
    names = (b"accept", b"accept-encoding", b"cookie")
    if vary.values(names, one, rfc=False) == vary.values(names, other, rfc=False):
        assert one.keys() == other.keys()
        for name in one.keys() - {b"accept-encoding"}:
            assert one[name].translate(None, b" \t") == other[name].translate(None, b" \t")
