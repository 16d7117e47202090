"""How a simulated provider composes its answers."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.schema import Endpoint
from farthing.simulation.answers import Answer, pieces, prose
from farthing.simulation.composing import compose, read_question
from farthing.simulation.pace import complete_after, first_token_after

LONG = "word " * 4_000


def answer_to(endpoint: Endpoint = "chat", seed: int = 0, **body: object) -> Answer:
    return compose(endpoint, read_question(json.dumps({"model": "gpt-6-luna", **body}).encode()), seed)


def said(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]


def test_the_same_question_has_one_answer_however_it_is_sent():
    plain = answer_to(messages=said("Why?"))

    assert plain == answer_to(messages=said("Why?"), stream=True, stream_options={"include_usage": True})
    assert plain.text != answer_to(messages=said("Why not?")).text
    assert plain.id != answer_to(messages=said("Why?"), model="gpt-6-sol").id
    assert plain != answer_to(messages=said("Why?"), seed=1)


@given(st.integers(0, 2**64), st.integers(0, 60_000))
def test_prose_is_as_long_as_its_tokens_and_safe_in_json(dice, tokens):
    text = prose(dice, tokens)

    assert len(text) == 4 * tokens
    assert json.dumps(text) == f'"{text}"'
    assert "".join(pieces(text, 8)) == text


@given(st.integers(1, 600), st.text())
def test_an_answer_is_cut_at_the_cap_and_says_so(cap, prompt):
    whole = answer_to(messages=said(prompt))
    cut = answer_to(messages=said(prompt), max_completion_tokens=cap)

    assert cut.usage.output_tokens == min(cap, whole.usage.output_tokens)
    assert cut.finish == ("length" if cap < whole.usage.output_tokens else "stop")
    assert len(cut.text) == 4 * cut.usage.output


def test_every_choice_is_paid_for():
    one, three = answer_to(messages=said("Why?")), answer_to(messages=said("Why?"), n=3)

    assert three.choices == 3
    assert three.usage.output_tokens == 3 * one.usage.output_tokens
    assert three.usage.input == one.usage.input


def test_models_that_think_report_it_inside_their_output():
    thought = [answer_to(messages=said(f"Why {n}?"), model="gpt-6-sol").usage for n in range(20)]
    spoken = [answer_to(messages=said(f"Why {n}?"), model="claude-haiku-5-5").usage for n in range(20)]

    assert any(usage.reasoning for usage in thought)
    assert not any(usage.reasoning for usage in spoken)


WEIGH = {"name": "weigh", "parameters": {"type": "object", "properties": {"grams": {"type": "integer"}, "coin": {"type": "string"}}, "required": ["grams", "coin"]}}  # fmt: skip
TOOLS = {
    "chat": {"type": "function", "function": WEIGH},
    "responses": {"type": "function", **WEIGH},
    "messages": {"name": "weigh", "input_schema": WEIGH["parameters"]},
}


@pytest.mark.parametrize("endpoint", TOOLS)
def test_an_offered_tool_is_used_when_the_last_turn_asks_for_it(endpoint):
    field = "input" if endpoint == "responses" else "messages"
    asked = answer_to(endpoint, **{field: said("Please call weigh.")}, tools=[TOOLS[endpoint]])

    assert asked.finish == "tool"
    assert asked.tool.name == "weigh"
    assert json.loads(asked.tool.arguments) == {"grams": 1, "coin": "stub"}
    assert answer_to(endpoint, **{field: said("Please call weigh.")}).tool is None
    assert answer_to(endpoint, **{field: said("Weigh it.")}, tools=[TOOLS[endpoint]]).tool is None


def test_a_tools_result_is_answered_in_words():
    turns = [*said("Please call weigh."), {"role": "tool", "tool_call_id": "1", "content": "call weigh"}]

    assert answer_to(messages=turns, tools=[TOOLS["chat"]]).tool is None


def test_long_earlier_turns_are_read_from_the_providers_cache():
    first = answer_to(messages=said(LONG)).usage
    later = answer_to(messages=said(LONG, "Yes.", "And then?")).usage

    assert first.cache_read == 0
    assert later.cache_read > 0
    assert later.cache_read % 128 == 0
    assert later.input_tokens >= first.input_tokens


def test_anthropic_caches_only_what_is_marked_and_pays_to_write_it():
    system = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    first = answer_to("messages", system=system, messages=said("Hello?")).usage
    later = answer_to("messages", system=system, messages=said("Hello?", "Hello.", "How are you?")).usage
    unmarked = answer_to("messages", system=LONG, messages=said("Hello?", "Hello.", "How are you?")).usage

    assert (first.cache_read, later.cache_write_5m) == (0, 0)
    assert first.cache_write_5m > 0
    assert later.cache_read >= first.cache_write_5m
    assert unmarked.cache_read == unmarked.cache_write_5m == 0


def test_embeddings_give_one_vector_per_text_and_the_same_for_the_same():
    pair = answer_to("embeddings", input=["a farthing", "a penny"], dimensions=8)
    single = answer_to("embeddings", input="a farthing", dimensions=8)
    tokens = answer_to("embeddings", input=[1, 2, 3], dimensions=8)
    packed = answer_to("embeddings", input="a farthing", dimensions=8, encoding_format="base64")

    assert [len(vector) for vector in pair.vectors] == [8, 8]
    assert pair.vectors[0] == single.vectors[0] != pair.vectors[1]
    assert len(tokens.vectors) == 1
    assert isinstance(packed.vectors[0], str)
    assert pair.usage.output_tokens == 0


@pytest.mark.parametrize("body", [b"", b"[]", b'{"messages": []}', b'{"model": 3}', b'{"model": "m", "n": "two"}'])
def test_what_is_not_a_question_is_refused(body):
    with pytest.raises(msgspec.DecodeError):
        read_question(body)


def test_longer_answers_take_longer():
    short, long = answer_to(messages=said("Why?"), max_tokens=2), answer_to(messages=said("Why?"))

    assert 0 < first_token_after(short) < complete_after(short) < complete_after(long)
