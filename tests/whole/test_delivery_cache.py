"""Responses from the cache, to raw clients of the daemon."""

import gzip
import threading
from collections.abc import Iterator

import pytest

from whole.daemon import Daemon, eventually
from whole.visits import PARROT, Line, Reply, get, parrot, say, serving

PAGE = b"".join(b"<p>paragraph %d of a page</p>\n" % n for n in range(300))
ILL = '[sh, -c, "test ! -e ill && exec \\"$@\\"", sh, ' + PARROT[1:]  # starts no more where a file "ill" lies
USERS = f"users: {{ann: null, bob: null, off: {{delivery: {{cache: {{enabled: false}}}}}}, ill: {{command: {ILL}}}}}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("cache"), parrot(users=USERS)) as one:
        yield one


def answer(*lines: bytes, body: bytes = b"hello") -> bytes:
    whole = (b"HTTP/1.1 200 OK", b"Content-Type: text/html", b"Content-Length: %d" % len(body), *lines)
    return b"\r\n".join(whole) + b"\r\n\r\n" + body


def public(name: str, *lines: bytes, body: bytes = b"hello", more: str = "") -> str:
    """An address whose answer may be kept for an hour; each name is another address."""
    return say(answer(b"Cache-Control: public, max-age=3600", *lines, body=body), more=f"&name={name}{more}")


def tally(daemon: Daemon, user: str = "ann") -> int:
    """How often the app was asked to say something."""
    return int(get(daemon, f"/{user}/tally").json.get("say", 0))


def reported(reply: Reply) -> str:
    return reply.one("x-cache") or ""


def test_the_second_client_is_served_from_the_cache(daemon: Daemon) -> None:
    first, second = (get(daemon, public("second")) for _ in range(2))
    assert (reported(first), reported(second)) == ("miss", "hit")
    assert first.body == second.body == b"hello"
    assert second.one("age") == "0"
    assert (second.one("cache-status") or "").startswith("flyatc; hit; ttl=3")
    assert second.one("x-request-id") not in (None, first.one("x-request-id"))


def test_what_is_not_public_is_asked_each_time(daemon: Daemon) -> None:
    before = tally(daemon)
    replies = [get(daemon, say(answer(), more="&name=private")) for _ in range(3)]
    assert [reported(reply) for reply in replies] == ["miss"] * 3
    assert tally(daemon) == before + 3


def test_no_tenant_sees_anothers_responses(daemon: Daemon) -> None:
    assert reported(get(daemon, public("mine"))) == "miss"
    assert reported(get(daemon, public("mine").replace("/ann/", "/bob/"))) == "miss"


def test_a_hit_does_not_wake_a_sleeping_tenant(daemon: Daemon) -> None:
    assert reported(get(daemon, public("asleep"))) == "miss"
    assert daemon.cli("stop", "ann").returncode == 0
    assert reported(get(daemon, public("asleep"))) == "hit"
    assert daemon.status("ann")["state"] == "stopped"


def test_a_tenant_may_switch_it_off(daemon: Daemon) -> None:
    replies = [get(daemon, public("off").replace("/ann/", "/off/")) for _ in range(2)]
    assert [reply.one("x-cache") for reply in replies] == [None, None]


