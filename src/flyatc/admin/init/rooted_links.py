"""Links in pages that lead out of a tenant, and folders that no repository and image should have."""

import re
from collections.abc import Iterator

from flyatc.admin.init.facts import Facts
from flyatc.admin.init.plan import Change

PAGES = (".html", ".erb", ".ejs", ".hbs", ".twig", ".pug", ".php")
_ROOTED = re.compile(r"""\b(?:href|src|action)\s*=\s*['"]/(?!/)[^'"]*['"]""", re.ASCII | re.IGNORECASE)
_ERRORS = re.compile(r"(?:^|/)(?:404|406-\w+|422|400|500)\.html$")
SHOWN = 3


def rooted(facts: Facts) -> Iterator[str]:
    hits = list(facts.hits(_ROOTED, *(file for file in facts.ending(*PAGES) if not _ERRORS.search(file))))
    if hits:
        where = ", ".join(f"{hit} {hit.match[0]}" for hit in hits[:SHOWN])
        more = f" and {len(hits) - SHOWN} more" if len(hits) > SHOWN else ""
        yield f"{where}{more}: links that lead out of the tenant. Write them relative, or with the framework's helper"


def ignored(facts: Facts) -> Iterator[Change]:
    """Keep the running databases and the store out of the repository."""
    text = facts.texts.get(".gitignore")
    if text is None:
        return
    lines = {line.strip().strip("/") for line in text.splitlines()}
    for folder in ("data", "store"):
        if folder not in lines:
            yield Change(".gitignore", f"/{folder}/", "the tenants' databases belong into no repository")
