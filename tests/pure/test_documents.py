"""The paths, functions and glossary that the documents name exist in the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ROOT / "src" / "flyatc", ROOT
DOCUMENTS = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
MODULE = r"((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)"
WALKS = "A warm request", "A cold request", "An idle stop, with its save"


def find(path: str) -> Path | None:
    return next((place / path for place in PLACES if (place / path).exists()), None)


@cache
def names(module: Path) -> frozenset[str]:
    """Return the functions, classes and methods of a module, as ``name`` and ``Class.name``."""
    found = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{of.name}" for of in node.body if isinstance(of, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


def section(heading: str) -> str:
    return ARCHITECTURE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_paths_and_functions_in_documents_exist(document: Path) -> None:
    for path, name in re.findall(rf"`(?:src/flyatc/)?{MODULE}(?::([\w.]+))?`", document.read_text()):
        module = find(path)
        assert module is not None, f"{document.name} names {path}"
        assert not name or name in names(module), f"{document.name} names {path}:{name}"


@pytest.mark.parametrize("heading", WALKS)
def test_each_walk_has_ten_steps_that_name_functions(heading: str) -> None:
    steps = re.split(r"^\d+\. ", section(heading), flags=re.MULTILINE)[1:]
    assert len(steps) == 10
    assert sum(bool(re.search(rf"`{MODULE}:", step)) for step in steps) >= 9


def test_the_glossary_has_at_most_25_words() -> None:
    assert 0 < len(re.findall(r"^\| (?!word|-)", section("Glossary"), re.MULTILINE)) <= 25


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_to_headings_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", document.read_text()):
        assert anchor in anchors(document.parent / target if target else document), (
            f"{document.name}: {target}#{anchor}"
        )
