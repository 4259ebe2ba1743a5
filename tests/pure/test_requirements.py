"""The locks pin what pyproject.toml asks for, with hashes and for each supported Python, and name no place."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PIN = re.compile(r"[^\s=]+==\S+( ; .*?)?(\s+--hash=sha256:[0-9a-f]{64})+")
RENEW = "run: make lock KEEP=1"


def locked(name: str, python: str) -> dict[str, Requirement]:
    """The requirements of a lock that apply to ``python`` on Linux, by name."""
    lines = (ROOT / "tests" / name).read_text().replace("\\\n", " ").splitlines()
    found = [Requirement(re.split(r"\s--hash", line)[0]) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in found if one.marker is None or applies(one.marker, python)}


def applies(marker: Marker, python: str) -> bool:
    here = {"sys_platform": "linux", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return marker.evaluate({**here, "python_version": python, "python_full_version": f"{python}.0", "extra": ""})


def group(name: str) -> list[Requirement]:
    found: list[Requirement] = []
    for entry in PROJECT["dependency-groups"][name]:
        found += [Requirement(entry)] if isinstance(entry, str) else group(entry["include-group"])
    return found


NEEDED = [Requirement(entry) for entry in PROJECT["project"]["dependencies"]]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("lock", "needed"),
    [
        ("requirements.lock", [*NEEDED, *group("dev")]),
        ("requirements-serve.lock", [*NEEDED, *group("build")]),
        ("requirements-dist.lock", [*NEEDED, *group("dist")]),
    ],
    ids=["test", "serve", "dist"],
)
def test_each_lock_has_a_version_within_each_range(lock: str, needed: list[Requirement], python: str) -> None:
    found = locked(lock, python)
    for one in needed:
        name = canonicalize_name(one.name)
        assert name in found, f"{one} is in pyproject.toml and not in tests/{lock}: {RENEW}"
        (pin,) = found[name].specifier
        assert pin.operator == "=="
        assert one.specifier.contains(pin.version), f"tests/{lock} has {found[name]}, not {one}: {RENEW}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", ["requirements-serve.lock", "requirements-dist.lock"])
def test_what_is_served_is_what_was_tested(lock: str, python: str) -> None:
    tested = locked("requirements.lock", python)
    for name, one in locked(lock, python).items():
        assert tested[name].specifier == one.specifier, f"{name}: {RENEW}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-serve.lock", "requirements-dist.lock"])
def test_a_lock_has_hashes_and_names_no_place(lock: str) -> None:
    text = (ROOT / "tests" / lock).read_text()
    for line in text.replace("\\\n", " ").splitlines():
        assert line.startswith("#") or PIN.fullmatch(line), line
    assert "//" not in text
    assert not re.search(r"--(index|find|extra|trusted)", text)
