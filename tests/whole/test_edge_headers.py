"""Headers that a request gains and loses on its way to the app, and a response on its way back."""

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from whole.daemon import Daemon
from whole.visits import Line, ask, get, parrot, request, say, seen, serving


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("headers"), parrot()) as one:
        yield one


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(
        tmp_path_factory.mktemp("closed"), parrot(server="  forward_headers: false\n  trusted_hops: 2")
    ) as one:
        yield one


def remote(daemon: Daemon, *headers: str) -> str:
    """The visitor's address in the log."""
    marker = get(daemon, "/ann/seen", *headers).one("x-request-id")
    return str(daemon.until_reported("request", request_id=marker)["remote"])


def test_the_app_gets_the_clients_address_scheme_and_time(daemon: Daemon) -> None:
    app_saw = seen(get(daemon, "/ann/seen", "Accept: */*"))
    assert app_saw.one("Host") == app_saw.one("X-Forwarded-Host") == "here.example"
    assert app_saw.one("X-Forwarded-For") == "127.0.0.1"
    assert app_saw.one("X-Forwarded-Proto") == "http"
    start = re.fullmatch(r"t=(\d{13})", app_saw.one("X-Request-Start") or "")
    assert start is not None
    assert abs(int(start[1]) / 1000 - time.time()) < 60
    assert not app_saw.all("User-Agent")
    assert not app_saw.all("Connection")


def test_headers_of_proxies_in_front_are_kept_and_extended(daemon: Daemon) -> None:
    app_saw = seen(
        get(
            daemon, "/ann/seen", "X-Forwarded-For: 1.2.3.4", "x-forwarded-proto: https", "X-Forwarded-For:  5.6.7.8 ",
            "X-Forwarded-Host: pub.example", "Forwarded: for=9.9.9.9", "X-Forwarded-For:", "X-Request-Start: t=5",
            "Via: 1.1 x",
        )
    )  # fmt: skip
    assert app_saw.one("X-Forwarded-For") == "1.2.3.4, 5.6.7.8, 127.0.0.1"
    assert (app_saw.one("X-Forwarded-Proto"), app_saw.one("X-Forwarded-Host")) == ("https", "pub.example")
    assert (app_saw.one("X-Request-Start"), app_saw.one("Via")) == ("t=5", "1.1 x")
    assert not app_saw.all("Forwarded")


