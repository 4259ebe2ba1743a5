"""flyatc init in real folders: what is read of them, what is written, and that nothing is overwritten."""

import os
from pathlib import Path

import pytest

from fakes.app_trees import TREES
from flyatc.admin import app_folder
from flyatc.cli import main
from flyatc.config import load


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the commands run, with a program that serves as every app's."""
    here, programs = tmp_path / "shop", tmp_path / "bin"
    here.mkdir()
    programs.mkdir()
    for name in ("node", "npm", "npx", "php", "python", "gunicorn"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("BUCKET_NAME", raising=False)
    monkeypatch.chdir(here)
    return here


def plant(folder: Path, name: str) -> None:
    for path, text in TREES[name].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main.run(["init", *arguments]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_it_writes_the_file_says_what_to_change_checks_it_and_names_the_next_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(folder, "express")
    lines = said(capsys).splitlines()
    assert lines[:2] == ["Node, express, better-sqlite3 (package.json, server.js)", "wrote tenants.yaml"]
    at = lines.index("  server.js:5  flyatc chooses the port")
    assert lines[at + 1 : at + 3] == [
        '    - app.listen(3000, () => console.log("up"));',
        '    + app.listen(process.env.PORT || 3000, () => console.log("up"));',
    ]
    assert f"{folder}/tenants.yaml: no faults" in lines
    assert lines[-2] == "Next: do the above, then: flyatc serve"
    assert lines[-1] == "      and open http://localhost:3000/bellevue/2025/winter/"
    assert len(lines) <= 40, "one screen"
    assert list(load.load(folder / "tenants.yaml", {}).tenants) == ["bellevue/2025/winter", "bellevue/2025/summer"]


def test_another_folder_may_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "web").mkdir()
    plant(folder / "web", "express")
    text = said(capsys, "web")
    assert (folder / "web" / "tenants.yaml").exists()
    assert "cd web && flyatc serve" in text


def test_a_second_time_nothing_is_written_and_the_difference_is_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(folder, "express")
    (folder / "tenants.yaml").write_text("mine\n")
    text = said(capsys, code=1)
    assert (folder / "tenants.yaml").read_text() == "mine\n"
    assert "tenants.yaml is there already, and is kept" in text
    assert "  -mine" in text
    assert "flyatc init --stdout" in text
    assert "server.js:5" in text


def test_stdout_prints_the_file_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(folder, "express")
    text = said(capsys, "--stdout")
    assert sorted(path.name for path in folder.iterdir()) == sorted(TREES["express"])
    (folder / "tenants.yaml").write_text(text)
    assert load.load(folder / "tenants.yaml", {}).tenants


def test_a_dangling_link_is_not_written_through(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(folder, "express")
    (folder / "tenants.yaml").symlink_to(tmp_path / "elsewhere")
    said(capsys, code=1)
    assert not (tmp_path / "elsewhere").exists()


def test_dockerfile_and_fly_toml_are_written_beside_a_file_that_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(folder, "express")
    assert "flyatc init --docker --fly writes one" in said(capsys)
    said(capsys, "--docker", "--fly")
    assert 'CMD ["flyatc", "serve"]' in (folder / "Dockerfile").read_text()
    assert 'app = "shop"' in (folder / "fly.toml").read_text()
    assert "/data/" in (folder / ".dockerignore").read_text()
    text = said(capsys, "--docker", "--fly")
    assert "Change in" not in text.replace("Change in the app", ""), "what init has written needs no change"


def test_existing_dockerfile_and_fly_toml_are_kept_and_their_lines_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(folder, "express")
    (folder / "Dockerfile").write_text('FROM node:22\nWORKDIR /srv\nCOPY . .\nCMD ["node", "server.js"]\n')
    (folder / "fly.toml").write_text('app = "x"\n')
    (folder / ".dockerignore").write_text("node_modules\n")
    text = said(capsys, "--docker", "--fly")
    assert (folder / "fly.toml").read_text() == 'app = "x"\n'
    assert (folder / "Dockerfile").read_text().endswith('CMD ["node", "server.js"]\n')
    assert "  Dockerfile:4  flyatc starts the app" in text
    assert "FLYATC_CONFIG=/srv/tenants.yaml" in text
    assert 'kill_signal = "SIGTERM"' in text
    assert "  .dockerignore  no image may contain" in text


def test_a_missing_program_is_reported_after_the_file_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(folder, "django")
    monkeypatch.setenv("PATH", "/nowhere")
    text = said(capsys, code=1)
    assert "there is no program 'gunicorn' in PATH" in text
    assert (folder / "tenants.yaml").exists()
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "gunicorn"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    (folder / "tenants.yaml").unlink()
    assert 'PATH="$PWD/.venv/bin:$PATH" flyatc serve' in said(capsys)
    assert main.run(["check", "--config", str(folder / "tenants.yaml")]) == 1
    assert (
        "no program 'gunicorn' in PATH: it is in .venv/bin, so write .venv/bin/gunicorn, or" in capsys.readouterr().err
    )


def test_a_folder_without_an_app_says_what_was_looked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, code=1)
    assert "no app is recognised" in text
    assert "package.json" in text
    assert "web: COMMAND" in text
    assert list(folder.iterdir()) == []
    assert "no-such-folder: No such file or directory" in said(capsys, "no-such-folder", code=1)


def test_neither_links_nor_pipes_nor_hidden_folders_are_read(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "database.yml").write_text("production:")
    (secret / "package.json").write_text("{}")
    (folder / "config").symlink_to(secret)
    (folder / "package.json").symlink_to(secret / "package.json")
    (folder / "src").symlink_to(tmp_path)
    os.mkfifo(folder / "Procfile")
    for name in (".git", "node_modules", "vendor"):
        (folder / name).mkdir()
        (folder / name / "a.js").write_text("x")
    (folder / "manage.py").mkdir()
    facts = app_folder.read(folder)
    assert facts.texts == {}
    assert {"package.json: a link", "Procfile: not a file"} <= set(facts.unread)


def test_what_is_read_of_a_folder_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "package.json").write_bytes(b"x" * (app_folder.FILE_SIZE + 9))
    (folder / "a.js").write_bytes(b"\xff\xfe caf\xe9")
    (folder / "b.js").write_bytes(b"a\0b")
    (folder / os.fsdecode(b"\xff.js")).write_text("x")
    (folder / "line\nbreak.js").write_text("x")
    deep = folder.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "c.js").write_text("x")
    facts = app_folder.read(folder)
    assert set(facts.texts) == {"package.json", "a.js"}
    assert len(facts.text("package.json")) == app_folder.FILE_SIZE
    assert "caf\ufffd" in facts.text("a.js")
    for limit in ("MOST_FILES", "MOST_ENTRIES", "TOTAL_SIZE"):
        with monkeypatch.context() as patched:
            patched.setattr(app_folder, limit, 1)
            assert app_folder.read(folder).unread[-1].startswith("the folder is large"), limit


def test_text_of_the_app_cannot_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "server.js").write_text('new Database("\x1b[2Jdev.sqlite3")\n')
    text = said(capsys)
    assert "dev.sqlite3" in text
    assert "\x1b" not in text
