"""Modules, functions and folders of the source stay small."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
MODULES = {module.relative_to(SOURCE).as_posix(): module.read_text() for module in SOURCE.rglob("*.py")}
MODULE_LINES, FUNCTION_LINES, FOLDER_MODULES = 350, 60, 20


def functions(text: str) -> dict[str, int]:
    """Return the lines of each function, method and nested function, by its name and line."""
    return {
        f"{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def above(limit: int, sizes: dict[str, int]) -> str:
    """Return those above the limit, the largest first; empty if there are none."""
    assert sizes
    large = sorted(((size, name) for name, size in sizes.items() if size > limit), reverse=True)
    return "; ".join(f"{name}: {size}, at most {limit}" for size, name in large)


def test_modules_have_at_most_350_lines() -> None:
    assert not above(MODULE_LINES, {name: len(text.splitlines()) for name, text in MODULES.items()})


def test_functions_have_at_most_60_lines() -> None:
    lines = {f"{name}:{which}": size for name, text in MODULES.items() for which, size in functions(text).items()}
    assert not above(FUNCTION_LINES, lines)


def test_folders_have_at_most_20_modules_beside_their_init() -> None:
    folders = [name.rpartition("/")[0] for name in MODULES if not name.endswith("__init__.py")]
    assert not above(FOLDER_MODULES, {folder: folders.count(folder) for folder in folders})
