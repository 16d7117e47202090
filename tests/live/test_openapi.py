"""Whatever is sent to a running control plane, it answers as its own OpenAPI document says."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode

from farthing.dashboard.openapi import document

PATHS = json.loads(document(""))["paths"]
CASES = [(path, GenerationMode.POSITIVE) for path in PATHS]
CASES += [
    (path, GenerationMode.NEGATIVE) for path, does in PATHS.items() if does["get"]["parameters"] and "{" not in path
]


@pytest.mark.parametrize(("path", "mode"), CASES, ids=str)
def test_every_answer_is_as_described(gateway, path, mode):
    question = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "What does a farthing buy?"}]}
    call = gateway.post("/v1/chat/completions", question).headers["x-farthing-call"]
    gateway.post("/v1/chat/completions", b"{")
    gateway.entries()
    described = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    operation = described[path]["GET"]
    known = operation.Case(path_parameters={"group": call} if "{" in path else {})
    assert known.call_and_validate().status_code == 200

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case):
        case.call_and_validate()

    check()
