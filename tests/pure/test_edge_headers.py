"""No hop-by-hop header is forwarded, however it is written."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.edge import headers
from flyatc.wire import head, head_parser

HOP = [
    "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy", "transfer-encoding", "upgrade",
    "trailer",
    "http2-settings", "forwarded",
]  # fmt: skip
OURS = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-request-id",
    "x-request-start",
]


def cases(name: str) -> st.SearchStrategy[str]:
    """The name with any letter in either case, and any "-" as "_"."""
    letters = [st.sampled_from([c.lower(), c.upper()]) if c != "-" else st.sampled_from("-_") for c in name]
    return st.tuples(*letters).map("".join)


def parsed(lines: list[str]) -> head.RequestHead:
    text = "\r\n".join(["GET /x HTTP/1.1", "Host: here", *lines]) + "\r\n\r\n"
    return head_parser.RequestParser().parse(text.encode("latin-1"))


def towards_app(request: head.RequestHead, *, forward: bool = True) -> list[tuple[str, str]]:
    sent = headers.towards_app(
        request, path=b"/x", peer=b"9.9.9.9", identity=b"id", milliseconds=5, forward=forward, prefix=None
    )
    pairs = (line.partition(": ") for line in sent.decode("latin-1").split("\r\n")[1:-2])
    return [(name, value) for name, _, value in pairs]


hop_names = st.sampled_from(
    [name for name in HOP if name not in ("transfer-encoding", "upgrade", "connection")]
).flatmap(cases)
our_names = st.sampled_from(OURS).flatmap(cases)
other_names = st.sampled_from(
    ["x-a", "cookie", "proxied", "x-forwarded-fort", "texture", "upgraded", "x-forwarded", "user-agent"]
)


@settings(deadline=None)
@given(st.lists(hop_names | other_names.flatmap(cases), max_size=8))
def test_what_belongs_to_one_hop_ends_and_the_rest_goes_on_in_order(names: list[str]) -> None:
    sent = towards_app(parsed([f"{name}: {number}" for number, name in enumerate(names)]))
    strangers = [(n, str(i)) for i, n in enumerate(names) if n.lower().replace("_", "-") not in HOP]
    assert sent[1 : 1 + len(strangers)] == strangers
    assert {name for name, _ in sent[1 + len(strangers) :]} == {
        "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id", "X-Request-Start",
    }  # fmt: skip


@settings(deadline=None)
@given(st.lists(our_names, max_size=6), st.booleans())
def test_each_forwarded_header_reaches_the_app_once_and_is_ours(names: list[str], forward: bool) -> None:
    sent = towards_app(parsed([f"{name}: 6.6.6.6" for name in names]), forward=forward)
    reported = [name.lower().replace("_", "-") for name, _ in sent]
    for name in OURS:
        assert reported.count(name) == (name != "x-forwarded-prefix")
    came = dict(sent)["X-Forwarded-For"]
    assert came.split(", ")[-1] == "9.9.9.9"
    assert forward or came == "9.9.9.9"


@settings(deadline=None)
@given(other_names.flatmap(cases), st.sampled_from(["{}", "close, {}", "{},x-none", " , {} ,"]))
def test_what_connection_names_ends_here(name: str, connection: str) -> None:
    sent = towards_app(
        parsed([f"{name}: 1", f"{name.lower()}: 2", "X-Last: 3", f"Connection: {connection.format(name.upper())}"])
    )
    assert sent[:2] == [("Host", "here"), ("X-Last", "3")]


def test_on_fly_only_the_proxy_is_believed_when_it_names_the_client() -> None:
    request = parsed(["Fly-Client-IP: 2001:db8::7", "X-Forwarded-For: 6.6.6.6"])
    assert headers.remote(request, "172.16.0.2", None, True) == "2001:db8::7"
    assert headers.remote(request, "fdaa:0:1:a7b:2::2", None, True) == "fdaa:0:1:a7b:2::2", "a neighbour, directly"
    assert headers.remote(request, "fdaa:0:1:a7b:2::2", None, False) == "fdaa:0:1:a7b:2::2"
