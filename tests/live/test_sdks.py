"""The official SDKs, unchanged but for their base address, against a running gateway."""

import anthropic
import openai
import pytest

from farthing.config import Upstream

QUESTION = [{"role": "user", "content": "What does a farthing buy?"}]
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture
def openai_client(gateway):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)


@pytest.fixture
def anthropic_client(gateway):
    return anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0)


def test_openai_chat_plain_and_streamed(openai_client, gateway):
    plain = openai_client.chat.completions.create(model="gpt-6-luna", messages=QUESTION, temperature=1)
    chunks = list(
        openai_client.chat.completions.create(
            model="gpt-6-luna", messages=QUESTION, temperature=1, stream=True, stream_options={"include_usage": True}
        )
    )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage
    assert [entry.usage.tokens for entry in gateway.entries()] == [plain.usage.total_tokens] * 2


def test_openai_chat_without_asking_for_usage_never_sees_it(openai_client):
    stream = openai_client.chat.completions.create(model="gpt-6-luna", messages=QUESTION, stream=True)

    assert all(chunk.usage is None and chunk.choices for chunk in stream)


def test_openai_tools(openai_client):
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": TOOL}}]
    messages = [{"role": "user", "content": "call get_weather"}]

    plain = openai_client.chat.completions.create(model="gpt-6-luna", messages=messages, tools=tools)
    with openai_client.chat.completions.stream(model="gpt-6-luna", messages=messages, tools=tools) as stream:
        streamed = stream.get_final_completion()

    for completion in (plain, streamed):
        (call,) = completion.choices[0].message.tool_calls
        assert call.function.name == "get_weather"


def test_openai_hits_in_either_form(openai_client, gateway):
    bought = openai_client.chat.completions.create(model="gpt-6-luna", messages=QUESTION)
    with openai_client.chat.completions.stream(model="gpt-6-luna", messages=QUESTION) as stream:
        given = stream.get_final_completion()

    assert given.choices[0].message.content == bought.choices[0].message.content
    assert [entry.cache for entry in gateway.entries()] == ["miss", "hit"]


def test_openai_responses_plain_and_streamed(openai_client, gateway):
    plain = openai_client.responses.create(model="gpt-6-sol", input="What does a farthing buy?", temperature=1)
    with openai_client.responses.stream(model="gpt-6-sol", input="What does a farthing buy?", temperature=1) as stream:
        streamed = stream.get_final_response()

    assert plain.output_text == streamed.output_text != ""
    assert [entry.usage.tokens for entry in gateway.entries()] == [plain.usage.total_tokens] * 2


def test_openai_responses_hit_as_a_stream(openai_client, gateway):
    plain = openai_client.responses.create(model="gpt-6-sol", input="Once more, please.")
    with openai_client.responses.stream(model="gpt-6-sol", input="Once more, please.") as stream:
        given = stream.get_final_response()

    assert given.output_text == plain.output_text
    assert [entry.cache for entry in gateway.entries()] == ["miss", "hit"]


def test_openai_embeddings_and_completions(openai_client, gateway):
    embedding = openai_client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    completion = openai_client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once upon", max_tokens=20)

    assert len(embedding.data) == 2
    assert completion.choices[0].text
    assert [entry.endpoint for entry in gateway.entries()] == ["embeddings", "completions"]
    assert all(entry.cost for entry in gateway.entries())


def test_openai_models(gateway_with):
    gateway = gateway_with(upstreams={"stub": Upstream(kind="stub", models=("gpt-6-luna", "gpt-6-sol"))})
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any")

    assert [model.id for model in client.models.list()] == ["gpt-6-luna", "gpt-6-sol"]
    assert client.models.retrieve("gpt-6-sol").id == "gpt-6-sol"


def test_a_stub_for_every_model_lists_some(gateway_with):
    gateway = gateway_with(upstreams={"stub": Upstream(kind="stub", models=("*",))})
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any")

    assert "gpt-6-luna" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("stub-429", openai.RateLimitError),
        ("stub-500", openai.InternalServerError),
        ("stub-error-200", openai.APIStatusError),
    ],
)
def test_openai_errors_are_the_sdks_own(openai_client, gateway, model, error):
    with pytest.raises(error):
        openai_client.chat.completions.create(model=model, messages=QUESTION)
    assert gateway.entries()[0].status >= 400


def test_openai_bad_request_is_the_sdks_own(openai_client):
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        openai_client.chat.completions.create(model="gpt-6-luna", messages=QUESTION, max_tokens=-1)
    with pytest.raises(openai.NotFoundError):
        openai_client.post("/nothing", cast_to=object, body={})


def test_anthropic_messages_plain_and_streamed(anthropic_client, gateway):
    plain = anthropic_client.messages.create(
        model="claude-haiku-5-5", max_tokens=300, messages=QUESTION, extra_body={"temperature": 1.0}
    )
    with anthropic_client.messages.stream(
        model="claude-haiku-5-5", max_tokens=300, messages=QUESTION, extra_body={"temperature": 1.0}
    ) as stream:
        streamed = stream.get_final_message()

    assert plain.content[0].text == streamed.content[0].text != ""
    assert plain.usage.output_tokens == streamed.usage.output_tokens
    first, second = gateway.entries()
    assert first.usage == second.usage
    assert first.cost == second.cost > 0


def test_anthropic_hits_in_either_form(anthropic_client, gateway):
    with anthropic_client.messages.stream(model="claude-haiku-5-5", max_tokens=300, messages=QUESTION) as stream:
        bought = stream.get_final_message()
    given = anthropic_client.messages.create(model="claude-haiku-5-5", max_tokens=300, messages=QUESTION)

    assert given.content[0].text == bought.content[0].text
    assert given.usage.output_tokens == bought.usage.output_tokens
    assert [entry.cache for entry in gateway.entries()] == ["miss", "hit"]


def test_anthropic_tools(anthropic_client):
    tools = [{"name": "get_weather", "description": "weather", "input_schema": TOOL}]
    messages = [{"role": "user", "content": "call get_weather"}]

    plain = anthropic_client.messages.create(model="claude-haiku-5-5", max_tokens=300, messages=messages, tools=tools)
    with anthropic_client.messages.stream(
        model="claude-haiku-5-5", max_tokens=300, messages=messages, tools=tools
    ) as stream:
        streamed = stream.get_final_message()

    for message in (plain, streamed):
        assert message.stop_reason == "tool_use"
        assert message.content[-1].name == "get_weather"


def test_anthropic_count_tokens_is_free(anthropic_client, gateway):
    counted = anthropic_client.messages.count_tokens(model="claude-haiku-5-5", messages=QUESTION)

    assert counted.input_tokens > 0
    assert [entry.cost for entry in gateway.entries()] == [0]


def test_anthropic_errors_are_the_sdks_own(anthropic_client):
    with pytest.raises(anthropic.RateLimitError):
        anthropic_client.messages.create(model="stub-429", max_tokens=10, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        anthropic_client.messages.create(model="claude-haiku-5-5", max_tokens=-10, messages=QUESTION)


def test_images_pass_through_untouched(gateway_with, upstream_that):
    import json

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": [image]}]}
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-6-luna",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "A picture."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 3, "total_tokens": 93},
    }
    data = json.dumps(answer).encode()
    upstream = upstream_that(
        lambda client, request: client.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
        )
    )
    gateway = gateway_with(
        upstreams={"up": Upstream(provider="openai", base_url=f"http://127.0.0.1:{upstream.port}/v1", models=("*",))}
    )
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)

    client.chat.completions.create(**body)

    assert json.loads(upstream.requests[0].partition(b"\r\n\r\n")[2]) == body
