"""What stands in braces in command, env, ready and seed: checked here, expanded when an app is started. Pure.

``{port}`` and its like are the tenant's, ``${NAME}`` and ``${NAME:-default}`` the daemon's environment, ``{{`` and
``}}`` are braces.
"""

import difflib
import re
from collections.abc import Container, Iterator

KNOWN = ("port", "user", "tenant", "prefix", "data")

_TOKEN = re.compile(r"\$\{(?P<variable>[^{}]*)\}|(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?", re.DOTALL)


def faults(text: str, environ: Container[str]) -> Iterator[str]:
    """A sentence for each thing in braces that would not be understood."""
    for token in _TOKEN.finditer(text):
        if token["variable"] is not None:
            yield from _of_variable(token["variable"], environ)
        elif token["name"] is not None:
            yield from _of_name(token["name"])
        elif token["stray"] is not None:
            yield f"{text!r} has a {token['stray']} without its partner: write it twice where the character is meant"


def _of_variable(text: str, environ: Container[str]) -> Iterator[str]:
    match = _VARIABLE.fullmatch(text)
    if match is None:
        yield f"${{{text}}} is not understood: write ${{NAME}} or ${{NAME:-default}}"
    elif match["default"] is None and match["name"] not in environ:
        yield f"{text} is not in the environment: set it, or write ${{{text}:-default}}"


def _of_name(name: str) -> Iterator[str]:
    if name in KNOWN:
        return
    close = difflib.get_close_matches(name, KNOWN, 1)
    known = f"did you mean {{{close[0]}}}?" if close else f"known are {' '.join(f'{{{word}}}' for word in KNOWN)}."
    yield f"{{{name}}} is not a placeholder, {known} For braces themselves write {{{{ and }}}}"


def literal(text: str) -> str | None:
    """The text without its doubled braces; None where something must be put in."""
    if any(token["brace"] is None for token in _TOKEN.finditer(text)):
        return None
    return text.replace("{{", "{").replace("}}", "}")


def escape(text: str) -> str:
    """The text such that nothing in it is a placeholder."""
    return text.replace("{", "{{").replace("}", "}}")
