"""The root of every error that flyatc raises on purpose."""


class FlyatcError(Exception):
    """Something the operator or the visitor must be told. ``str()`` is a sentence that says what to do."""
