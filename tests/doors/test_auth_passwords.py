"""Passwords are checked in threads, the first ones too."""

import subprocess
import sys

import pytest

from flyatc.auth import passwords

FIRST_CHECKS = """
import sys, threading
from flyatc.auth import passwords
sys.setswitchinterval(1e-6)
begin, found = threading.Barrier(8), []
def check():
    begin.wait()
    try:
        found.append(passwords.matches(b"right", sys.argv[1]))
    except BaseException as error:
        found.append(error)
threads = [threading.Thread(target=check) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found)
"""
BCRYPT = "$2b$04$" + "." * 53


@pytest.mark.parametrize("scheme", ["argon2", "bcrypt", "apr_md5_crypt"])
def test_the_first_passwords_may_come_at_the_same_time(scheme: str) -> None:
    import passlib.hash

    cheap = {"argon2": {"memory_cost": 1024, "time_cost": 1}, "bcrypt": {"rounds": 4}, "apr_md5_crypt": {}}[scheme]
    hashed = getattr(passlib.hash, scheme).using(**cheap).hash("right")
    made = subprocess.run([sys.executable, "-c", FIRST_CHECKS, hashed], capture_output=True, text=True, check=True)
    assert made.stdout == f"{[True] * 8}\n"


def test_no_password_is_right_for_a_name_without_one_or_with_an_invalid_hash() -> None:
    assert not passwords.matches(b"", "")
    assert not passwords.matches(b"x", BCRYPT)
    assert not passwords.matches(b"x" * 1025, BCRYPT)
