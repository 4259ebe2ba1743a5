"""The code and the documents are in plain English: none of the private words of earlier versions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
DOCUMENTS = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BEGINNING = re.compile(r"(?:Who|Whom|Whoever|What|Which|Whether|That)\b")
PERSONS = r"told|whom|whoever|nobody|somebody|anybody|his|him|himself|he|hers?|she"
# renamed, see CHANGELOG.md
NAMES = r"attics?|barriers?|gifts?|heirs?|mourn\w*|onwards?|shel(?:f|ves)|signposts?|vaults?"
WORDS = re.compile(rf"\b(?:{PERSONS}|{NAMES})\b", re.IGNORECASE)
CLASSES = re.compile(r"\b(?:asyncio|threading)\.Barrier\b")
PROSE = re.compile(rf"\b(?:{PERSONS}|visitors?)\b", re.IGNORECASE)


def dialect(source: str) -> Iterator[str]:
    """Yield each private word of a module, in docstrings, comments, texts and parts of names, with its line."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", source.replace("_", " "))
    for found in WORDS.finditer(parts):
        yield f"{parts.count(chr(10), 0, found.start()) + 1}: {found[0]}"


def riddles(source: str) -> Iterator[str]:
    """Yield the docstrings that begin with a relative pronoun instead of what the thing is or does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if BEGINNING.match(text):
                yield f"{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"


def test_the_check_finds_each_kind() -> None:
    assert list(dialect('"""He is."""\n# of whom\ntold_off = "NOBODY"\nclass OldHeir: ...\nthe = shell')) == [
        "1: He", "2: whom", "3: told", "3: NOBODY", "4: Heir",
    ]  # fmt: skip
    source = '"""Whose."""\nclass A:\n    """That of A."""\n    async def b(self):\n        """What b does."""'
    assert list(riddles(source)) == ["2: That of A.", "4: What b does."]


@pytest.mark.parametrize("modules", [SOURCES, TESTS], ids=["src", "tests"])
def test_the_code_is_in_plain_english(modules: list[Path]) -> None:
    texts = {module.relative_to(ROOT): CLASSES.sub("", module.read_text()) for module in modules}
    assert len(texts) > 100
    assert [f"{path}:{found}" for path, text in texts.items() for found in [*dialect(text), *riddles(text)]] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_document_is_in_plain_english(document: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(), flags=re.DOTALL)
    assert PROSE.findall(prose) == []
