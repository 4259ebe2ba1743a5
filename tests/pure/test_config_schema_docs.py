"""JSON Schema and reference of tenants.yaml."""

from collections.abc import Iterator
from typing import Any

from flyatc.config.schema import App, Config
from flyatc.config.schema_docs import json_schema, reference
from flyatc.config.schema_file import File, UserEntry


def properties(struct: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json_schema()["$defs"][struct]["properties"]
    return found


def every_key() -> Iterator[tuple[str, dict[str, Any]]]:
    for struct in ("Server", "App", "Storage", "UserEntry", "AppOverrides", "Limits", "MachineIdle", "Logging"):
        for name, described in properties(struct).items():
            yield f"{struct}.{name}", described


def test_every_key_has_a_description() -> None:
    assert [name for name, described in every_key() if not described.get("description")] == []


def test_every_key_of_the_file_has_its_default() -> None:
    overrides = ("UserEntry", "AppOverrides")
    assert [n for n, described in every_key() if ("default" in described) == n.startswith(overrides)] == []


def test_durations_sizes_and_places_may_be_numbers_or_text() -> None:
    assert properties("App")["idle"]["type"] == ["number", "string"]
    assert properties("AppOverrides")["idle"]["type"] == ["number", "string"]
    assert properties("Limits")["request_body"]["type"] == ["number", "string"]
    assert json_schema()["$defs"]["Listen"]["type"] == ["integer", "string"]
    assert properties("Server")["listen"]["default"] == 3000


def test_a_variable_may_be_null_and_any_scalar() -> None:
    kinds = properties("App")["env"]["additionalProperties"]["anyOf"]
    assert kinds == [{"type": ["string", "number", "boolean"]}, {"type": "null"}]


def test_overrides_say_what_app_says_without_defaults() -> None:
    of_app = {name: described["description"] for name, described in properties("App").items()}
    assert {name: d["description"] for name, d in properties("AppOverrides").items()} == of_app
    assert set(properties("UserEntry")) == {
        *App.__struct_fields__,
        "tenants",
        "match",
        "provision",
        "region",
        "machine",
    }


def test_unknown_keys_are_refused_by_the_schema_too() -> None:
    structs = [described for described in json_schema()["$defs"].values() if described.get("type") == "object"]
    assert structs
    assert all(described["additionalProperties"] is False for described in structs)


def test_the_reference_names_every_section_and_every_key() -> None:
    page = reference()
    assert [name for name in File.__struct_fields__ if f"## {name}\n" not in page] == []
    assert [name for name in UserEntry.__struct_fields__ if f"| `{name}` |" not in page] == []
    assert "| `idle` | a duration | `5m` |" in page
    assert "| `request_header` | a size | `64KB` |" in page
    assert "| `listen` | a port or host:port | `3000` |" in page
    assert Config.__name__ not in page
