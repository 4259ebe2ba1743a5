"""The OpenAPI 3.1 document of the control API, from the types of its routes: https://spec.openapis.org/oas/v3.1.0."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flyatc import __version__
from flyatc.control.api import Call, Failure, File, Route, Stream, Text, Work
from flyatc.control.requests import Nothing
from flyatc.control.types import Step

JSON, LINES, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"
_TEMPLATE = "#/components/schemas/{name}"
_ABOUT = (
    "Over the unix socket .flyatc/control.sock in server.data, for the user who runs the daemon and root; "
    "/healthz and /metrics on server.control too. Each path has one method."
)

Json = dict[str, Any]


def document(routes: Sequence[Route]) -> Json:
    ours = [one for route in routes for one in (route.takes, route.gives)]
    types: list[type] = list(dict.fromkeys([Failure, Step, *ours]))
    found, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    schemas = dict(zip(types, found, strict=True))
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "flyatc", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "http://localhost", "description": "over the unix socket"}],
        "paths": paths,
        "components": {"schemas": {name: one for name, one in components.items() if name != Nothing.__name__}},
    }


def _operation(route: Route, schemas: Mapping[type, Json], components: Mapping[str, Json]) -> Json:
    failure = {"description": "It failed: why.", "content": {JSON: {"schema": schemas[Failure]}}}
    operation: Json = {
        "operationId": route.handle.__name__,
        "summary": route.summary,
        "responses": {"200": _response(route, schemas), "default": failure},
    }
    if route.takes is Nothing:
        return operation
    if route.method == "GET":
        return operation | {"parameters": _parameters(components[route.takes.__name__])}
    return operation | {"requestBody": {"required": True, "content": {JSON: {"schema": schemas[route.takes]}}}}


def _response(route: Route, schemas: Mapping[type, Json]) -> Json:
    match route:
        case Call():
            return {"description": "Done.", "content": {JSON: {"schema": schemas[route.gives]}}}
        case Work():
            lines = {"oneOf": [schemas[Step], schemas[route.gives], schemas[Failure]]}
            return {
                "description": "Lines of JSON: steps, and the result at last.",
                "content": {LINES: {"schema": lines}},
            }
        case Stream():
            text = "Server-sent events, whose data is JSON. A client that comes back sends Last-Event-ID."
            return {"description": text, "content": {EVENTS: {"schema": schemas[route.gives]}}}
        case File():
            return {"description": "The file, with its Content-Length.", "content": {route.kind: {}}}
        case Text():
            return {"description": "Text.", "content": {route.kind: {"schema": {"type": "string"}}}}


def _parameters(query: Json) -> list[Json]:
    needed = query.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": schema}
        for name, schema in query["properties"].items()
    ]
