"""Any app with a Procfile: its lines web and release."""

import re
import shlex

from flyatc.admin.init.facts import Facts, escaped
from flyatc.admin.init.plan import Image, Plan, Variable

_PORT = re.compile(r"\$\{PORT(?::-[^}]*)?\}|\$PORT\b")
_SHELL = re.compile(r"[|&;<>()$`\\*?~#]|^\w+=")
_COMPOUND, _ASSIGNS = re.compile(r"[|&;]"), re.compile(r"\w+=")
_MARK = "\x00"  # in place of the port


def words(line: str) -> tuple[str, ...]:
    """Return the words of a command; those of a shell, if it needs one."""
    line = _PORT.sub(_MARK, line.replace(_MARK, ""))
    try:
        parts = tuple(shlex.split(line))
    except ValueError:
        parts = ()
    if not parts or any(_SHELL.search(part) for part in parts):
        begin = "" if _COMPOUND.search(line) else "exec env " if _ASSIGNS.match(line) else "exec "
        parts = ("sh", "-c", begin + line)
    return tuple(escaped(part).replace(_MARK, "{port}") for part in parts)


def plan(facts: Facts) -> Plan | None:
    web = facts.find(r"^web:\s*(\S.*)$", "Procfile")
    if web is None:
        return None
    release = facts.find(r"^release:\s*(\S.*)$", "Procfile")
    others = [str(hit) for hit in facts.hits(r"^(?!web:|release:)[\w-]+:", "Procfile")]
    warning = f"{', '.join(others)}: flyatc runs one command for each tenant; what else it needs, that one must start"
    return Plan(
        stack="an app with a Procfile",
        seen=(str(web),),
        command=words(web.match[1].strip()),
        before_start=(words(release.match[1].strip()),) if release else (),
        env=(
            Variable("DATABASE_PATH", "{data}/app.sqlite3", "have the app use it"),
            Variable("SESSION_SECRET", "{secret}", "for the app to sign sessions with"),
        ),
        databases=("app.sqlite3",),
        strip_prefix=True,
        warnings=(warning,) if others else (),
        image=Image(base="debian:bookworm-slim"),
    )
