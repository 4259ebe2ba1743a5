"""The installations of ``.ci/run``, tried with programs that only record their calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slowness import SLOWNESS

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
"""


class Machine:
    """A PATH which has nothing but the script's own tools and what is put there."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.calls, self.checkout = folder / "bin", folder / "calls", folder / "checkout"
        self.programs.mkdir()
        (self.checkout / ".ci").mkdir(parents=True)
        (self.checkout / "examples" / "customers").mkdir(parents=True)
        shutil.copy(SCRIPT, self.checkout / ".ci" / "run")
        for tool in ("bash", "sh", "dirname", "basename", "timeout", "env", "touch", "grep"):
            found = shutil.which(tool)
            assert found is not None
            (self.programs / tool).symlink_to(found)
        self.suite = self.checkout / "tests" / "cache_suite" / "node_modules" / "http-cache-tests"
        self.axe = self.checkout / "tests" / "accessibility" / "node_modules" / "axe-core"
        self.put("id", "echo 0")
        self.put("make")

    def put(self, *names: str) -> None:
        """Programs that succeed; a shell command may be given after one name."""
        name, *rest = names
        path = self.programs / name
        path.write_text(STUB + "\n".join(rest) + "\n")
        path.chmod(0o755)

    def has_npm_packages(self) -> None:
        self.suite.mkdir(parents=True)
        self.axe.mkdir(parents=True)
        for folder in ("node", "node-orms", "node-orms/prisma"):
            modules = self.checkout / "examples" / folder / "node_modules"
            modules.mkdir(parents=True)
            (modules / ".package-lock.json").touch()
        (self.checkout / "examples" / "node-orms" / "node_modules" / "sqlite3" / "build").mkdir(parents=True)

    def run(self) -> list[str]:
        """Return what was called, without apt-get's options."""
        done = subprocess.run(
            [self.checkout / ".ci" / "run"],
            env={"PATH": str(self.programs), "CALLS": str(self.calls)},
            capture_output=True, text=True, timeout=30 * SLOWNESS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        lines = self.calls.read_text().splitlines()
        return [line.partition("Acquire::Retries=3 ")[2] if "apt-get" in line else line for line in lines]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def installed(calls: list[str]) -> list[str]:
    return [call.rpartition(" ")[2] for call in calls if call.startswith("install --no-install")]


def test_a_bare_debian_gets_all_that_is_missing(machine: Machine) -> None:
    (machine.programs / "make").unlink()
    machine.put("apt-get", 'case "$*" in *" make") ln -s "$(command -v id)" "${0%/*}/make";; esac')
    (machine.programs / "ln").symlink_to(shutil.which("ln") or "")
    calls = machine.run()
    assert calls[1] == "update"
    missing = ["make", "python3", "python3-venv", "puma", "nodejs", "npm", "bind9-dnsutils"]
    missing += ["php-cli", "php-sqlite3", "php-laravel-framework", "gcc", "libc6-dev", "ruby-rails", "ruby-sqlite3"]
    assert installed(calls) == [*missing, "node-express", "node-sqlite3", "chromium-driver"]


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.put("apt-get")
    for name in ("puma", "node", "npm", "python3", "php", "cc"):
        machine.put(name)
    assert installed(machine.run()) == ["bind9-dnsutils", "ruby-rails", "ruby-sqlite3", "chromium-driver"]


def test_where_nothing_is_missing_nothing_is_asked_for(machine: Machine) -> None:
    for name in ("apt-get", "puma", "node", "dig", "python3", "npm", "php", "cc", "ruby", "chromedriver"):
        machine.put(name)
    machine.has_npm_packages()
    calls = machine.run()
    assert {call.split()[0] for call in calls} == {"id", "python3", "php", "ruby", "node", "make"}
    assert calls[-1] == "make test"


def test_a_package_that_cannot_be_had_does_not_keep_the_others_away(machine: Machine) -> None:
    machine.put("apt-get", 'case "$*" in *" puma") exit 100;; esac')
    machine.put("node")
    machine.put("npm")
    for name in ("python3", "php", "cc", "ruby"):
        machine.put(name)
    assert installed(machine.run()) == ["puma", "bind9-dnsutils", "chromium-driver"]
    assert "puma could not be installed" in machine.said


def test_a_node_from_elsewhere_gets_its_modules_from_npm(machine: Machine) -> None:
    machine.put("apt-get", 'case "$*" in *simulate*) exit 100;; esac')
    for name in ("puma", "dig", "python3", "php", "cc", "ruby", "chromedriver"):
        machine.put(name)
    machine.put("node", f"test -e {machine.calls}.modules")
    machine.put("npm", f"touch {machine.calls}.modules")
    machine.has_npm_packages()
    calls = machine.run()
    assert installed(calls) == []
    assert [call for call in calls if call.startswith("npm install")]
    assert machine.said == ""
    assert calls[-1] == "make test"


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("suite", "npm ci --silent --prefix tests/cache_suite"),
        ("axe", "npm ci --silent --no-audit --no-fund --prefix tests/accessibility"),
    ],
)
def test_the_tests_of_caches_and_axe_are_installed_by_npm_as_their_locks_say(
    machine: Machine, missing: str, command: str
) -> None:
    (machine.programs / "mkdir").symlink_to(shutil.which("mkdir") or "")
    for name in ("apt-get", "puma", "dig", "python3", "node"):
        machine.put(name)
    machine.has_npm_packages()
    place: Path = getattr(machine, missing)
    place.rmdir()
    machine.put("npm", f"mkdir -p {place}")
    assert [call for call in machine.run() if call.startswith("npm")] == [command]
    assert machine.said == ""


def test_the_modules_of_the_examples_are_installed_by_npm_as_their_locks_say(machine: Machine) -> None:
    for name in ("mkdir", "ln"):
        (machine.programs / name).symlink_to(shutil.which(name) or "")
    for name in ("apt-get", "puma", "dig", "python3", "node"):
        machine.put(name)
    machine.suite.mkdir(parents=True)
    machine.axe.mkdir(parents=True)
    machine.put("npm", 'for folder; do :; done; case "$*" in ci*) mkdir -p "$folder/node_modules"',
                'echo > "$folder/node_modules/.package-lock.json";; esac')  # fmt: skip
    calls = [call.split() for call in machine.run() if call.startswith("npm")]
    folders = ["examples/node", "examples/node-orms", "examples/node-orms/prisma"]
    assert [call[-1] for call in calls if call[1] == "ci"] == folders
    assert [call[-1] for call in calls if call[1] == "rebuild"] == ["sqlite3"]
    assert machine.said == ""


def test_without_root_and_without_the_registry_the_tests_are_run_all_the_same(machine: Machine) -> None:
    machine.put("id", "echo 1000")
    machine.put("apt-get", "exit 100")
    machine.put("node", "exit 1")
    machine.put("npm", "exit 1")
    calls = machine.run()
    assert calls[-1] == "make test"
    assert "npm could not install express and sqlite3" in machine.said
    assert "npm could not install the tests of HTTP caches" in machine.said
    assert "npm could not install axe" in machine.said
    assert not [call for call in calls if call.startswith(("install", "update"))]


def test_the_script_leaves_what_ci_means_to_the_tests() -> None:
    code = [line for line in SCRIPT.read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in code if "CI=" in line]
    assert os.access(SCRIPT, os.X_OK)
