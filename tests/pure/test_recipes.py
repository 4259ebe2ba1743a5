"""docs/recipes.md is made from examples, and flyatc init writes the tenants.yaml of each."""

import runpy
from pathlib import Path

import pytest

from flyatc.admin import app_folder
from flyatc.admin.init import detect, image, tenants_file
from flyatc.config.schema import App
from pure.test_config_resolve import resolved

ROOT = Path(__file__).parents[2]
RENEW = "python examples/recipes.py > docs/recipes.md"
RECIPES = runpy.run_path(str(ROOT / "examples" / "recipes.py"))
NAMES: list[str] = RECIPES["names"]()
COMPARED = "command", "before_start", "env", "databases", "files", "ready", "strip_prefix", "writable", "delivery"


def test_the_recipes_are_made_from_the_examples() -> None:
    assert (ROOT / "docs" / "recipes.md").read_text() == RECIPES["page"](), f"renew it: {RENEW}"
    assert RENEW in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_recipes_have_the_known_examples_first() -> None:
    assert NAMES[:5] == ["rails", "django", "node", "laravel", "php"]
    assert set(NAMES).isdisjoint({"counter", "customers"})


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_one_screen_and_complete(name: str) -> None:
    folder = ROOT / "examples" / name
    assert len((folder / "README.md").read_text().splitlines()) <= 40
    assert 'CMD ["flyatc", "serve"]' in (folder / "Dockerfile").read_text()


def app(text: str) -> App:
    return next(iter(resolved(text).tenants.values())).app


@pytest.mark.parametrize("name", NAMES)
def test_flyatc_init_writes_what_the_example_has_and_finds_nothing_to_change(name: str) -> None:
    folder = ROOT / "examples" / name
    facts = app_folder.read(folder)
    plan = detect.plan(facts)
    assert plan is not None
    assert [(one.file, one.new) for one in plan.changes] == []
    assert list(image.changes(facts)) == []
    written, present = app(tenants_file.render(plan)), app((folder / "tenants.yaml").read_text())
    for key in COMPARED:
        assert getattr(written, key) == getattr(present, key), key
