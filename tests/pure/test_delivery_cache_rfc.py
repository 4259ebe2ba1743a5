"""``delivery.cache.mode: rfc``: heuristic freshness, statuses, languages, parts; and rules of both modes."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.cached_app import MINUTE, START, Answer, Stage, counting, outcomes, request, tagged
from flyatc.delivery import conditional
from flyatc.delivery.cache import partial, policy, vary
from flyatc.delivery.cache.cache import Refusal
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit
from flyatc.wire import head

KIND = "a response of this kind is not stored"
YESTERDAY = conditional.write(START - 86400).decode()


def judged(
    control: str | None = None, status: int = 200, asker: policy.Asker = policy.ANONYMOUS, /, **named: str
) -> policy.Terms | str:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in named.items()}
    if control is not None:
        fields[b"cache-control"] = control.encode()
    return policy.terms(status, fields, asker=asker, times=policy.Times(START, START), rfc=True)


# --- statuses and heuristic freshness ---


@pytest.mark.parametrize("status", [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501])
def test_a_tenth_of_the_time_since_last_modified_is_fresh(status: int) -> None:
    terms = judged(None, status, last_modified=YESTERDAY)
    assert isinstance(terms, policy.Terms)
    assert (terms.lifetime, terms.guessed) == (8640, True)


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599])
def test_of_other_statuses_nothing_is_guessed_unless_they_are_public(status: int) -> None:
    assert judged(None, status, last_modified=YESTERDAY) == KIND
    terms = judged("public", status, last_modified=YESTERDAY)
    assert isinstance(terms, policy.Terms)
    assert (terms.lifetime, terms.guessed) == (8640, False)


@pytest.mark.parametrize("status", [200, 201, 302, 400, 403, 404, 499, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("fields", [{"control": "max-age=60"}, {"control": "s-maxage=60"}, {"expires": "later"}])
def test_any_status_with_explicit_freshness_is_stored(status: int, fields: dict[str, str]) -> None:
    expires = {"expires": conditional.write(START + 60).decode()} if "expires" in fields else {}
    terms = judged(fields.get("control"), status, **expires)
    assert isinstance(terms, policy.Terms)
    assert (terms.lifetime, terms.guessed) == (60, False)


@pytest.mark.parametrize("status", [100, 101, 304, 412, 416])
def test_what_depends_on_one_request_is_never_stored(status: int) -> None:
    assert judged("public, max-age=60", status) == KIND


def test_must_understand_excludes_unknown_statuses() -> None:
    assert judged("max-age=60, must-understand", 599) == "must-understand, and the status is unknown"
    assert isinstance(judged("max-age=60, must-understand", 404), policy.Terms)


@pytest.mark.parametrize("control", ["no-store", "private", "private, max-age=60"])
def test_what_the_app_forbids_stays_forbidden(control: str) -> None:
    assert judged(control, last_modified=YESTERDAY) == control.partition(",")[0]


@pytest.mark.parametrize("control", [None, "max-age=60", "s-maxage=60"])
def test_a_response_with_a_cookie_is_not_stored_unless_public(control: str | None) -> None:
    assert judged(control, last_modified=YESTERDAY, set_cookie="a=b") == "sets a cookie, and is not public"


def test_the_cookie_of_a_public_response_is_given_to_no_client() -> None:
    stage = Stage(rfc=True)
    stage.answer = (200, [MINUTE, "Set-Cookie: a=1"], b"")
    assert [stage.visit()["set-cookie"] for _ in range(2)] == [None, None]
    assert stage.visit()["x-cache"] == "hit"


def test_guessing_is_off_in_mode_assets() -> None:
    for rfc, cache in ((False, "miss"), (True, "hit")):
        stage = Stage(rfc=rfc)
        stage.answer = (200, [f"Last-Modified: {YESTERDAY}"], b"")
        assert outcomes(stage, "/", "/", "/") == ["miss", cache, cache]


def test_without_permission_of_the_app_clients_with_cookies_neither_fill_nor_use_the_cache() -> None:
    stage = Stage(rfc=True)
    stage.answer = counting(f"Last-Modified: {YESTERDAY}")
    assert [stage.visit("/", "Cookie: a=1").body for _ in range(2)] == [b"v1", b"v2"]
    assert [stage.visit().body for _ in range(3)] == [b"v3", b"v3", b"v3"]
    assert stage.visit("/", "Cookie: a=1").body == b"v4"
    stage.answer = counting(MINUTE)
    assert [stage.visit("/x", "Cookie: a=1").body for _ in range(2)] == [b"v1", b"v1"]


# --- languages ---


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("en, de", "de, en", True),
        ("en, de", "EN,  dE", True),
        ("en;q=1.0, de;q=0.5", "de ; q=0.50, en", True),
        ("en, de;q=0.5", "en;q=0.5, de", False),
        ("en", "en-US", False),
        ("*", "*;q=1", True),
        ("en;q=2", "en", False),
        ("en;q=2", "EN;q=2", False),
        ("en, ;", ";, en", False),
    ],
)
def test_languages_are_compared_by_tag_and_weight(one: str, other: str, same: bool) -> None:
    values = [vary.values((b"accept-language",), {b"accept-language": v.encode()}, rfc=True) for v in (one, other)]
    assert (values[0] == values[1]) is same
    raw = [vary.values((b"accept-language",), {b"accept-language": v.encode()}, rfc=False) for v in (one, other)]
    assert raw[0] != raw[1]


# --- parts ---

BODY = b"0123456789"


def ranged(*lines: str, body: bytes = BODY) -> Callable[[head.RequestHead], Answer]:
    """An app which serves one range of its body."""

    def answer(asked: head.RequestHead) -> Answer:
        fields = conditional.parse_fields(asked.kept)
        tag = next((line.partition(": ")[2].encode() for line in lines if line.startswith("ETag")), None)
        if tag is not None and fields.get(b"if-none-match") == tag:
            return 304, [*lines], b""
        if b"range" not in fields or fields.get(b"if-range", tag) != tag:
            return 200, [*lines], body
        ((start, stop),) = conditional.parse_range(fields[b"range"], len(body)) or []
        return 206, [*lines, f"Content-Range: bytes {start}-{stop - 1}/{len(body)}"], body[start:stop]

    return answer


def parts(stage: Stage, *wanted: str) -> list[tuple[int, str | None, str | None, bytes]]:
    found = [stage.visit("/", f"Range: bytes={one}") for one in wanted]
    return [(seen.status, seen["x-cache"], seen["content-range"], seen.body) for seen in found]


def test_a_part_serves_ranges_within_it_and_nothing_else() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE)
    assert parts(stage, "2-7", "2-7", "3-4", "2-9") == [
        (206, "miss", "bytes 2-7/10", b"234567"),
        (206, "hit", "bytes 2-7/10", b"234567"),
        (206, "hit", "bytes 3-4/10", b"34"),
        (206, "miss", "bytes 2-9/10", b"23456789"),
    ]
    assert parts(stage, "-1", "5-", "0-2")[1:] == [
        (206, "hit", "bytes 5-9/10", b"56789"),
        (206, "miss", "bytes 0-2/10", b"012"),
    ]
    assert stage.visit()["x-cache"] == "miss"
    assert stage.visit(method="HEAD")["x-cache"] == "hit"  # of the whole, which has replaced the part


def test_a_part_does_not_serve_a_head_several_ranges_or_another_version() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    assert stage.visit("/", "Range: bytes=0-7")["cache-status"] == "flyatc; fwd=uri-miss; stored"
    assert stage.visit("/", "Range: bytes=0-9")["cache-status"] == "flyatc; fwd=partial; stored"
    for lines in (["Range: bytes=0-1,4-5"], ["Range: bytes=0-1", 'If-Range: "b"'], ["Range: bytes=20-"]):
        other = Stage(rfc=True)
        other.answer = ranged(MINUTE, 'ETag: "a"')
        other.visit("/", "Range: bytes=0-7")
        other.answer = (200, [MINUTE], b"new")
        assert other.visit("/", *lines).body == b"new"
    head_stage = Stage(rfc=True)
    head_stage.answer = ranged(MINUTE)
    head_stage.visit("/", "Range: bytes=0-7")
    assert head_stage.visit(method="HEAD")["x-cache"] == "miss"


def test_parts_with_one_strong_etag_are_joined_until_nothing_is_missing() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"', "Content-Type: text/plain")
    assert [seen[1] for seen in parts(stage, "4-5", "2-3", "5-6", "2-6")] == ["miss", "miss", "miss", "hit"]
    assert stage.cache.entries == 1
    assert [seen[1] for seen in parts(stage, "0-1", "7-")] == ["miss", "miss"]
    seen = stage.visit()
    assert (seen.status, seen["x-cache"], seen.body) == (200, "hit", BODY)
    assert (seen["content-length"], seen["content-type"], seen["content-range"]) == ("10", "text/plain", None)
    assert [n for n, _ in seen.fields].count("content-length") == 1
    assert stage.cache.entries == 1


@pytest.mark.parametrize("line", ['ETag: W/"a"', "X: none", f"Last-Modified: {YESTERDAY}"])
def test_parts_without_a_strong_etag_are_not_joined(line: str) -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, line)
    parts(stage, "0-4", "5-9")
    assert stage.visit()["x-cache"] == "miss"


def test_parts_of_two_versions_are_not_joined() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    parts(stage, "0-4")
    stage.answer = ranged(MINUTE, 'ETag: "b"', body=b"abcdefghij")
    assert parts(stage, "5-9", "5-9")[1] == (206, "hit", "bytes 5-9/10", b"fghij")
    assert parts(stage, "0-4")[0][3] == b"abcde"
    assert stage.visit().body == b"abcdefghij"


def test_a_gap_is_not_closed() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    parts(stage, "0-3", "5-9")
    assert stage.cache.entries == 1
    assert [seen[1] for seen in parts(stage, "5-9", "0-3")] == ["hit", "miss"]


def test_a_joined_body_is_not_longer_than_permitted() -> None:
    stage = Stage(rfc=True, item=8)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    parts(stage, "0-4", "5-9")
    assert [seen[1] for seen in parts(stage, "5-9", "0-4")] == ["hit", "miss"]


def test_a_stale_part_is_validated_and_a_changed_one_replaced() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged("Cache-Control: max-age=5", 'ETag: "a"')
    parts(stage, "0-4")
    stage.now += 6
    seen = stage.visit("/", "Range: bytes=1-2")
    assert stage.asked[-1].line(b"if-none-match") == b'"a"'
    assert (seen.status, seen["content-range"], seen.body) == (206, "bytes 1-2/10", b"12")
    assert seen["cache-status"] == "flyatc; fwd=stale; fwd-status=304"
    assert parts(stage, "0-4")[0][1] == "hit"
    stage.now += 6
    stage.answer = ranged("Cache-Control: max-age=5", 'ETag: "b"', body=b"abcdefghij")
    assert parts(stage, "0-4", "0-4")[1] == (206, "hit", "bytes 0-4/10", b"abcde")


def test_a_client_which_has_the_part_is_reported_so() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    parts(stage, "0-4")
    seen = stage.visit("/", "Range: bytes=0-4", 'If-None-Match: "a"')
    assert (seen.status, seen.body, seen["x-cache"], seen["content-range"]) == (304, b"", "hit", None)


def test_the_answer_to_if_range_is_only_joined() -> None:
    """It may lack what the client has: Content-Type, for one."""
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    for _ in range(2):
        assert stage.visit("/", "Range: bytes=0-4", 'If-Range: "a"')["x-cache"] == "miss"
    parts(stage, "5-9")
    stage.visit("/", "Range: bytes=0-4", 'If-Range: "a"')
    seen = stage.visit()
    assert (seen["x-cache"], seen.body) == ("hit", BODY)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("Content-Range: bytes 4-9/10", b"01234"),  # six octets are announced
        ("Content-Range: bytes 0-4/*", b"01234"),
        ("Content-Range: bytes 5-4/10", b"01234"),
        ("Content-Range: bytes 6-10/10", b"01234"),
        ("Content-Range: lines 0-4/10", b"01234"),
        ("Content-Type: multipart/byteranges; boundary=x", b"01234"),
    ],
)
def test_a_part_which_does_not_say_what_it_is_passes_and_is_not_stored(line: str, body: bytes) -> None:
    stage = Stage(rfc=True)
    stage.answer = (206, [MINUTE, line], body)
    seen = [stage.visit("/", "Range: bytes=-5") for _ in range(2)]
    assert [(s.status, s["x-cache"], s.body) for s in seen] == [(206, "miss", body)] * 2
    assert stage.cache.entries == 0


def test_a_part_that_was_not_asked_for_is_not_stored() -> None:
    stage = Stage(rfc=True)
    stage.answer = (206, [MINUTE, "Content-Range: bytes 0-4/10"], b"01234")
    stage.visit()
    assert stage.cache.entries == 0


def test_an_error_about_a_range_is_not_the_answer_to_others() -> None:
    stage = Stage(rfc=True)
    stage.answer = (416, [MINUTE, "Content-Range: bytes */10"], b"")
    stage.visit("/", "Range: bytes=20-")
    assert stage.cache.entries == 0


def test_the_whole_replaces_a_part_and_a_part_of_another_version_the_whole() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    parts(stage, "0-4")
    stage.visit()
    assert stage.cache.entries == 1
    stage.answer = ranged(MINUTE, 'ETag: "b"', body=b"abcdefghij")
    assert stage.visit("/", "Range: bytes=0-4", "Cache-Control: no-cache").body == b"abcde"
    assert stage.cache.entries == 1
    assert stage.visit().body == b"abcdefghij"


def test_in_mode_assets_parts_are_not_stored() -> None:
    stage = Stage()
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    assert [seen[1] for seen in parts(stage, "0-4", "0-4")] == ["bypass", "bypass"]
    assert stage.cache.entries == 0


def test_an_unsafe_method_drops_parts_as_well() -> None:
    stage = Stage(rfc=True)
    stage.answer = ranged(MINUTE, 'ETag: "a"')
    parts(stage, "0-4")
    stage.visit(method="POST")
    assert stage.cache.entries == 0


def test_whatever_is_asked_in_whatever_order_each_range_is_of_one_version() -> None:
    """A thousand requests for ranges of three resources, which change now and then; some without ETag."""
    random, served = Random(7), 0
    stage = Stage(rfc=True)
    versions: dict[str, list[bytes]] = {path: [bytes([65 + n]) * 12] for n, path in enumerate(("/a", "/b", "/c"))}

    def answer(asked: head.RequestHead) -> Answer:
        body = versions[asked.path.decode()][-1]
        tags = [] if asked.path == b"/c" else [f'ETag: "{body.hex()}"']
        return ranged("Cache-Control: max-age=9", *tags, body=body)(asked)

    stage.answer = answer
    for _ in range(1000):
        stage.now += random.choice((0, 0, 1, 2))
        path = random.choice(list(versions))
        if random.random() < 0.05:
            versions[path].append(bytes(random.choices(range(97, 123), k=12)))
        first, last = sorted(random.choices(range(12), k=2))
        lines = [f"Range: bytes={first}-{last}"] if random.random() < 0.8 else []
        seen = stage.visit(path, *lines)
        span = slice(first, last + 1) if lines else slice(None)
        assert seen.status == (206 if lines else 200)
        assert seen.body in [body[span] for body in versions[path]]
        assert seen["content-range"] == (f"bytes {first}-{last}/12" if lines else None)
        if (tag := seen["etag"]) is not None:
            assert bytes.fromhex(tag.strip('"'))[span] == seen.body
        served += seen["x-cache"] == "hit"
    assert 300 < served < 900


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"bytes 0-4/10", (0, 5, 10)),
        (b"Bytes  9-9/10", (9, 10, 10)),
        (b"bytes 0-10/10", None),
        (b"bytes 3-2/10", None),
        (b"bytes */10", None),
        (b"bytes 0-4/*", None),
        (b"bytes=0-4/10", None),
        (b"bytes 0-4/10, bytes 5-9/10", None),
        (b"bytes 0-" + b"9" * 5000 + b"/" + b"9" * 5001, None),
        (b"", None),
    ],
)
def test_content_range_is_read(value: bytes, part: tuple[int, int, int] | None) -> None:
    assert partial.parse(value) == part


spans = st.tuples(st.integers(0, 19), st.integers(1, 20)).filter(lambda span: span[0] < span[1])


@given(spans, spans)
def test_a_join_is_what_both_parts_have_of_the_body(one: tuple[int, int], other: tuple[int, int]) -> None:
    body = bytes(range(20))
    old, new = (partial.Part(*span, 20) for span in (one, other))
    joined = partial.join(old, body[slice(*one)], new, body[slice(*other)])
    touch = max(one[0], other[0]) <= min(one[1], other[1])
    assert (joined is not None) is touch
    if joined is not None:
        part, octets = joined
        assert (part.start, part.stop) == (min(one[0], other[0]), max(one[1], other[1]))
        assert octets == body[part.start : part.stop]


def test_where_both_have_an_octet_the_new_one_counts() -> None:
    old, new = partial.Part(0, 6, 10), partial.Part(4, 8, 10)
    assert partial.join(old, b"aaaaaa", new, b"bbbb") == ((0, 8, 10), b"aaaabbbb")
    assert partial.join(new, b"bbbb", old, b"aaaaaa") == ((0, 8, 10), b"aaaaaabb")
    assert partial.join(old, b"aaaaaa", new._replace(total=11), b"bbbb") is None


# --- both modes ---


@pytest.mark.parametrize("rfc", [False, True])
def test_a_304_keeps_the_stored_etag_and_digest(rfc: bool) -> None:
    stage = Stage(rfc=rfc)
    stored = ['ETag: "a"', "Content-MD5: one", "X-A: 1", "Cache-Control: max-age=5"]
    stage.answer = (200, stored, b"hello")
    stage.visit()
    stage.now += 6
    stage.answer = (304, ['ETag: "b"', "Content-MD5: two", "X-A: 2", "Cache-Control: max-age=5"], b"")
    for _ in range(2):  # validated, then from the cache
        seen = stage.visit()
        assert (seen.status, seen.body, seen["etag"], seen["content-md5"]) == (200, b"hello", '"a"', "one")
        assert seen["x-a"] == "2"
    assert seen["x-cache"] == "hit"
    assert len(stage.asked) == 2


def test_a_304_with_another_etag_ends_the_storage_if_the_app_was_sent_a_date_too() -> None:
    """Some apps compare nothing but the date."""
    stage = Stage()
    stage.answer = (200, ['ETag: "a"', f"Last-Modified: {YESTERDAY}", "Cache-Control: max-age=5"], b"hello")
    stage.visit()
    stage.now += 6
    stage.answer = (304, ['ETag: "b"', "Cache-Control: max-age=5"], b"")
    seen = stage.visit()
    assert (seen.body, seen["etag"]) == (b"hello", '"a"')
    assert stage.cache.entries == 0


def test_a_stored_content_range_without_meaning_does_not_meet_a_real_one() -> None:
    stage = Stage()
    stage.answer = (200, [MINUTE, "Content-Range: nonsense"], b"0123456789")
    assert [stage.visit()["content-range"] for _ in range(2)] == ["nonsense", "nonsense"]
    seen = stage.visit("/", "Range: bytes=2-3")
    assert [value for name, value in seen.fields if name == "content-range"] == ["bytes 2-3/10"]


def test_a_client_with_another_version_of_a_no_cache_response_asks_the_app_itself() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: no-cache")
    stage.visit()
    stage.answer = tagged('"b"', "Cache-Control: no-cache", body=b"new")
    seen = stage.visit("/", 'If-None-Match: "b"')
    assert (seen.status, stage.asked[-1].line(b"if-none-match")) == (304, b'"b"')
    stage.answer = tagged('"a"', "Cache-Control: no-cache")
    assert stage.visit("/", 'If-None-Match: "a"').status == 304
    assert stage.visit().body == b"hello"
    assert stage.asked[-1].line(b"if-none-match") == b'"a"'


# --- clearing ---


def test_what_is_on_its_way_is_not_stored_after_the_clearing() -> None:
    stage = Stage()
    found: Recording | CacheHit | Refusal | object = stage.look_up(request())
    assert isinstance(found, Recording)
    assert stage.cache.clear("u") == 0
    stage.finish(found)
    assert stage.cache.entries == 0


def test_a_304_on_its_way_does_not_renew_after_the_clearing() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: max-age=5")
    stage.visit()
    stage.now += 6
    found = stage.look_up(request())
    stage.cache.clear("u/t")
    assert stage.finish(found).body == b"hello"
    assert stage.cache.entries == 0


def test_only_the_named_tenants_and_users_are_cleared() -> None:
    stage = Stage()
    for tenant in ("a/x", "a/x/y", "ab/x", "b/x", "b/y", "c"):
        stage.visit(tenant=tenant)
    assert stage.cache.clear("a/x", "b", "z") == 4
    assert [stage.visit(tenant=tenant)["x-cache"] for tenant in ("ab/x", "c")] == ["hit", "hit"]
