"""Requests through the cache to an app that records them. The clock is a number."""

import pytest

from fakes.cached_app import MINUTE, START, Answer, Seen, Stage, counting, outcomes, request, tagged
from flyatc.delivery import conditional
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.state import Waiting
from flyatc.delivery.cache.stored import CacheHit, File, Form, Ready
from flyatc.wire import head

# --- thruster's contract (its cases, by number) ---


def test_06_a_public_response_is_asked_for_once() -> None:
    stage = Stage()
    stage.answer = counting(MINUTE)
    first, second = stage.visit(), stage.visit()
    assert (first["x-cache"], first.body) == ("miss", b"v1")
    assert (second["x-cache"], second.body) == ("hit", b"v1")
    assert len(stage.asked) == 1
    assert first["cache-status"] == "flyatc; fwd=uri-miss; stored"
    assert second["cache-status"] == "flyatc; hit; ttl=60"


@pytest.mark.parametrize(("status", "hit"), [(404, True), (400, False), (500, False), (301, True)])
def test_08_errors_but_404_are_never_stored_and_redirects_are(status: int, hit: bool) -> None:
    stage = Stage()
    stage.answer = (status, [MINUTE, "Location: /x"], b"")
    assert outcomes(stage, "/", "/") == ["miss", "hit" if hit else "miss"]


def test_09_a_post_goes_past() -> None:
    stage = Stage()
    assert [stage.visit(method="POST")["x-cache"] for _ in range(2)] == ["bypass", "bypass"]
    assert len(stage.asked) == 2


def test_10_other_queries_and_other_hosts_are_other_responses() -> None:
    stage = Stage()
    assert outcomes(stage, "/?a=1&b=2", "/?a=2", "/?a=1&b=2", "/?", "/") == ["miss", "miss", "hit", "miss", "miss"]
    assert stage.visit("/?a=2", host="other")["x-cache"] == "miss"
    assert stage.visit("/?a=2", host="H")["x-cache"] == "hit"


@pytest.mark.parametrize("big", [False, True])
def test_12_no_client_gets_the_cookie_of_a_public_response(big: bool) -> None:
    stage = Stage(item=100)
    stage.answer = (200, [MINUTE, "Set-Cookie: a=1", "Set-Cookie: b=2"], b"x" * (200 if big else 50))
    seen = [stage.visit(), stage.visit()]
    assert [s["set-cookie"] for s in seen] == [None, None]
    assert seen[1]["x-cache"] == ("miss" if big else "hit")


@pytest.mark.parametrize("control", ["private", "max-age=60", "no-store", "s-maxage=5"])
def test_12_cookies_of_other_responses_arrive_and_are_not_stored(control: str) -> None:
    stage = Stage()
    stage.answer = (200, [f"Cache-Control: {control}", "Set-Cookie: a=1", "Set-Cookie: b=2"], b"")
    for _ in range(2):
        seen = stage.visit()
        assert [v for n, v in seen.fields if n == "set-cookie"] == ["a=1", "b=2"]
        assert seen["x-cache"] == "miss"


def test_13_a_client_that_has_it_gets_304() -> None:
    stage = Stage()
    stage.answer = (200, [MINUTE, 'ETag: "abc"', "Content-Type: text/plain", "Vary: X"], b"hello")
    stage.visit()
    seen = stage.visit("/", 'If-None-Match: "x", "abc"')
    assert (seen.status, seen.body, seen["etag"], seen["x-cache"]) == (304, b"", '"abc"', "hit")
    assert (seen["vary"], seen["cache-control"], seen["content-type"]) == ("X", "public, max-age=60", None)
    assert seen["content-length"] is None
    assert stage.visit("/", 'If-None-Match: "zzz"').status == 200
    assert stage.visit("/", 'If-None-Match: W/"abc"').status == 304
    assert stage.visit("/", "If-None-Match: *").status == 304


