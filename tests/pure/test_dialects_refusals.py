"""Farthing's errors as the official SDKs take them."""

import json
from datetime import UTC, datetime

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import ErrorResponse, ModelInfo
from openai.types import Model

from farthing.dialects import error_body, error_frame, model_body, models_body
from farthing.dialects.sse import data_of
from farthing.errors import (
    FarthingError,
    LedgerError,
    RequestError,
    TooLarge,
    Unauthorized,
    UnknownEndpoint,
    UnknownModel,
    UpstreamError,
    UpstreamTimeout,
)

OPENAI = openai.OpenAI(api_key="x", base_url="http://127.0.0.1:1")
ANTHROPIC = anthropic.Anthropic(api_key="x", base_url="http://127.0.0.1:1")


def response(error: FarthingError, endpoint: str) -> httpx2.Response:
    request = httpx2.Request("POST", "http://127.0.0.1:1")
    return httpx2.Response(error.status, content=error_body(endpoint, error, "call-1"), request=request)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RequestError("m"), openai.BadRequestError),
        (Unauthorized("m"), openai.AuthenticationError),
        (UnknownModel("m"), openai.NotFoundError),
        (UpstreamError("m"), openai.InternalServerError),
        (UpstreamTimeout("m"), openai.InternalServerError),
    ],
)
def test_openai_raises_its_own_class(error: FarthingError, raised: type[Exception]) -> None:
    seen = OPENAI._make_status_error_from_response(response(error, "chat"))
    assert type(seen) is raised
    assert (seen.code, seen.body["message"]) == (error.code, "m")  # type: ignore[index]
    assert set(seen.body) == {"message", "type", "param", "code"}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("error", "kind", "raised"),
    [
        (RequestError("m"), "invalid_request_error", anthropic.BadRequestError),
        (Unauthorized("m"), "authentication_error", anthropic.AuthenticationError),
        (UnknownEndpoint("m"), "not_found_error", anthropic.NotFoundError),
        (UnknownModel("m"), "not_found_error", anthropic.NotFoundError),
        (TooLarge("m"), "request_too_large", anthropic.APIStatusError),
        (LedgerError("m"), "overloaded_error", anthropic.APIStatusError),
        (UpstreamTimeout("m"), "timeout_error", anthropic.APIStatusError),
        (UpstreamError("m"), "api_error", anthropic.InternalServerError),
    ],
)
def test_anthropic_raises_its_own_class(error: FarthingError, kind: str, raised: type[Exception]) -> None:
    answer = response(error, "messages")
    seen = ANTHROPIC._make_status_error_from_response(answer)
    assert isinstance(seen, raised)
    assert json.loads(answer.content) == {
        "type": "error",
        "error": {"type": kind, "message": "m"},
        "request_id": "call-1",
    }
    if kind != "request_too_large":
        assert ErrorResponse.model_validate_json(answer.content, strict=True).request_id == "call-1"


@pytest.mark.parametrize("endpoint", ["chat", "messages", "other"])
def test_the_hint_is_in_the_message(endpoint: str) -> None:
    body = json.loads(error_body(endpoint, RequestError("It broke.", hint="Mend it."), "c"))
    assert body["error"]["message"] == "It broke. Mend it."


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
def test_openai_raises_on_an_error_inside_a_stream(endpoint: str) -> None:
    frame = error_frame(endpoint, UpstreamError("The line went dead."), "c")
    answer = httpx2.Response(200, content=frame, request=httpx2.Request("POST", "http://127.0.0.1:1"))
    with pytest.raises(openai.APIError, match="The line went dead"):
        list(openai.Stream(cast_to=object, response=answer, client=OPENAI))


def test_anthropic_raises_on_an_error_inside_a_stream() -> None:
    frame = error_frame("messages", UpstreamError("The line went dead."), "c")
    answer = httpx2.Response(200, content=frame, request=httpx2.Request("POST", "http://127.0.0.1:1"))
    with pytest.raises(anthropic.APIStatusError, match="The line went dead"):
        list(anthropic.Stream(cast_to=object, response=answer, client=ANTHROPIC))


def test_an_error_in_a_stream_of_responses_is_the_event_its_api_documents() -> None:
    event = json.loads(data_of(error_frame("responses", UpstreamError("Gone."), "c")) or b"")
    assert (event["type"], event["code"], event["message"], event["param"]) == (
        "error",
        "upstream_error",
        "Gone.",
        None,
    )


def test_models_are_listed_in_either_dialect() -> None:
    models = [("gpt-6-luna", "openai"), ("local/llama", "vllm")]
    listed = json.loads(models_body("openai", models, 1_762_646_400))
    assert listed["object"] == "list"
    assert [Model.model_validate(model, strict=True).id for model in listed["data"]] == ["gpt-6-luna", "local/llama"]
    page = json.loads(models_body("anthropic", models, 1_762_646_400))
    infos = [ModelInfo.model_validate(model) for model in page["data"]]
    assert [info.id for info in infos] == ["gpt-6-luna", "local/llama"]
    assert infos[0].created_at == datetime(2025, 11, 9, tzinfo=UTC)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("gpt-6-luna", "local/llama", False)
    assert json.loads(models_body("anthropic", [], 0)) == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    assert json.loads(model_body("openai", "a", "b", 5)) == {
        "id": "a",
        "object": "model",
        "created": 5,
        "owned_by": "b",
    }
