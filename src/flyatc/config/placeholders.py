"""Placeholders in command, env, ready and seed: checked here, expanded when an app is started. Pure.

``{port}`` and others are the tenant's, ``${NAME}`` and ``${NAME:-default}`` the daemon's environment; ``{{`` and ``}}``
are braces. ``{secret}`` is for env only: a command is visible to all processes of the machine, and paths get into logs.
"""

import difflib
import re
from collections.abc import Container, Iterator

KNOWN = ("port", "user", "tenant", "prefix", "data")
SECRETS = ("secret", "secret.base64")
SECRET_VARIABLE = "FLYATC_SECRET"  # noqa: S105 - its name
SHORTEST_SECRET = 32  # characters; each app has a value derived from it, by which a shorter one might be guessed

_TOKEN = re.compile(r"\$\{(?P<variable>[^{}]*)\}|(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])")
_REFERENCE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?", re.DOTALL)


def faults(text: str, environ: Container[str], *, secrets: bool = False) -> Iterator[str]:
    """Yield a sentence for each invalid placeholder. ``secrets``: whether {secret} is allowed."""
    for token in _TOKEN.finditer(text):
        if token["variable"] is not None:
            yield from _of_variable(token["variable"], environ)
        elif token["name"] is not None:
            yield from _of_name(token["name"], secrets)
        elif token["stray"] is not None:
            yield f"{text!r} has a {token['stray']} without its partner: write it twice where the character is meant"


def _of_variable(text: str, environ: Container[str]) -> Iterator[str]:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        yield f"${{{text}}} is not understood: write ${{NAME}} or ${{NAME:-default}}"
    elif match["name"] == SECRET_VARIABLE:
        yield f"{SECRET_VARIABLE} is the key to all tenants' secrets, and no app may have it: write {{secret}} in env"
    elif match["default"] is None and match["name"] not in environ:
        yield f"{text} is not in the environment: set it, or write ${{{text}:-default}}"


def _of_name(name: str, secrets: bool) -> Iterator[str]:
    names = (*KNOWN, *SECRETS) if secrets else KNOWN
    if name in names:
        return
    if name in SECRETS:
        yield f"{{{name}}} is for the values of env only: anywhere else other processes, or the log, would see it"
        return
    close = difflib.get_close_matches(name, names, 1)
    known = f"did you mean {{{close[0]}}}?" if close else f"known are {' '.join(f'{{{each}}}' for each in names)}."
    yield f"{{{name}}} is not a placeholder, {known} For braces themselves write {{{{ and }}}}"


def has_secret(text: str) -> bool:
    """Return whether one of the placeholders is a secret."""
    return any(token["name"] in SECRETS for token in _TOKEN.finditer(text))


def literal(text: str) -> str | None:
    """Return the text with doubled braces resolved; None if it has placeholders."""
    if any(token["brace"] is None for token in _TOKEN.finditer(text)):
        return None
    return text.replace("{{", "{").replace("}}", "}")


def escape(text: str) -> str:
    """Return the text with its braces doubled, so that nothing in it is a placeholder."""
    return text.replace("{", "{{").replace("}", "}}")