def test_14_a_head_is_stored_for_heads_and_a_get_for_both() -> None:
    stage = Stage()
    for cache in ("miss", "hit"):
        seen = stage.visit(method="HEAD")
        assert (seen["x-cache"], seen["content-length"], seen.body) == (cache, "5", b"")
    found = stage.look_up(request(method="HEAD"))
    assert isinstance(found, CacheHit)
    assert not found.whole
    seen = stage.visit()
    assert (seen["x-cache"], seen.body) == ("miss", b"hello")
    stage.cache.clear()
    stage.visit()
    seen = stage.visit(method="HEAD")
    assert (seen["x-cache"], seen["content-length"], seen.body) == ("hit", "5", b"")


def test_15_a_part_of_what_is_not_stored_goes_past_and_is_not_stored() -> None:
    stage = Stage()
    assert stage.visit("/", "Range: bytes=0-1")["x-cache"] == "bypass"
    assert outcomes(stage, "/", "/") == ["miss", "hit"]


def test_16_a_second_is_a_second() -> None:
    stage = Stage()
    stage.answer = counting("Cache-Control: public, max-age=1")
    stage.visit()
    stage.now += 0.9
    assert stage.visit().body == b"v1"
    stage.now += 0.1
    assert stage.visit().body == b"v2"


@pytest.mark.parametrize(("bound", "item", "length"), [(0, 0, 5), (0, 100, 5), (1 << 20, 100, 101), (5000, 5000, 4000)])
@pytest.mark.parametrize("framed", [True, False])
def test_17_what_has_no_room_passes_whole(bound: int, item: int, length: int, framed: bool) -> None:
    stage = Stage(bound, item)
    stage.framed = framed
    lines = [MINUTE] if framed else [MINUTE, "Transfer-Encoding: chunked"]
    stage.answer = (200, lines, b"x" * length)
    for _ in range(2):
        seen = stage.visit()
        assert (seen["x-cache"], len(seen.body)) == ("miss", length)
    assert stage.cache.octets == 0


# --- and beyond it ---


def test_a_response_grows_old_and_says_so() -> None:
    stage = Stage()
    stage.answer = (200, [MINUTE, "Age: 10", f"Date: {conditional.write(START).decode()}"], b"")
    stage.visit()
    stage.now += 20.5
    seen = stage.visit()
    assert (seen["age"], seen["date"]) == ("30", conditional.write(START).decode())
    assert [n for n, _ in seen.fields].count("age") == 1
    assert seen["cache-status"] == "flyatc; hit; ttl=30"
    stage.now += 30
    assert stage.visit()["x-cache"] == "miss"


def test_chunked_responses_get_a_length_and_broken_ones_are_not_stored() -> None:
    stage = Stage()
    stage.framed = False
    stage.answer = (200, [MINUTE], b"until the end of the connection")
    assert outcomes(stage, "/", "/") == ["miss", "miss"]
    stage.answer = (200, [MINUTE, "Transfer-Encoding: chunked"], b"chunks")
    stage.visit("/a")
    assert stage.visit("/a")["content-length"] == "6"
    recording = stage.look_up(request("/b"))
    assert isinstance(recording, Recording)
    came, body = stage.ask(recording)
    recording.answer(came, stage.now)
    recording.body(body)
    assert recording.fail(stage.now) is None
    assert stage.visit("/b")["x-cache"] == "miss"


def test_what_belongs_to_one_hop_or_one_client_is_not_stored() -> None:
    stage = Stage()
    own = ["X-Cache: theirs", "Connection: X-Hop", "X-Hop: 1", "X-Request-Id: 7", "X-Kept: 1", "X-User: bob"]
    stage.answer = (200, ['Cache-Control: max-age=60, private="x-user"', *own], b"")
    assert stage.visit()["x-user"] == "bob"
    seen = stage.visit()
    assert {n for n, _ in seen.fields} == {
        "cache-control", "x-kept", "date", "content-length", "age", "cache-status", "x-cache",
    }  # fmt: skip


