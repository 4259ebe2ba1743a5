"""README, docs, images and version agree with the code."""

import re
from pathlib import Path

import pytest

from flyatc import __version__
from flyatc.cli.main import COMMANDS
from flyatc.config import load
from flyatc.tenants.state import NEXT, State

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAPERS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("bench/*.md"))]
PAPERS += [ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("examples/*/README.md"))]


def test_every_command_is_in_the_readme() -> None:
    table = README.partition("## The command line")[2].partition("\n## ")[0]
    for name in COMMANDS:
        assert re.search(rf"`(flyatc )?{name}\b", table), f"README does not list flyatc {name}"
    for name in re.findall(r"`flyatc ([a-z]+)", README):
        assert name in COMMANDS, f"README names flyatc {name}, which is not a command"


def test_the_state_diagram_is_that_of_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = text.partition("stateDiagram-v2\n")[2].partition("```")[0].splitlines()
    table = [f"    {old} --> {new}" for old in State for new in State if new in NEXT[old]]
    assert drawn == ["    [*] --> stopped", *table]


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for room in (ROOT / "src" / "flyatc").glob("*/__init__.py"):
        assert f"`{room.parent.name}`" in text, f"docs/architecture.md does not name {room.parent.name}"
    for module in re.findall(r"`([a-z]+/[a-z_]+\.py)`", text):
        assert any((ROOT / place / module).exists() for place in ("src/flyatc", ".")), module


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_links_lead_somewhere(paper: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", paper.read_text()):
        assert (paper.parent / target).exists(), target


TENANTS = [
    text.partition("```")[0]
    for paper in (README, *((ROOT / "docs" / name).read_text() for name in ("recipes.md", "many-machines.md")))
    for text in paper.split("```yaml\n")[1:]
]


@pytest.mark.parametrize("text", TENANTS, ids=range(len(TENANTS)))
def test_every_tenants_yaml_in_the_documents_is_valid(text: str, tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text(text)
    assert load.load(tmp_path / "tenants.yaml", {}).tenants


@pytest.mark.parametrize("folder", [ROOT, ROOT / "examples" / "customers"], ids=["counter", "customers"])
def test_the_image_has_what_it_copies_and_its_data_on_the_volume(folder: Path) -> None:
    docker, ignored = (folder / "Dockerfile").read_text(), (folder / ".dockerignore").read_text().splitlines()
    for line in docker.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (folder / source).exists()
                assert f"!{source}" in ignored, f".dockerignore keeps {source} out of the image"
    volume = re.search(r'destination = "(.*)"', (folder / "fly.toml").read_text())
    assert volume is not None
    assert f" FLYATC_DATA={volume[1]} " in docker
    health = re.search(r' path = "(.*)"', (folder / "fly.toml").read_text())
    assert health is not None
    assert load.load(folder / "tenants.yaml", {}).server.health == health[1]


def test_the_version_is_the_same_everywhere() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_integration_script_runs_the_makefile() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith("exec make test")
