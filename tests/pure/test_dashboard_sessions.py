"""Sessions of the operator: a cookie is of use in one browser, for a time, and until the logout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.dashboard.sessions import SECONDS, Session, Sessions, derive

NOW, ADDRESS, AGENT = 1_800_000_000.5, "203.0.113.7", "Mozilla/5.0 (iPhone)"
KEY = bytes(range(32))


def begun(sessions: Sessions, number: int = 1, address: str = ADDRESS) -> str:
    return sessions.begin(bytes([number] * 16), NOW, address, AGENT)


def test_a_cookie_is_accepted_by_every_machine_with_the_password_until_it_expires() -> None:
    cookie = begun(Sessions(KEY))
    session = Sessions(KEY).read(cookie, NOW, ADDRESS, AGENT)
    assert session == Session(cookie.partition(".")[0], int(NOW) + SECONDS)
    assert Sessions(KEY).read(cookie, NOW + SECONDS - 1, ADDRESS, AGENT) == session
    assert Sessions(KEY).read(cookie, NOW + SECONDS, ADDRESS, AGENT) is None
    assert Sessions(bytes(32)).read(cookie, NOW, ADDRESS, AGENT) is None, "another password"


@pytest.mark.parametrize(
    ("address", "agent"),
    [("203.0.113.8", AGENT), ("", AGENT), ("2001:db8::1", AGENT), (ADDRESS, "curl/8"), (ADDRESS, "")],
)
def test_a_stolen_cookie_is_worth_nothing_elsewhere(address: str, agent: str) -> None:
    sessions = Sessions(KEY)
    assert sessions.read(begun(sessions), NOW, address, agent) is None


def test_a_phone_may_change_its_address_within_its_ipv6_network() -> None:
    sessions = Sessions(KEY)
    cookie = begun(sessions, address="2001:db8:1:2::aaaa")
    assert sessions.read(cookie, NOW, "2001:db8:1:2:3:4:5:6", AGENT) is not None
    assert sessions.read(cookie, NOW, "2001:db8:1:3::aaaa", AGENT) is None


def test_after_the_logout_the_cookie_is_refused() -> None:
    sessions = Sessions(KEY)
    cookie, other = begun(sessions), begun(sessions, 2)
    session = sessions.read(cookie, NOW, ADDRESS, AGENT)
    assert session is not None
    sessions.end(session)
    assert sessions.has_ended(session)
    assert sessions.read(cookie, NOW, ADDRESS, AGENT) is None
    assert sessions.read(other, NOW, ADDRESS, AGENT) is not None
    for number in range(2000):
        sessions.end(Session(str(number), 0))
    assert len(sessions._ended) <= 1000


@given(at=st.integers(0, 200), letter=st.characters())
def test_no_changed_cookie_is_accepted(at: int, letter: str) -> None:
    sessions = Sessions(KEY)
    cookie = begun(sessions)
    changed = cookie[: at % len(cookie)] + letter + cookie[at % len(cookie) + 1 :]
    assert (sessions.read(changed, NOW, ADDRESS, AGENT) is not None) is (changed == cookie)


@given(st.text(max_size=300))
def test_no_text_is_a_cookie(text: str) -> None:
    assert Sessions(KEY).read(text, NOW, ADDRESS, AGENT) is None
    assert Sessions(KEY).read(f"a.9999999999.{text}", NOW, ADDRESS, AGENT) is None


def test_tokens_differ_by_session_and_purpose() -> None:
    sessions = Sessions(KEY)
    one, other = Session("a", 1), Session("b", 1)
    assert sessions.token(one, "form") == Sessions(KEY).token(one, "form")
    assert len({sessions.token(session, purpose) for session in (one, other) for purpose in ("form", "live")}) == 4


def test_the_key_depends_on_password_and_secret() -> None:
    assert derive("a", b"") == derive("a", b"")
    assert len({derive("a", b""), derive("b", b""), derive("a", b"s")}) == 3