def test_tenants_never_meet() -> None:
    stage = Stage()
    stage.answer = counting(MINUTE)
    assert [stage.visit(tenant=t).body for t in ("a/b", "a/c", "a/b", "a", "b/a")] == [
        b"v1",
        b"v2",
        b"v1",
        b"v3",
        b"v4",
    ]
    assert stage.visit("/x/", host="ab.com").body == b"v5"
    assert stage.visit("/x/a", host="b.com").body == b"v6"
    assert stage.visit("/a%2Fb").body == b"v7"
    assert stage.visit("/a/b").body == b"v8"


def test_clearing_takes_a_tenant_a_user_or_all() -> None:
    stage = Stage()
    for tenant in ("a/b", "a/c", "ab/c", "d/e"):
        stage.visit(tenant=tenant)
    assert stage.cache.clear("a/b") == 1
    assert stage.cache.clear("a") == 1
    assert stage.cache.entries == 2
    assert stage.cache.clear() == 2
    assert (stage.cache.entries, stage.cache.octets) == (0, 0)


def test_what_is_on_its_way_while_all_is_cleared_is_not_stored() -> None:
    stage = Stage()
    recording = stage.look_up(request())
    assert isinstance(recording, Recording)
    stage.cache.clear()
    stage.finish(recording)
    assert stage.cache.entries == 0


