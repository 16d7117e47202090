"""The OpenAPI 3.1 document of the control plane, made from the very records that it encodes."""

from collections.abc import Mapping, Sequence
from typing import Union

import msgspec

from farthing.dashboard.views import Calls, Health, Problem, Receipt, Series, Summary
from farthing.dashboard.windows import RANGES

Json = Union[str, int, Sequence["Json"], Mapping[str, "Json"]]  # noqa: UP007  (a string has no `|`)

MOST_CALLS = 200
USUAL_CALLS = 50

_ANSWERS = (Summary, Series, Calls, Receipt, Health, Problem)
_JSON = "application/json"
_PROMETHEUS = "text/plain"

_RANGE: Json = {
    "name": "range",
    "in": "query",
    "description": "How far back to look; without it, the hour or the day, by how much there is to see.",
    "schema": {"type": "string", "enum": list(RANGES)},
}
_LIMIT: Json = {
    "name": "limit",
    "in": "query",
    "description": "How many calls to answer with, at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_CALLS, "default": USUAL_CALLS},
}
_BEFORE: Json = {
    "name": "before",
    "in": "query",
    "description": "Only calls that arrived before this instant, in Unix nanoseconds (`next_before` of the last page).",
    "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
}
_GROUP: Json = {
    "name": "group",
    "in": "path",
    "required": True,
    "description": "The id of the call, as the `x-farthing-call` header of its answer and every listing have it.",
    "schema": {"type": "string", "minLength": 1},
}


def document(version: str) -> bytes:
    """The whole document as JSON."""
    _, schemas = msgspec.json.schema_components(_ANSWERS, ref_template="#/components/schemas/{name}")
    unwell = _answer("Health", "Not ready, and why")
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Farthing control plane",
                "version": version,
                "summary": "Read what was asked, what it cost and what was saved.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": {
                "/api/summary": _get("summary", "One range at a glance", "Summary", [_RANGE], fails=("400", "503")),
                "/api/series": _get("series", "Cost over time by model", "Series", [_RANGE], fails=("400", "503")),
                "/api/calls": _get("calls", "Settled calls", "Calls", [_LIMIT, _BEFORE], fails=("400", "503")),
                "/api/calls/{group}": _get("receipt", "One call's receipt", "Receipt", [_GROUP], fails=("404", "503")),
                "/healthz": _get("healthz", "Whether the process is alive", "Health"),
                "/readyz": _get("readyz", "Whether to send traffic", "Health", more={"503": unwell}),
                "/metrics": _get("metrics", "Prometheus metrics", {"type": "string"}),
            },
            "components": {"schemas": schemas},
        }
    )


def _get(
    name: str,
    summary: str,
    answer: str | Mapping[str, Json],
    parameters: Sequence[Json] = (),
    fails: Sequence[str] = (),
    more: Mapping[str, Json] | None = None,
) -> Json:
    answers = {"200": _answer(answer, summary), **{status: _answer("Problem", _FAILURES[status]) for status in fails}}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "parameters": parameters,
            "responses": {**answers, **(more or {})},
        }
    }


def _answer(schema: str | Mapping[str, Json], description: str) -> Json:
    if isinstance(schema, str):
        return {
            "description": description,
            "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }
    return {"description": description, "content": {_PROMETHEUS: {"schema": schema}}}


_FAILURES = {
    "404": "No such call",
    "400": "A parameter cannot be used, and why",
    "503": "The ledger cannot be read, and why",
}
