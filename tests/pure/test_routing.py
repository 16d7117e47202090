"""Which upstream serves a call."""

import pytest

from farthing.errors import UnknownModel
from farthing.routing import RouteTable
from farthing.schema import Call, Route

OPENAI = ("chat", "responses", "embeddings", "completions")
TABLE = RouteTable(
    [
        Route("*", "openai", OPENAI),
        Route("gpt-6-*", "azure", OPENAI),
        Route("gpt-6-luna", "local", ("chat",), served_as="llama-4"),
        Route("*", "anthropic", ("messages", "count_tokens")),
    ]
)


def call(model: str, endpoint: str = "chat") -> Call:
    return Call(endpoint, model, b"", path=f"/v1/{endpoint}")


@pytest.mark.parametrize(
    ("model", "endpoint", "upstream"),
    [
        ("gpt-6-luna", "chat", "local"),
        ("gpt-6-luna", "embeddings", "azure"),
        ("gpt-6-sol", "chat", "azure"),
        ("anything", "chat", "openai"),
        ("claude-haiku-5-5", "messages", "anthropic"),
    ],
)
def test_names_come_before_patterns_and_the_endpoint_must_fit(model, endpoint, upstream):
    assert TABLE.choose(call(model, endpoint)).upstream == upstream


def test_a_route_may_serve_a_model_under_another_name():
    assert TABLE.choose(call("gpt-6-luna")).served_as == "llama-4"


def test_a_model_that_is_served_nowhere_is_refused_with_the_nearest_name():
    table = RouteTable([Route("gpt-6-luna", "a", OPENAI)])
    with pytest.raises(UnknownModel, match='Did you mean "gpt-6-luna"'):
        table.choose(call("gpt-6-lana"))


def test_a_model_that_is_served_elsewhere_says_where():
    table = RouteTable([Route("claude-haiku-5-5", "anthropic", ("messages",))])
    with pytest.raises(UnknownModel, match=r"not served on /v1/chat.*anthropic, serves: messages"):
        table.choose(call("claude-haiku-5-5"))


def test_a_model_may_name_its_upstream():
    table = RouteTable(
        [Route("*", "groq", OPENAI), Route("gpt-*", "openai", OPENAI), Route("llama-*", "other", OPENAI)]
    )
    for model, upstream, served_as in [
        ("other/llama-4", "other", "llama-4"),
        ("groq/llama-4", "groq", "llama-4"),
        ("other/mixtral", "groq", ""),  # "other" serves no such model, and "*" matches the whole name
        ("meta/llama-4", "groq", ""),
    ]:
        chosen = table.choose(call(model))
        assert (chosen.upstream, chosen.served_as) == (upstream, served_as)
