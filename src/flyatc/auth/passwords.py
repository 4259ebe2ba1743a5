"""Check a password against its hash. Blocking: milliseconds to a second, for threads.

libpass is imported with the first check: it costs memory that most daemons do not need.
"""

import threading
from typing import Any

LONGEST = 1024  # bytes of a password
_BCRYPT_LONGEST = 72  # bytes that bcrypt uses; htpasswd cuts off the rest too
_loading = threading.Lock()


def matches(password: bytes, hashed: str) -> bool:
    """Return whether it is the password. ``hashed``: accepted by ``htpasswd.parse``; empty: no password is right."""
    if not hashed or len(password) > LONGEST or b"\0" in password:
        return False
    with _loading:
        scheme = _scheme(hashed)
    if hashed.startswith("$2"):
        password = password[:_BCRYPT_LONGEST]
    try:
        return bool(scheme.verify(password, hashed))
    except ValueError:  # a hash with an invalid part
        return False


def _scheme(hashed: str) -> Any:
    """Return the scheme of a hash, complete. libpass imports it when it is asked for, and replaces its methods at the
    first use: neither may happen in two threads at once."""
    from passlib.hash import apr_md5_crypt, argon2, bcrypt

    if hashed.startswith("$apr1$"):
        return apr_md5_crypt
    scheme: Any = argon2 if hashed.startswith("$argon2") else bcrypt
    scheme.get_backend()
    return scheme
