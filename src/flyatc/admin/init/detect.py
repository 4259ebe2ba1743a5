"""Recognise the kind of an app by its folder: special kinds before general ones."""

from collections.abc import Callable

from flyatc.admin.init import django, node, php, procfile, python, rails, rooted_links
from flyatc.admin.init.facts import Facts
from flyatc.admin.init.plan import Plan, replace

KINDS: tuple[Callable[[Facts], Plan | None], ...] = (
    rails.plan,
    django.plan,
    php.laravel,
    python.plan,
    node.plan,
    php.plain,
    procfile.plan,
)
KNOWN = "Rails, Django, Flask, FastAPI and other Python apps, Node, Laravel and PHP"
LOOKED_FOR = (
    "Gemfile, manage.py, requirements.txt or pyproject.toml, package.json, composer.json, index.php and Procfile"
)


def plan(facts: Facts) -> Plan | None:
    """Return the plan for the app; None if it is of no known kind."""
    found = next((one for kind in KINDS if (one := kind(facts)) is not None), None)
    if found is None:
        return None
    changes = [*found.changes, *rooted_links.ignored(facts)]
    files = list(dict.fromkeys(one.file for one in changes))
    changes.sort(key=lambda one: (files.index(one.file), one.line or 0))
    return replace(found, changes=tuple(changes), warnings=(*found.warnings, *rooted_links.rooted(facts)))