def test_a_hit_is_encoded_once_and_kept(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.get(public("packed", body=PAGE)).body == PAGE
        replies = [line.get(public("packed", body=PAGE), "Accept-Encoding: gzip") for _ in range(3)]
        assert {reported(reply) for reply in replies} == {"hit"}
        assert {reply.one("content-encoding") for reply in replies} == {"gzip"}
        assert {reply.one("vary") for reply in replies} == {"Accept-Encoding"}
        assert {gzip.decompress(reply.body) for reply in replies} == {PAGE}
        assert line.get(public("packed", body=PAGE)).body == PAGE
        bare = line.get(public("packed", body=PAGE), "Accept-Encoding: gzip", method="HEAD")
        assert bare.one("content-length") == str(len(replies[0].body))


def test_a_large_hit_is_encoded_for_later_requests(daemon: Daemon) -> None:
    with Line(daemon) as line:
        address = "/ann/write?mb=1&public=1"
        assert reported(line.get(address)) == "miss"

        def encoded() -> Reply | None:
            reply = line.get(address, "Accept-Encoding: br")
            assert reported(reply) == "hit"
            return reply if reply.one("content-encoding") == "br" else None

        assert len(eventually(encoded, what="the encoded form").body) < 1 << 18


def test_twenty_clients_at_once_are_one_request_of_the_app(daemon: Daemon) -> None:
    before, replies = tally(daemon), []
    address = say(*(bytes([c]) for c in answer(b"Cache-Control: public, max-age=60")), more="&pause=0.005&name=storm")
    visitors = [threading.Thread(target=lambda: replies.append(get(daemon, address))) for _ in range(20)]
    for one in visitors:
        one.start()
    for one in visitors:
        one.join()
    assert [reply.body for reply in replies] == [b"hello"] * 20
    assert tally(daemon) == before + 1


def test_a_client_that_leaves_does_not_take_the_others_response_along(daemon: Daemon) -> None:
    address = say(*(bytes([c]) for c in answer(b"Cache-Control: public, max-age=60")), more="&pause=0.005&name=left")
    with Line(daemon) as leader, Line(daemon) as other:
        leader.send(b"GET %b HTTP/1.1\r\nHost: here.example\r\n\r\n" % address.encode())
        threading.Event().wait(0.05)
        other.send(b"GET %b HTTP/1.1\r\nHost: here.example\r\n\r\n" % address.encode())
        threading.Event().wait(0.05)
        leader.socket.close()
        assert other.reply().body == b"hello"


def test_a_stale_response_is_sent_and_refreshed_behind_it(daemon: Daemon) -> None:
    address = say(answer(b"Cache-Control: max-age=0, stale-while-revalidate=600"), more="&name=stale")
    before = tally(daemon)
    assert reported(get(daemon, address)) == "miss"
    assert reported(get(daemon, address)) == "hit"
    eventually(lambda: tally(daemon) == before + 2, what="the refresh")


def test_a_stale_response_stands_in_for_an_app_that_does_not_start(daemon: Daemon) -> None:
    address = say(answer(b"Cache-Control: max-age=0, stale-if-error=600"), more="&name=ill").replace("/ann/", "/ill/")
    assert reported(get(daemon, address)) == "miss"
    assert daemon.cli("stop", "ill").returncode == 0
    (daemon.folder / "ill").touch()
    for _ in range(2):  # it fails to start; then its back-off is not over
        reply = get(daemon, address)
        assert (reply.status, reply.body, reported(reply)) == (200, b"hello", "hit")
        assert reply.one("cache-status") == "flyatc; fwd=stale; detail=stale-if-error"
    assert get(daemon, "/ill/seen").status == 502
    line = daemon.until_reported("request", tenant="ill", cache="hit")
    assert (line["status"], line["start"]) == (200, "cold")
    assert line["reason"].startswith("stale-if-error: ")


def test_a_stored_response_is_revalidated_and_the_clients_own_condition_stays_its_own(daemon: Daemon) -> None:
    address = say(answer(b'ETag: "a"', b"Cache-Control: public, no-cache"), more="&name=asked")
    assert reported(get(daemon, address)) == "miss"
    assert get(daemon, address, 'If-None-Match: "a"').status in (200, 304)
    assert get(daemon, address, 'If-None-Match: "other"').status == 200


def test_an_app_that_breaks_off_leaves_nothing(daemon: Daemon) -> None:
    half = answer(b"Cache-Control: public, max-age=60", body=b"x" * 100)[:-50]
    for _ in range(2):
        reply = get(daemon, say(half, more="&close=1&name=half"))
        assert (reported(reply), reply.complete) == ("miss", False)


def test_it_is_cleared_by_hand(daemon: Daemon) -> None:
    bobs = public("cleared").replace("/ann/", "/bob/")
    for address in (public("cleared"), bobs):
        get(daemon, address)
        assert reported(get(daemon, address)) == "hit"
    run = daemon.cli("cache", "clear", "ann")
    assert run.returncode == 0, run.stderr
    assert "forgotten" in run.stdout
    assert reported(get(daemon, public("cleared"))) == "miss"
    assert reported(get(daemon, bobs)) == "hit"
    assert daemon.cli("cache", "clear").returncode == 0
    assert reported(get(daemon, bobs)) == "miss"