@pytest.mark.parametrize("line", ["X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "X_Forwarded_Scheme: http"])
def test_headers_that_an_app_may_take_for_its_address_poison_no_other_client(line: str) -> None:
    stage = Stage()
    stage.answer = counting(MINUTE)
    assert [stage.visit("/", *lines).body for lines in 3 * ([line], [])] == 3 * [b"v1", b"v2"]
    assert isinstance(stage.look_up(request("/", line)), Ready)


def test_a_hit_is_rendered_once_for_requests_that_are_alike() -> None:
    stage = Stage()
    stage.visit()
    first, second = stage.look_up(request()), stage.look_up(request())
    stage.finish(first)
    ready = stage.look_up(request("/", "X-Requested-With: it"))
    assert isinstance(ready, Ready)
    stage.finish(second)
    assert stage.look_up(request()) is ready


def test_a_body_in_a_get_goes_past() -> None:
    stage = Stage()
    stage.visit()
    assert stage.visit("/", "Content-Length: 3")["x-cache"] == "bypass"
    assert stage.visit("/", 'If-Match: "a"')["x-cache"] == "bypass"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    assert stage.visit("/", *upgrade)["x-cache"] == "bypass"


# --- Vary ---


def test_variants_are_distinguished_by_all_vary_lines() -> None:
    stage = Stage()
    stage.answer = counting(MINUTE, "Vary: Accept", "Vary: Cookie, ACCEPT")
    asks: tuple[list[str], ...] = (
        ["Accept: a", "Cookie: 1"],
        ["Accept: a", "Cookie: 2"],
        ["Accept: b", "Cookie: 1"],
        ["Accept: a"],
        [],
    )
    assert [stage.visit("/", *lines).body for lines in asks] == [b"v1", b"v2", b"v3", b"v4", b"v5"]
    assert [stage.visit("/", *lines).body for lines in asks] == [b"v1", b"v2", b"v3", b"v4", b"v5"]
    assert stage.visit("/", "Accept: c")["cache-status"] == "flyatc; fwd=vary-miss; stored"


def test_an_app_that_changes_its_vary_is_believed() -> None:
    stage = Stage()
    stage.answer = counting("Cache-Control: max-age=5")
    stage.visit("/", "Accept: a")
    stage.now += 5
    stage.answer = counting("Cache-Control: max-age=5", "Vary: Accept")
    stage.visit("/", "Accept: a")
    assert stage.visit("/", "Accept: a")["x-cache"] == "hit"
    assert stage.visit("/", "Accept: b")["x-cache"] == "miss"


def test_variants_without_end_do_not_fill_the_cache() -> None:
    stage = Stage()
    stage.answer = (200, [MINUTE, "Vary: User-Agent"], b"")
    for number in range(100):
        stage.visit("/", f"User-Agent: {number}")
    assert stage.cache.entries == 64
    assert stage.visit("/", "User-Agent: 99")["x-cache"] == "hit"


# --- Authorization ---


def test_a_client_with_credentials_gets_only_public_responses() -> None:
    stage = Stage()
    stage.answer = counting("Cache-Control: max-age=60")
    bob = "Authorization: Basic bob"
    assert [stage.visit("/", *lines).body for lines in ([bob], [], [bob], [])] == [b"v1", b"v2", b"v3", b"v2"]
    stage.answer = counting(MINUTE)
    assert [stage.visit("/p", *lines).body for lines in ([bob], [], [bob])] == [b"v1", b"v1", b"v1"]


# --- asking again ---


def test_a_stale_response_is_asked_about_and_freshened() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', MINUTE, "X-Old: 1", f"Last-Modified: {conditional.write(START - 99).decode()}")
    stage.visit()
    stage.now += 61
    stage.answer = tagged('"a"', "Cache-Control: max-age=30", "X-New: 1", "Set-Cookie: mine=1")
    seen = stage.visit("/", 'If-None-Match: "own"', "If-Modified-Since: x")
    asked = stage.asked[-1]
    assert asked.line(b"if-none-match") == b'"a"'
    assert asked.line(b"if-modified-since") == conditional.write(START - 99)
    assert (seen.status, seen.body, seen["age"], seen["x-cache"]) == (200, b"hello", "0", "hit")
    assert seen["cache-status"] == "flyatc; fwd=stale; fwd-status=304"
    assert (seen["x-new"], seen["x-old"], seen["set-cookie"]) == ("1", "1", "mine=1")
    stage.now += 29
    seen = stage.visit()
    assert (seen["x-cache"], seen["x-new"], seen["set-cookie"], seen["content-length"]) == ("hit", "1", None, "5")
    assert len(stage.asked) == 2
    assert stage.cache.counts.refreshed == 1


def test_a_freshened_response_is_cut_and_compared_as_any_other() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: public, max-age=1")
    stage.visit()
    stage.now += 2
    assert stage.visit("/", 'If-None-Match: "a"').status == 304
    stage.now += 2
    seen = stage.visit("/", "Range: bytes=1-2")
    assert (seen.status, seen.body) == (206, b"el")
    stage.now += 2
    assert stage.visit(method="HEAD")["content-length"] == "5"
    assert stage.visit().body == b"hello"


def test_a_304_which_takes_the_permission_back_ends_the_storage() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: public, max-age=1")
    stage.visit()
    stage.now += 2
    stage.answer = tagged('"a"', "Cache-Control: no-store")
    assert stage.visit().body == b"hello"
    assert stage.cache.entries == 0


def test_no_cache_is_stored_and_asked_about_each_time() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: public, no-cache")
    assert [stage.visit()["cache-status"] for _ in range(3)] == [
        "flyatc; fwd=uri-miss; stored", "flyatc; fwd=stale; fwd-status=304", "flyatc; fwd=stale; fwd-status=304",
    ]  # fmt: skip
    stage.answer = tagged('"b"', "Cache-Control: public, no-cache", body=b"new")
    assert stage.visit().body == b"new"
    assert stage.visit()["x-cache"] == "hit"


def test_a_reload_asks_the_app_and_renews_what_is_stored() -> None:
    stage = Stage()
    stage.answer = counting(MINUTE)
    stage.visit()
    seen = stage.visit("/", "Cache-Control: no-cache")
    assert (seen.body, seen["cache-status"]) == (b"v2", "flyatc; fwd=request; stored")
    assert stage.visit().body == b"v2"
    assert stage.visit("/", "Cache-Control: no-store").body == b"v2"
    assert stage.visit("/x", "Cache-Control: no-store")["cache-status"] == "flyatc; fwd=request"
    assert stage.visit("/x")["x-cache"] == "miss"


def test_only_if_cached_never_reaches_the_app() -> None:
    stage = Stage()
    assert stage.visit("/", "Cache-Control: only-if-cached").status == 504
    assert not stage.asked
    stage.visit()
    assert stage.visit("/", "Cache-Control: only-if-cached")["x-cache"] == "hit"


def test_a_clients_own_condition_about_what_is_not_stored_is_the_apps() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', MINUTE)
    seen = stage.visit("/", 'If-None-Match: "a"')
    assert (seen.status, seen["x-cache"]) == (304, "miss")
    assert stage.cache.entries == 0


# --- stale answers ---


def test_a_stale_response_goes_out_while_one_asks_in_the_background() -> None:
    stage = Stage()
    stage.answer = counting("Cache-Control: max-age=10, stale-while-revalidate=20")
    stage.visit()
    stage.now += 15
    first, second = stage.look_up(asked := request("/", "Range: bytes=0-0")), stage.look_up(request())
    assert isinstance(first, CacheHit)
    assert isinstance(second, CacheHit)
    assert (first.refresh, second.refresh) == (True, True)
    recording = stage.cache.refresh(first, asked, "u/t", stage.now)
    third = stage.look_up(request())
    assert isinstance(third, CacheHit)
    assert (third.refresh, third.body, stage.finish(third)["age"]) == (False, b"v1", "15")
    stage.finish(recording)
    assert stage.asked[-1].line(b"range") is None
    fresh = stage.look_up(request())
    assert isinstance(fresh, CacheHit)
    assert (fresh.body, fresh.refresh) == (b"v2", False)
    stage.now += 30
    assert stage.visit().body == b"v3"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_stale_response_stands_in_for_errors(status: int) -> None:
    stage = Stage()
    stage.answer = (200, ["Cache-Control: max-age=10, stale-if-error=20"], b"good")
    stage.visit()
    stage.now += 15
    stage.answer = (status, [], b"bad")
    seen = stage.visit()
    assert (seen.status, seen.body, seen["age"]) == (200, b"good", "15")
    assert seen["cache-status"] == f"flyatc; fwd=stale; fwd-status={status}; detail=stale-if-error"
    recording = stage.look_up(request())
    assert isinstance(recording, Recording)
    instead = recording.fail(stage.now)
    assert instead is not None
    assert instead.body == b"good"
    stage.now += 15
    assert stage.visit().body == b"bad"


def test_an_error_the_app_means_is_not_covered_up() -> None:
    stage = Stage()
    stage.answer = (200, ["Cache-Control: max-age=10, must-revalidate, stale-if-error=20"], b"good")
    stage.visit()
    stage.now += 15
    stage.answer = (500, [], b"bad")
    assert stage.visit().body == b"bad"


def test_what_the_app_no_longer_gives_to_all_is_no_longer_given() -> None:
    stage = Stage()
    stage.answer = (200, ["Cache-Control: max-age=10, stale-while-revalidate=99"], b"for all")
    stage.visit()
    stage.now += 15
    served = stage.look_up(request())
    assert isinstance(served, CacheHit)
    stage.answer = (200, ["Cache-Control: private"], b"for one")
    stage.finish(stage.cache.refresh(served, request(), "u/t", stage.now))
    assert stage.visit().body == b"for one"


def test_a_request_that_is_not_to_be_stored_does_not_even_freshen() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: public, max-age=10")
    stage.visit()
    stage.now += 15
    assert stage.visit("/", "Cache-Control: no-store").body == b"hello"
    assert (stage.cache.counts.refreshed, stage.cache.entries) == (0, 1)
    assert stage.visit()["cache-status"] == "flyatc; fwd=stale; fwd-status=304"


def test_only_a_request_of_the_same_method_refreshes() -> None:
    stage = Stage()
    stage.answer = (200, ["Cache-Control: max-age=10, stale-while-revalidate=99"], b"hello")
    stage.visit()
    stage.now += 15
    served = stage.look_up(request(method="HEAD"))
    assert isinstance(served, CacheHit)
    assert (served.refresh, served.whole) == (False, True)


def test_headers_that_the_edge_drops_for_the_app_reach_the_cache() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: public, max-age=10")
    stage.visit()
    stage.now += 15
    asked = request("/", 'If-None-Match: "a"')
    found = stage.look_up(asked)
    asked.drop(b"if-none-match")
    assert stage.finish(found).status == 304


# --- parts ---


@pytest.mark.parametrize(
    ("lines", "status", "body", "part"),
    [
        (["Range: bytes=0-1"], 206, b"01", "bytes 0-1/10"),
        (["Range: bytes=-3"], 206, b"789", "bytes 7-9/10"),
        (["Range: bytes=10-"], 416, b"", "bytes */10"),
        (["Range: bytes=5-2"], 200, b"0123456789", None),
        (["Range: bytes=0-1", 'If-Range: "a"'], 206, b"01", "bytes 0-1/10"),
        (["Range: bytes=0-1", 'If-Range: "b"'], 200, b"0123456789", None),
        (["Range: bytes=0-1", 'If-None-Match: "a"'], 304, b"", None),
    ],
)
def test_a_part_of_what_is_stored(lines: list[str], status: int, body: bytes, part: str | None) -> None:
    stage = Stage()
    stage.answer = (200, [MINUTE, 'ETag: "a"', "Content-Type: text/plain"], b"0123456789")
    stage.visit()
    seen = stage.visit("/", *lines)
    assert (seen.status, seen.body, seen["content-range"]) == (status, body, part)
    assert seen["content-length"] == (None if status == 304 else str(len(body)))
    assert stage.visit("/", *lines, method="HEAD").status in (200, 304)


def test_several_parts_of_what_is_stored() -> None:
    stage = Stage()
    stage.answer = (200, [MINUTE, "Content-Type: text/plain"], b"0123456789")
    stage.visit()
    seen = stage.visit("/", "Range: bytes=0-1,-1")
    kind = seen["content-type"]
    assert kind is not None
    assert kind.startswith("multipart/byteranges; boundary=")
    parts = seen.body.split(b"--" + kind.partition("=")[2].encode())
    assert parts[1] == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
    assert (len(parts), parts[3], seen["content-length"]) == (4, b"--\r\n", str(len(seen.body)))


# --- unsafe methods ---


@pytest.mark.parametrize(
    ("status", "line", "gone"),
    [
        (200, None, ["/a"]),
        (303, "Location: /b", ["/a", "/b"]),
        (201, "Content-Location: http://h/b", ["/a", "/b"]),
        (201, "Location: b#part", ["/a", "/b"]),
        (303, "Location: http://other/b", ["/a"]),
        (303, "Location: //[bad/b", ["/a"]),
        (404, "Location: /b", []),
        (500, None, []),
    ],
)
def test_what_an_unsafe_method_changes_is_dropped(status: int, line: str | None, gone: list[str]) -> None:
    stage = Stage()
    outcomes(stage, "/a", "/b", "/c")
    stage.answer = (status, [] if line is None else [line], b"")
    stage.visit("/a", method="PUT")
    stage.answer = (200, [], b"")
    found = outcomes(stage, "/a", "/b", "/c")
    assert [p for p, cache in zip(("/a", "/b", "/c"), found, strict=True) if cache == "miss"] == gone


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_a_safe_method_changes_nothing(method: str) -> None:
    stage = Stage()
    stage.visit()
    stage.visit(method=method)
    assert stage.visit()["x-cache"] == "hit"


@pytest.mark.parametrize(("method", "outcome"), [("POST", "miss"), ("GET", "hit")])
def test_what_another_machine_may_change_is_dropped_when_it_is_sent_there(method: str, outcome: str) -> None:
    stage = Stage()
    stage.visit("/a")
    on = stage.look_up(request("/a", "Cache-Control: no-cache", method=method))
    assert isinstance(on, Recording)
    on.sent_on()
    assert stage.visit("/a")["x-cache"] == outcome


def test_a_response_from_before_a_change_is_not_stored_after_it() -> None:
    stage = Stage()
    before = stage.look_up(request("/a"))
    stage.visit("/a", method="POST")
    stage.finish(before)
    assert stage.visit("/a")["x-cache"] == "miss"


def test_a_head_that_shows_a_change_drops_what_is_stored() -> None:
    stage = Stage()
    stage.answer = (200, ["Cache-Control: max-age=5", 'ETag: "a"'], b"hello")
    stage.visit()
    stage.now += 5
    stage.answer = (200, ["Cache-Control: no-store", 'ETag: "b"'], b"other")
    stage.visit(method="HEAD")
    assert stage.cache.entries == 0


# --- together ---


class Crowd:
    """Visitors at the same moment, who follow the rules of ``look_up``."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.seen = stage, list[Seen]()
        self.recordings, self.waiting = list[Recording](), list[Waiting]()

    def come(self, *lines: str) -> None:
        asked = request("/", *lines)
        self._enter(asked, True)

    def _enter(self, asked: head.RequestHead, may_wait: bool) -> None:
        found = self.stage.look_up(asked, waiter=(lambda again: self._enter(asked, again)) if may_wait else None)
        if isinstance(found, Recording):
            self.recordings.append(found)
        elif isinstance(found, Waiting):
            self.waiting.append(found)
        else:
            self.seen.append(self.stage.finish(found))

    def answer_all(self) -> None:
        while self.recordings:
            self.seen.append(self.stage.finish(self.recordings.pop(0)))


def test_twenty_at_once_are_one_for_the_app() -> None:
    stage = Stage()
    crowd = Crowd(stage)
    stage.answer = counting(MINUTE)
    for _ in range(20):
        crowd.come()
    crowd.answer_all()
    assert len(stage.asked) == 1
    assert [seen.body for seen in crowd.seen] == [b"v1"] * 20
    assert (stage.cache.counts.waited, stage.cache.counts.hits) == (19, 19)


def test_twenty_at_once_are_one_question_about_what_is_stale() -> None:
    stage = Stage()
    crowd = Crowd(stage)
    stage.answer = tagged('"a"', MINUTE)
    stage.visit()
    stage.now += 60
    for _ in range(20):
        crowd.come()
    crowd.answer_all()
    assert len(stage.asked) == 2
    assert {seen.body for seen in crowd.seen} == {b"hello"}


@pytest.mark.parametrize(
    "answer",
    [
        (200, ["Cache-Control: private"], b""),
        (200, [], b""),
        (500, [MINUTE], b""),
        (200, ["Cache-Control: public, no-cache", 'ETag: "a"'], b""),
        (200, [MINUTE], b"x" * (1 << 17)),
        (200, [MINUTE, "Transfer-Encoding: chunked"], b"x" * (1 << 17)),
    ],
)
def test_what_is_for_one_only_lets_all_others_go_at_once(answer: Answer) -> None:
    stage = Stage()
    stage.framed = "Transfer-Encoding: chunked" not in answer[1]
    crowd = Crowd(stage)
    stage.answer = answer
    for _ in range(20):
        crowd.come()
    assert (len(crowd.recordings), len(crowd.waiting)) == (1, 19)
    crowd.seen.append(stage.finish(crowd.recordings.pop()))
    assert len(crowd.recordings) == 19
    crowd.answer_all()
    assert (len(crowd.seen), len(stage.asked)) == (20, 20)
    crowd = Crowd(stage)
    for _ in range(5):
        crowd.come()
    assert (len(crowd.recordings), len(crowd.waiting)) == (5, 0), "no one waits in vain twice"


def test_each_waits_for_its_own_variant() -> None:
    stage = Stage()
    crowd = Crowd(stage)
    stage.answer = counting(MINUTE, "Vary: Accept")
    for _ in range(10):
        crowd.come("Accept: a")
        crowd.come("Accept: b")
    crowd.answer_all()
    assert len(stage.asked) == 2
    assert sorted(seen.body for seen in crowd.seen) == [b"v1"] * 10 + [b"v2"] * 10


def test_when_the_first_fails_all_go_and_when_it_leaves_one_goes() -> None:
    stage = Stage()
    crowd = Crowd(stage)
    for _ in range(4):
        crowd.come()
    crowd.recordings.pop().gone()
    assert (len(crowd.recordings), len(crowd.waiting)) == (1, 5)
    crowd.recordings.pop().fail(stage.now)
    assert len(crowd.recordings) == 2
    crowd.answer_all()
    assert [seen.status for seen in crowd.seen] == [200, 200]


def test_a_waiter_that_leaves_is_not_called() -> None:
    stage = Stage()
    crowd = Crowd(stage)
    for _ in range(3):
        crowd.come()
    crowd.waiting[0].leave()
    crowd.waiting[0].leave()
    crowd.answer_all()
    assert len(crowd.seen) == 2


def test_a_request_of_ones_own_kind_does_not_wait() -> None:
    stage = Stage()
    crowd = Crowd(stage)
    crowd.come()
    for line in ("Authorization: x", "Cache-Control: no-store", 'If-None-Match: "a"', "Range: bytes=0-1"):
        crowd.come(line)
    assert (len(crowd.recordings), len(crowd.waiting)) == (5, 0)


# --- room ---


def test_the_longest_unused_makes_room() -> None:
    stage = Stage(bound=20_000, item=5000)
    stage.answer = (200, [MINUTE], b"x" * 4000)
    outcomes(stage, "/a", "/b", "/c", "/a", "/d")
    assert stage.cache.evicted == 1
    assert stage.cache.octets <= 20_000
    assert outcomes(stage, "/a", "/c", "/d", "/b") == ["hit", "hit", "hit", "miss"]


def test_a_form_is_kept_counted_and_goes_with_its_entry() -> None:
    stage = Stage()
    stage.answer = tagged('"a"', "Cache-Control: max-age=60")
    stage.visit()
    served = stage.look_up(request())
    assert isinstance(served, CacheHit)
    assert served.whole
    before = stage.cache.octets
    stage.cache.keep_form(served.entry, b"gzip", Form(b"\r\nContent-Encoding: gzip", b"z" * 100))
    assert stage.cache.octets > before + 100
    again = stage.look_up(request())
    assert isinstance(again, CacheHit)
    again.encode(again.entry.forms[b"gzip"], head_only=False)
    seen = stage.finish(again)
    assert (seen["content-encoding"], seen.body, seen["x-cache"]) == ("gzip", b"z" * 100, "hit")
    stage.now += 61
    stage.visit()
    freshened = stage.look_up(request())
    assert isinstance(freshened, CacheHit)
    assert freshened.entry.forms == {b"gzip": Form(b"", b"z" * 100)}
    stage.visit(method="DELETE")
    stage.cache.keep_form(freshened.entry, b"br", Form(b"", b"z"))
    assert stage.cache.octets == 0


def test_a_file_named_by_the_app_is_recorded_by_name_and_never_cut() -> None:
    stage, named = Stage(), File(b"/srv/file", 1, 2)
    recording = stage.look_up(request())
    assert isinstance(recording, Recording)
    stage.answer = (200, [MINUTE], b"")
    came, _ = stage.ask(recording)
    recording.answer(came, stage.now, named)
    recording.end()
    served = stage.look_up(request("/", "Range: bytes=0-1"))
    assert isinstance(served, CacheHit)
    assert (served.file, served.status, served.whole, served.body) == (named, 200, False, b"")
    assert stage.finish(served)["content-length"] is None
