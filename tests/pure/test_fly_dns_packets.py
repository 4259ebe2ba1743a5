"""DNS queries and responses for a user's machines, as octets; dnspython agrees."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.fly.dns_answers import AddressResponse, NoRecord, NoRecords, NoSuchName, is_response, question

NAME = "ann.customer_id.kv._metadata.shop.internal"
ONE, TWO = "fdaa:0:1:a7b:1::2", "fdaa:0:1:a7b:2::2"
ASKED = question(b"\x12\x34", NAME) or b""


def answered(*addresses: str, kind: str = "AAAA", code: int = dns.rcode.NOERROR, flags: int = 0) -> bytes:
    """As a server writes it."""
    message = dns.message.make_response(dns.message.from_wire(ASKED))
    message.flags |= flags
    message.set_rcode(dns.rcode.Rcode(code))
    if addresses:
        message.answer.append(dns.rrset.from_text(message.question[0].name, 5, "IN", kind, *addresses))
    return message.to_wire()


def found(data: bytes) -> list[str] | None:
    assert is_response(data, ASKED)
    return AddressResponse(NAME, ASKED, data).addresses()


def test_the_question_is_the_one_which_dnspython_asks() -> None:
    theirs = dns.message.make_query(f"{NAME}.", "AAAA", id=0x1234)
    assert theirs.to_wire() == ASKED


def test_what_cannot_be_a_name_is_not_asked_for() -> None:
    for name in ("", "a..b", ".a", "a.", "x" * 64 + ".internal", ".".join(["abcdefg"] * 40), "käse.internal"):
        assert question(b"\0\0", name) is None


def test_the_addresses_are_read() -> None:
    assert found(answered(ONE)) == [ONE]
    assert sorted(found(answered(TWO, ONE)) or ()) == [ONE, TWO]


def test_absent_names_and_absent_records_are_different_results() -> None:
    with pytest.raises(NoSuchName, match="NXDOMAIN"):
        found(answered(code=dns.rcode.NXDOMAIN))
    with pytest.raises(NoRecords, match="no AAAA"):
        found(answered())


def test_unusual_responses_are_left_to_dnspython() -> None:
    assert found(answered(ONE, flags=dns.flags.TC)) is None
    assert found(answered(code=dns.rcode.SERVFAIL)) is None
    assert found(answered(code=dns.rcode.REFUSED)) is None
    assert found(answered(ONE, code=dns.rcode.NXDOMAIN)) is None
    assert found(answered("other.internal.", kind="CNAME")) is None
    assert found(answered(ONE)[:-1]) is None


def test_only_the_response_to_this_question_is_one() -> None:
    data = answered(ONE)
    assert not is_response(b"\x43\x21" + data[2:], ASKED), "another identity"
    assert not is_response(data.replace(b"\x03ann", b"\x03bob"), ASKED), "another name"
    assert not is_response(ASKED, ASKED), "a question"
    assert not is_response(data[:20], ASKED)


def test_a_server_may_write_the_name_larger_or_refuse_without_it() -> None:
    assert found(answered(ONE).replace(b"\x03ann", b"\x03ANN")) == [ONE]
    assert found(ASKED[:2] + b"\x81\x85" + bytes(8)) is None


@given(st.integers(12, 200), st.binary(min_size=1, max_size=40))
def test_no_octets_of_a_server_are_an_error_of_ours(at: int, noise: bytes) -> None:
    data = answered(ONE, TWO)
    data = data[:at] + noise + data[at + len(noise) :]
    for one in (data, ASKED[:2] + b"\x80" + noise + ASKED[3 + len(noise) :] + noise):
        if is_response(one, ASKED):
            try:
                addresses = AddressResponse(NAME, ASKED, one).addresses()
            except NoRecord:
                continue
            assert addresses is None or all(addresses)
