"""Which upstream serves a call."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import UnknownModel
from farthing.routing import RouteTable, order
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


def upstreams(routes: Sequence[Route]) -> list[str]:
    return [route.upstream for route in routes]


RANKED = RouteTable(
    [
        Route("gpt-6-luna", "second", OPENAI, rank=2),
        Route("gpt-6-luna", "first", OPENAI),
        Route("gpt-6-luna", "chats", ("chat",)),
        Route("gpt-6-luna", "alone", OPENAI, rank=0),
        Route("gpt-*", "pattern", OPENAI),
        Route("*", "one", OPENAI, rank=0),
        Route("*", "other", OPENAI, rank=0),
    ]
)


def test_every_route_of_the_best_match_is_a_candidate_by_rank():
    assert upstreams(RANKED.candidates(call("gpt-6-luna"))) == ["first", "chats", "second"]
    assert upstreams(RANKED.candidates(call("gpt-6-luna", "embeddings"))) == ["first", "second"]
    assert upstreams(RANKED.candidates(call("gpt-5"))) == ["pattern"]
    assert RANKED.choose(call("gpt-6-luna")) is RANKED.candidates(call("gpt-6-luna"))[0]


def test_a_route_of_no_rank_is_asked_alone():
    assert upstreams(RANKED.candidates(call("anything"))) == ["one"]


def test_an_upstream_named_by_the_model_is_asked_alone_and_on_its_terms():
    table = RouteTable([Route("*", "groq", OPENAI, max_output=9, cache=False), Route("*", "other", OPENAI)])
    (only,) = table.candidates(call("groq/llama-4"))
    assert (only.upstream, only.served_as, only.max_output, only.cache) == ("groq", "llama-4", 9, False)


weighted = st.lists(
    st.builds(
        Route,
        model=st.just("m"),
        upstream=st.sampled_from("abcdef"),
        endpoints=st.just(OPENAI),
        rank=st.integers(1, 3),
        weight=st.integers(1, 100),
    ),
    max_size=8,
)


@given(weighted, st.sets(st.sampled_from("abcdef")), st.randoms(use_true_random=False))
def test_the_order_keeps_to_ranks_leaves_nobody_out_and_puts_the_resting_last(routes, resting, dice):
    ordered = order(routes, resting, dice.random)
    assert sorted(ordered, key=repr) == sorted(routes, key=repr)
    standing = [(route.upstream in resting, route.rank) for route in ordered]
    assert standing == sorted(standing)


def test_within_a_rank_calls_are_shared_by_weight():
    dice = Random(7)
    routes = [Route("m", "a", OPENAI, weight=6), Route("m", "b", OPENAI, weight=3), Route("m", "c", OPENAI)]
    seen = Counter(tuple(upstreams(order(routes, (), dice.random))) for _ in range(20_000))
    # P(a, b, c) = 6/10 * 3/4, and so on: drawn without replacement
    for names, share in {"abc": 6 / 10 * 3 / 4, "bac": 3 / 10 * 6 / 7, "cba": 1 / 10 * 3 / 9}.items():
        assert seen[tuple(names)] / 20_000 == pytest.approx(share, abs=0.015)
