"""Check a password against its hash. Blocking: milliseconds to a second, for threads.

libpass is imported with the first check: it costs memory that most daemons do not need.
"""

from typing import Any

LONGEST = 1024  # bytes of a password
_BCRYPT_LONGEST = 72  # bytes that bcrypt uses; htpasswd cuts off the rest too


def matches(password: bytes, hashed: str) -> bool:
    """Return whether it is the password. ``hashed``: accepted by ``htpasswd.parse``; empty: no password is right."""
    if not hashed or len(password) > LONGEST or b"\0" in password:
        return False
    from passlib.hash import apr_md5_crypt, argon2, bcrypt

    scheme: Any = bcrypt
    if hashed.startswith("$argon2"):
        scheme = argon2
    elif hashed.startswith("$apr1$"):
        scheme = apr_md5_crypt
    else:
        password = password[:_BCRYPT_LONGEST]
    try:
        return bool(scheme.verify(password, hashed))
    except ValueError:  # a hash with an invalid part
        return False
