"""Lines of htpasswd: what is accepted, and what is refused with which advice."""

import pytest

from flyatc.auth import htpasswd

BCRYPT = "$2y$05$" + "a" * 53
ARGON2 = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
APR1 = "$apr1$saltsalt$" + "x" * 22


def test_bcrypt_argon2_and_apr1_are_read_and_comments_are_skipped() -> None:
    lines = ["# made by hand", "", f"ann:{BCRYPT}", f" bob b@example.com:{ARGON2} ", f"çelik:{APR1}"]
    assert htpasswd.parse(lines) == ({"ann": BCRYPT, "bob b@example.com": ARGON2, "çelik": APR1}, [])


@pytest.mark.parametrize(
    ("hashed", "fault"),
    [
        ("secret", "is not hashed by bcrypt, argon2 or apr1: htpasswd -nB NAME makes a line with bcrypt"),
        ("{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "is not hashed by"),
        ("$6$salt$" + "x" * 86, "is not hashed by"),
        ("rqXexS6ZhobKA", "is not hashed by"),  # crypt(3)
        ("$2y$05$" + "a" * 52, "is not hashed by"),
        ("$2y$31$" + "a" * 53, "has a cost that is not from 4 to 14"),
        ("$argon2id$v=19$m=9999999,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", "needs more than 128 MiB or 10 passes"),
        ("$argon2id$v=19$m=65536,t=999,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", "needs more than 128 MiB or 10 passes"),
    ],
)
def test_a_hash_that_is_weak_or_costs_too_much_is_refused_and_not_repeated(hashed: str, fault: str) -> None:
    found, faults = htpasswd.parse(["", f"ann:{hashed}"])
    assert not found
    ((index, said),) = faults
    assert index == 1
    assert fault in said
    assert hashed not in said


@pytest.mark.parametrize(
    "line", ["ann", f":{BCRYPT}", f"a\tb:{BCRYPT}", f"{'a' * 256}:{BCRYPT}", f"{'ç' * 128}:{BCRYPT}"]
)
def test_a_line_without_a_usable_name_is_a_fault(line: str) -> None:
    assert htpasswd.parse([line])[1][0][1].startswith("is not a name, a colon and a hash")


def test_a_name_listed_twice_is_a_fault() -> None:
    assert htpasswd.parse([f"ann:{BCRYPT}", f"ann:{APR1}"]) == ({"ann": BCRYPT}, [(1, "'ann' is listed twice")])
