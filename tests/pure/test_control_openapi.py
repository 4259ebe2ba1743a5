"""The OpenAPI document is valid, and says what each route takes and gives."""

import json
import subprocess
import sys

import openapi_spec_validator

from flyatc.control import openapi
from flyatc.control.api import ROUTES


def test_the_document_is_valid_and_complete() -> None:
    command = [sys.executable, "-m", "flyatc", "api", "--openapi"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found == openapi.document(ROUTES)
    openapi_spec_validator.validate(found)
    assert {(path, method.upper()) for path, one in found["paths"].items() for method in one} == {
        (route.path, route.method) for route in ROUTES
    }


def test_queries_and_bodies_are_described() -> None:
    found = openapi.document(ROUTES)
    schemas = found["components"]["schemas"]
    names = {one["name"]: one["required"] for one in found["paths"]["/history"]["get"]["parameters"]}
    assert names == {"address": True, "database": False}
    body = found["paths"]["/pause"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/PauseRequest"}
    assert schemas["PauseRequest"]["properties"]["limit"]["maximum"] == 3600
    assert schemas["PauseRequest"]["additionalProperties"] is False
    assert list(found["paths"]["/logs"]["get"]["responses"]["200"]["content"]) == ["text/event-stream"]
    restored = found["paths"]["/restore"]["post"]["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    assert {"$ref": "#/components/schemas/Step"} in restored["oneOf"]