def test_without_forward_headers_only_our_own_word_counts(closed: Daemon) -> None:
    app_saw = seen(
        get(
            closed, "/ann/seen", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https",
            "X-Forwarded-Host: pub.example",
            "Forwarded: for=9.9.9.9", "X-Request-Start: t=5",
        )
    )  # fmt: skip
    reported = [app_saw.one(f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")]
    assert reported == ["127.0.0.1", "http", "here.example"]
    assert not app_saw.all("Forwarded")


def test_headers_of_one_hop_end_here(daemon: Daemon) -> None:
    app_saw = seen(
        get(
            daemon, "/ann/seen", "Connection: close, X-Foo", "X-Foo: 1", "x-FOO: 2", "X-Food: stays",
            "Keep-Alive: timeout=9",
            "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "TE: gzip;q=1, Trailers",
            "connection: x-bar",
            "X-Bar: 1", "Proxy: http://evil.example", "HTTP2-Settings: AAMAAABkAAQ", "Trailer: X-T",
        )
    )  # fmt: skip
    names = {name.lower() for name, _ in app_saw.headers}
    assert names == {
        "host", "x-food", "te", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id",
        "x-request-start", "x-sendfile-type",
    }  # fmt: skip
    assert app_saw.one("TE") == "trailers"


def test_a_client_cannot_have_the_headers_of_proxies_removed(daemon: Daemon) -> None:
    app_saw = seen(
        get(daemon, "/ann/seen", "X-Forwarded-For: 1.2.3.4", "Connection: X-Forwarded-For, Host, Content-Length, close")
    )
    assert app_saw.one("X-Forwarded-For") == "1.2.3.4, 127.0.0.1"
    assert app_saw.one("Host") == "here.example"


def test_names_which_an_app_would_mistake_for_ours_are_dropped(daemon: Daemon) -> None:
    twins = [
        "X_Forwarded_For",
        "x_forwarded-proto",
        "X-Forwarded_Host",
        "X_Request_Id",
        "Content_Length",
        "Transfer_Encoding",
    ]
    app_saw = seen(get(daemon, "/ann/seen", *(f"{name}: 66" for name in twins), "X_Harmless: 1"))
    names = [name for name, _ in app_saw.headers]
    assert not set(names) & set(twins)
    assert "X_Harmless" in names


def test_duplicates_order_case_and_bytes_are_kept(daemon: Daemon) -> None:
    given = [
        ("X-Two", "1"),
        ("cookie", "a=b; c=d"),
        ("x-tWO", "2"),
        ("Cookie", 'q="é"'),
        ("X-Empty", ""),
        ("X-Tab", "a\tb"),
    ]
    app_saw = seen(get(daemon, "/ann/seen", *(f"{name}: {value}" for name, value in given)))
    assert app_saw.headers[1 : 1 + len(given)] == given


@pytest.mark.parametrize("given", ["abc-123", "x" * 200, "!~/+="])
def test_a_sane_request_id_is_kept_and_passed_to_app_client_and_log(daemon: Daemon, given: str) -> None:
    reply = get(daemon, "/ann/seen", f"X-Request-Id: {given}")
    assert reply.one("X-Request-Id") == seen(reply).one("X-Request-Id") == given
    daemon.until_reported("request", request_id=given)


@pytest.mark.parametrize("given", ["", "x" * 201, "a b", "é", "a\tb"])
def test_any_other_request_id_is_replaced(daemon: Daemon, given: str) -> None:
    reply = get(daemon, "/ann/seen", f"X-Request-Id: {given}")
    made = reply.one("X-Request-Id")
    assert re.fullmatch("[0-9a-f]{32}", made or "")
    assert seen(reply).one("X-Request-Id") == made


def test_every_answer_has_an_id_also_refusals_and_redirects(daemon: Daemon) -> None:
    assert get(daemon, "/nonesuch", "X-Request-Id: mine").one("X-Request-Id") == "mine"
    assert get(daemon, "/ann", "X-Request-Id: mine").one("X-Request-Id") == "mine"
    made = ask(daemon, b"nonsense\r\n\r\n").one("X-Request-Id")
    daemon.until_reported("refused", request_id=made)


def test_a_response_loses_what_belongs_to_one_hop_and_what_is_not_for_clients(daemon: Daemon) -> None:
    reply = get(
        daemon,
        say(
            b"HTTP/1.1 200 Fine, thanks\r\nX-A: 1\r\nSet-Cookie: a=1\r\nConnection: X-Foo, keep-alive\r\nX-Foo: 1\r\n"
            b"Keep-Alive: timeout=9\r\nProxy-Authenticate: x\r\nfly-replay: region=sjc\r\nFly-Replay-Cache: /x\r\n"
            b'Set-Cookie: b=2\r\nX-Request-Id: theirs\r\nUpgrade: h2c\r\nETag: "x"\r\n'
            b"Content-Length: 2\r\nx-a: 2\r\n\r\nok"
        ),
    )
    assert reply.line == "HTTP/1.1 200 Fine, thanks"
    names = [name for name, _ in reply.headers]
    assert names == [
        "X-A", "Set-Cookie", "Set-Cookie", "ETag", "Content-Length", "x-a", "Cache-Status", "X-Cache", "Date",
        "X-Request-Id",
    ]  # fmt: skip
    assert reply.all("set-cookie") == ["a=1; Path=/ann", "b=2; Path=/ann"]
    assert reply.body == b"ok"


def test_a_date_is_added_where_there_is_none(daemon: Daemon) -> None:
    reply = get(daemon, say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert abs(parsedate_to_datetime(reply.one("Date") or "").timestamp() - time.time()) < 60
    reply = get(daemon, say(b"HTTP/1.1 200 OK\r\nDATE: then\r\nContent-Length: 0\r\n\r\n"))
    assert reply.one("Date") == "then"


def test_an_old_client_needs_no_host(daemon: Daemon) -> None:
    app_saw = seen(ask(daemon, b"GET /ann/seen HTTP/1.0\r\n\r\n"))
    assert app_saw.line == "GET /ann/seen HTTP/1.1"
    assert app_saw.one("Host") == app_saw.one("X-Forwarded-Host") == "localhost"


def test_the_log_believes_no_address_that_a_client_could_have_written(daemon: Daemon, closed: Daemon) -> None:
    assert remote(daemon, "X-Forwarded-For: 1.1.1.1", "Fly-Client-IP: 2.2.2.2") == "127.0.0.1"
    assert remote(closed, "X-Forwarded-For: 6.6.6.6, 1.1.1.1", "X-Forwarded-For: 2.2.2.2") == "1.1.1.1"
    assert remote(closed, "X-Forwarded-For: 2.2.2.2") == "127.0.0.1"
    assert remote(closed) == "127.0.0.1"


def test_only_the_tenants_own_request_is_changed_by_a_keep_alive(daemon: Daemon) -> None:
    with Line(daemon) as line:
        first = seen(line.send(request("/ann/seen", "X-Once: 1")).reply())
        second = seen(line.send(request("/ann/seen")).reply())
    assert first.all("X-Once") == ["1"]
    assert second.all("X-Once") == []


def test_on_fly_the_log_has_the_address_that_fly_saw(tmp_path: Path) -> None:
    with serving(tmp_path, parrot(), {"FLY_APP_NAME": "shows"}) as fly:
        assert remote(fly, "Fly-Client-IP: 2001:db8::7", "X-Forwarded-For: 6.6.6.6") == "2001:db8::7"
        assert remote(fly) == "127.0.0.1"
