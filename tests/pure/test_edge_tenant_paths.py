"""Cookies and redirects of a tenant stay below its prefix: the headers of responses, rewritten."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.config.schema import App, Tenant
from flyatc.edge import tenant_paths
from flyatc.routing.route import Routes
from flyatc.wire import head_parser
from pure.test_config_resolve import resolved

CONFIG = resolved("""
app: {command: [run], strip_prefix: true}
users:
  boston:
  bellevue: {tenants: [2025/winter, "2025/summer"]}
  "*": {match: "[a-z]+"}
""")
OTHERS = Routes(CONFIG).lists


def paths(prefix: str = "/boston", **app: str) -> tenant_paths.TenantPaths | None:
    app = {"cookies": "tenant", "redirects": "tenant", **app}
    strip = app.pop("strip", "yes") == "yes"
    settings = App(command=["run"], strip_prefix=strip, **app)  # type: ignore[arg-type]
    user, _, name = prefix.strip("/").partition("/")
    tenant = Tenant(user=user, name=name, prefix=prefix, data=CONFIG.path, app=settings)
    return tenant_paths.of(tenant, OTHERS)


def lines(*wanted: str, host: str = "shop.example:3000", more: str = "", by: object = None) -> list[str]:
    """The header lines as the client gets them."""
    asked = head_parser.RequestParser().parse(f"GET /boston/a/b HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    text = "".join(f"{line}\r\n" for line in wanted)
    answer = head_parser.ResponseParser().parse(f"HTTP/1.1 200 OK\r\n{text}X-Last: 1\r\n\r\n".encode("latin-1"), b"GET")
    rewriter = by if isinstance(by, tenant_paths.TenantPaths) else paths()
    assert rewriter is not None
    if not rewriter.names.isdisjoint(answer.noted):
        rewriter.apply(answer, asked)
    found = b"".join(answer.kept).decode("latin-1").split("\r\n")[1:]
    assert found.pop() == "X-Last: 1"
    return found


COOKIES = [
    ("a=b; Path=/", "a=b; Path=/boston"),
    ("a=b", "a=b; Path=/boston"),
    ("a=b; path=/; HttpOnly; SameSite=Lax", "a=b; path=/boston; HttpOnly; SameSite=Lax"),
    ("a=b;PATH=/;Secure", "a=b;PATH=/boston;Secure"),
    ("a=b ; \t path \t=  /  ; Secure", "a=b ; \t path=/boston; Secure"),
    ("a=b; Path=/admin", "a=b; Path=/boston/admin"),
    ("a=b; Path=/bellevue/2025/winter", "a=b; Path=/boston/bellevue/2025/winter"),
    ("a=b; Path=/bostonx", "a=b; Path=/boston/bostonx"),
    ("a=b; Path=/boston; Secure", "a=b; Path=/boston; Secure"),
    ("a=b; Path=/boston/; Secure", "a=b; Path=/boston/; Secure"),
    ("a=b; Path=/boston/admin", "a=b; Path=/boston/admin"),
    ("a=b; Path=  /boston/admin", "a=b; Path=  /boston/admin"),
    ("a=b; Path", "a=b; Path=/boston"),
    ("a=b; Path=; Secure", "a=b; Path=/boston; Secure"),
    ("a=b; Path=admin", "a=b; Path=/boston"),
    ('a=b; Path="/"', "a=b; Path=/boston"),
    ("a=b; Pathology=/; Secure", "a=b; Pathology=/; Secure; Path=/boston"),
    ("a=b; XPath=/", "a=b; XPath=/; Path=/boston"),
    ("path=/; Secure", "path=/; Secure; Path=/boston"),
    ("a=path=/; Path=/", "a=path=/; Path=/boston"),
    ('a="b; Path=/x"; Secure', 'a="b; Path=/boston/x"; Secure'),  # browsers end the value at the first ";"
    ("a=b; Path=/boston; Path=/", "a=b; Path=/boston"),
    ("a=b; Path=/; Secure; Path=/boston/x; HttpOnly", "a=b; Secure; HttpOnly; Path=/boston/x"),
    ("a=b; Path=/boston; Path", "a=b; Path=/boston"),
    ("a=b; Domain=shop.example; Path=/", "a=b; Domain=shop.example; Path=/boston"),
    ("a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/", "a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/boston"),
    ("__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/boston; Secure"),
    ("", "; Path=/boston"),
    ("a=\xe9; Path=/", "a=\xe9; Path=/boston"),
    (f"a=b; Path=/boston/{'x' * 1024}", "a=b; Path=/boston"),  # browsers ignore so long an attribute
    (f"a=b; Path=/{'x' * 1020}", "a=b; Path=/boston"),
]


@pytest.mark.parametrize(("cookie", "expected"), COOKIES)
def test_a_cookie_is_for_its_tenant_only(cookie: str, expected: str) -> None:
    assert lines(f"Set-Cookie: {cookie}") == [f"Set-Cookie: {expected}".rstrip(" ")]
    assert lines(f"Set-Cookie: {expected}".rstrip(" ")) == [f"Set-Cookie: {expected}".rstrip(" ")], "not twice"


def test_all_other_bytes_are_unchanged() -> None:
    assert lines("A: ; Path=/", "set-COOKIE:a=1", "B: 2", "Set-Cookie: c=3; path=/; x", "Location: x", "D:") == [
        "A: ; Path=/", "set-COOKIE:a=1; Path=/boston", "B: 2", "Set-Cookie: c=3; path=/boston; x", "Location: x", "D:",
    ]  # fmt: skip


@pytest.mark.parametrize("cookie", ["e", "e: e", "e: e: e", "Set-Cookie: Set-Cookie:", "X", "", "1", "a=b; Path=/"])
def test_a_cookie_is_found_though_its_text_stands_elsewhere_too(cookie: str) -> None:
    before, after = "Set-Cooki: e: e; a=b; Path=/", "X-Copy: a=b; Path=/"
    expected = f"Set-Cookie: {cookie.strip()}".removesuffix("; Path=/") + "; Path=/boston"
    assert lines(before, f"Set-Cookie: {cookie}", after) == [before, expected, after]
    assert lines(f"Set-Cookie: {cookie}") == [expected]


def path_by_rfc(cookie: str, request_path: str) -> str:
    """The path of a cookie by RFC 6265 §5.2, §5.2.4, §5.3: written again, without the code under test."""
    default = request_path.rpartition("/")[0] or "/"
    path = default
    for attribute in cookie.split(";")[1:]:
        name, _, value = attribute.partition("=")
        if name.strip(" \t").lower() == "path":
            value = value.strip(" \t")
            if len(value) <= 1024:
                path = value if value.startswith("/") else default
    return path


def matches(request_path: str, path: str) -> bool:
    """§5.1.4"""
    inside = request_path.startswith(path) and (path.endswith("/") or request_path[len(path) :][:1] == "/")
    return request_path == path or inside


PIECES = st.lists(
    st.sampled_from(
        [
            "; ",
            ";",
            " ",
            "\t",
            "=",
            "Path",
            "path",
            "PATH",
            "/",
            "/boston",
            "/bellevue",
            "a=b",
            '"',
            "Secure",
            "x" * 1020,
        ]
    ),
    max_size=14,
)


@given(PIECES, st.sampled_from(["/boston", "/boston/", "/boston/a", "/boston/a/b"]))
def test_whatever_an_app_sends_no_other_tenant_gets_it(pieces: list[str], request_path: str) -> None:
    (line,) = lines(f"Set-Cookie: {''.join(pieces)}")
    path = path_by_rfc(line.partition(":")[2], request_path)
    assert path == "/boston" or path.startswith("/boston/")
    for other in ("/", "/bellevue/2025/winter/", "/bostonx", "/bosto"):
        assert not matches(other, path)
    assert len(line) <= len("".join(pieces)) + 1100


@pytest.mark.parametrize("path", ["/boston", "/boston/", "/boston/a/b"])
def test_the_path_matches_the_tenants_address_with_and_without_a_slash(path: str) -> None:
    assert matches(path, "/boston")


def test_of_a_name_that_demands_the_root_the_log_is_warned_once() -> None:
    rewriter, warnings = paths(), list[str]()
    assert rewriter is not None
    asked = head_parser.RequestParser().parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for cookie in (b"a=b", b"__HOST-sid=x; Path=/; Secure", b"__Host-sid=x"):
        answer = head_parser.ResponseParser().parse(b"HTTP/1.1 200 OK\r\nSet-Cookie: %b\r\n\r\n" % cookie, b"GET")
        rewriter.apply(answer, asked, warnings.append)
    (warning,) = warnings
    assert "browsers refuse the cookie __HOST-sid below /boston" in warning
    assert "=x" not in warning


REDIRECTS = [
    ("/", "/boston/"),
    ("/orders?a=/b#c", "/boston/orders?a=/b#c"),
    ("/boston", "/boston"),
    ("/boston/", "/boston/"),
    ("/boston?x", "/boston?x"),
    ("/boston/orders", "/boston/orders"),
    ("/bostonx", "/boston/bostonx"),
    ("/bellevue/2025/winter", "/bellevue/2025/winter"),
    ("/bellevue/2025/winter/x", "/bellevue/2025/winter/x"),
    ("/bellevue/2025", "/boston/bellevue/2025"),  # no tenant
    ("/login", "/boston/login"),  # would be one by the pattern, which matches much
    ("orders", "orders"),
    ("../orders", "../orders"),
    ("?page=2", "?page=2"),
    ("#top", "#top"),
    ("", ""),
    ("http://shop.example:3000/x", "http://shop.example:3000/boston/x"),
    ("HTTPS://Shop.Example:3000/x", "HTTPS://Shop.Example:3000/boston/x"),
    ("//shop.example:3000/x", "//shop.example:3000/boston/x"),
    ("https://front.example/x", "https://front.example/boston/x"),  # X-Forwarded-Host
    ("https://front.example:443/x", "https://front.example:443/boston/x"),
    ("https://front.example", "https://front.example/boston/"),
    ("https://front.example?x", "https://front.example/boston/?x"),
    ("https://front.example/boston/x", "https://front.example/boston/x"),
    ("https://front.example/bellevue/2025/summer/", "https://front.example/bellevue/2025/summer/"),
    ("https://elsewhere.example/x", "https://elsewhere.example/x"),
    ("https://front.example.elsewhere.example/x", "https://front.example.elsewhere.example/x"),
    ("https://user@front.example/x", "https://user@front.example/x"),
    ("https://front.example:8443/x", "https://front.example:8443/x"),
    ("//elsewhere.example/x", "//elsewhere.example/x"),
    ("///x", "///x"),
    ("mailto:a@front.example", "mailto:a@front.example"),
    ("http:/x", "http:/x"),
    ("/\\elsewhere.example", "/boston/\\elsewhere.example"),
]


@pytest.mark.parametrize("name", ["Location", "content-location"])
@pytest.mark.parametrize(("url", "expected"), REDIRECTS)
def test_a_redirect_stays_in_its_tenant(name: str, url: str, expected: str) -> None:
    assert lines(f"{name}: {url}", more="X-Forwarded-Host: front.example\r\n") == [f"{name}: {expected}"]


REFRESHES = [
    ("5", "5"),
    ("5; url=/x", "5; url=/boston/x"),
    ("0;URL='/x'", "0;URL='/boston/x'"),
    ('1.5 , url = "/x"', '1.5 , url = "/boston/x"'),
    ("5;/x", "5;/boston/x"),
    ("5; url=x", "5; url=x"),
    ("5; url=https://elsewhere.example/", "5; url=https://elsewhere.example/"),
]


@pytest.mark.parametrize(("value", "expected"), REFRESHES)
def test_a_refresh_stays_in_its_tenant(value: str, expected: str) -> None:
    assert lines(f"Refresh: {value}") == [f"Refresh: {expected}"]


def test_each_part_can_be_switched_off_and_without_strip_prefix_redirects_pass() -> None:
    sent = ["Location: /x", "Set-Cookie: a=b"]
    assert lines(*sent, by=paths(cookies="keep")) == ["Location: /boston/x", "Set-Cookie: a=b"]
    assert lines(*sent, by=paths(redirects="keep")) == ["Location: /x", "Set-Cookie: a=b; Path=/boston"]
    assert lines(*sent, by=paths(strip="no")) == ["Location: /x", "Set-Cookie: a=b; Path=/boston"]
    assert paths(cookies="keep", redirects="keep") is None
    assert paths(cookies="keep", strip="no") is None
    assert paths(prefix="") is None


@pytest.mark.parametrize(
    "line",
    [
        "Set-Cookie: " + ";path" * 40_000,
        "Set-Cookie: a=b" + "; path " * 30_000 + "x",
        "Set-Cookie: a=b; path" + " " * 200_000 + "x",
        "Set-Cookie: " + "; " * 100_000,
        "Refresh: " + "1" * 100_000 + " " * 100_000,
        "Location: /" + "/" * 200_000,
        "Location: http://" + "a" * 200_000,
    ],
    ids=lambda line: line[:25],
)
def test_the_work_is_linear_and_the_result_no_longer(line: str) -> None:
    began = time.process_time()
    (found,) = lines(line)
    assert time.process_time() - began < 1.0  # a square of it would take minutes
    assert len(found) <= len(line) + 1100


def test_a_cookie_costs_two_calls_and_a_response_without_one_none() -> None:
    rewriter, calls = paths(), list[str]()
    assert rewriter is not None
    asked = head_parser.RequestParser().parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for number in range(2):
        text = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=%d; Path=/; HttpOnly\r\n\r\n" % number
        answer = head_parser.ResponseParser().parse(text, b"GET")
        calls.clear()
        sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
        rewriter.apply(answer, asked, print)
        sys.setprofile(None)
        assert answer.kept == [b"\r\nSet-Cookie: a=%d; Path=/boston; HttpOnly" % number]
    assert calls == ["apply"]
    assert rewriter.names.isdisjoint({b"content-length": [b"1"], b"connection": [b"close"]})


def beside(cookies: str = "tenant") -> tenant_paths.TenantPaths:
    settings = App(command=["run"], cookies=cookies)  # type: ignore[arg-type]
    tenant = Tenant(user="boston", name="", prefix="/boston", data=CONFIG.path, app=settings)
    found = tenant_paths.of(tenant, OTHERS, beside=True)
    assert found is not None
    return found


@pytest.mark.parametrize("cookies", ["tenant", "keep"])
@pytest.mark.parametrize(
    "name", ["flyatc_dashboard", "flyatc_dashboard_notice", " flyatc_dashboard", "=flyatc_dashboard"]
)
def test_an_app_cannot_set_a_cookie_of_the_dashboard(name: str, cookies: str) -> None:
    kept = "Set-Cookie: own=flyatc_dashboard; Path=/boston"
    given = (f"set-cookie: {name}=x; Path=/_flyatc", kept)
    assert lines(*given, by=beside(cookies)) == [kept]
    assert lines(given[0], by=beside(cookies)) == []


@pytest.mark.parametrize(
    "value", ["/", "/_flyatc", "/boston/../_flyatc/", "..", "https://x/", "//x/", "/boston/%2e%2e/", ""]
)
def test_a_service_worker_of_an_app_gets_no_scope_above_the_app(value: str) -> None:
    assert lines(f"Service-Worker-Allowed: {value}", by=beside("keep")) == []


def test_a_service_worker_may_have_a_scope_within_the_app() -> None:
    line = "Service-Worker-Allowed: /boston/shop/"
    assert lines(line, by=beside()) == [line]
    assert lines("Service-Worker-Allowed: /", by=paths()) == ["Service-Worker-Allowed: /"], "there is no dashboard"
