"""docs/recipes.md, made from README.md here and from each example's README.md, tenants.yaml and Dockerfile.

Run in the repository: python examples/recipes.py > docs/recipes.md
"""

import os
import re
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
DOCS = EXAMPLES.parent / "docs"
PLACE = "<!-- examples -->\n"
ORDER = "rails", "django", "node", "laravel", "php"  # then the others
ELSEWHERE = "counter", "customers"  # described in README.md and docs/many-machines.md
FILES = ("tenants.yaml", "yaml"), ("Dockerfile", "dockerfile")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
_HEADING = re.compile(r"^#", re.MULTILINE)


def page() -> str:
    """Return docs/recipes.md."""
    general = (EXAMPLES / "README.md").read_text()
    head, place, rest = general.partition(PLACE)
    if not place:
        raise SystemExit(f"examples/README.md has no line {PLACE.strip()}")
    return linked(head, EXAMPLES) + "\n".join(section(EXAMPLES / name) for name in names()) + linked(rest, EXAMPLES)


def names() -> list[str]:
    """Return the examples in their order: folders with README.md and tenants.yaml."""
    found = {path.parent.name for path in EXAMPLES.glob("*/tenants.yaml") if (path.parent / "README.md").exists()}
    return [*(name for name in ORDER if name in found), *sorted(found - {*ORDER, *ELSEWHERE})]


def section(folder: Path) -> str:
    """Return the part of one example: its README one heading lower, then its files."""
    prose, *blocks = re.split(r"(?=^```)", (folder / "README.md").read_text(), flags=re.MULTILINE)
    text = _HEADING.sub("##", prose) + "".join(
        block if number % 2 == 0 else _HEADING.sub("##", block) for number, block in enumerate(blocks)
    )
    files = [
        f"\n`examples/{folder.name}/{name}`:\n\n```{language}\n{(folder / name).read_text()}```\n"
        for name, language in FILES
        if (folder / name).exists()
    ]
    return linked(text, folder) + "".join(files)


def linked(text: str, folder: Path) -> str:
    """Have the relative links of a document in ``folder`` lead to the same files from docs."""
    return _LINK.sub(lambda link: f"]({os.path.relpath(folder / link[1], DOCS)}", text)


if __name__ == "__main__":
    sys.stdout.write(page())
