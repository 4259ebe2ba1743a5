"""Failed logins: ten at once, then ten a minute for each client."""

from flyatc.auth import attempts
from flyatc.auth.attempts import FailedLogins


def test_ten_failures_are_free_and_then_one_each_six_seconds() -> None:
    failed, now = FailedLogins(), 1000.0
    for _ in range(10):
        assert failed.wait("1.2.3.4", now) == 0
        failed.failed("1.2.3.4", now)
    assert failed.wait("1.2.3.4", now) == 6
    assert failed.wait("1.2.3.4", now + 4) == 2
    assert failed.wait("1.2.3.4", now + 6) == 0
    failed.failed("1.2.3.4", now + 6)
    assert failed.wait("1.2.3.4", now + 6) == 6
    assert failed.wait("1.2.3.5", now) == 0
    assert failed.wait("1.2.3.4", now + 100) == 0


def test_an_ipv6_network_counts_as_one_client_and_a_mapped_address_as_its_ipv4() -> None:
    assert attempts.network("2001:db8::1") == attempts.network("2001:db8::ffff:1") == "2001:db8::/64"
    assert attempts.network("2001:db8:0:1::1") != attempts.network("2001:db8::1")
    assert attempts.network("::ffff:1.2.3.4") == attempts.network("1.2.3.4") == "1.2.3.4"
    assert attempts.network("unix") == "unix"


def test_the_memory_for_addresses_is_bounded() -> None:
    failed = FailedLogins()
    for number in range(attempts.MOST + 100):
        for _ in range(10):
            failed.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(failed._until) == attempts.MOST
    assert failed.wait("10.0.0.0", 0.0) == 0
    assert failed.wait("10.0.1.0", 0.0) > 0
