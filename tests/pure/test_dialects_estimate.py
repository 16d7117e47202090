"""Tokens counted by eye, for when nobody told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.dialects import decode
from farthing.prompts.estimate import MEDIA_TOKENS, MESSAGE_TOKENS, estimate_input, estimate_tokens
from farthing.schema import Endpoint

PROSE = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this "
    "truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property of "
    "some one or other of their daughters."
)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (PROSE, len(PROSE) / 5.2, len(PROSE) / 4.0),
        ("def price(tokens: int) -> int:\n    return tokens * 2_500\n", 14, 24),
        ("3.14159265358979", 6, 7),
        ("四分之一便士", 6, 6),
        ("четверть пенни", 6, 8),
        ("", 0, 0),
    ],
)
def test_an_estimate_is_in_the_range_of_real_tokenizers(text: str, least: float, most: float) -> None:
    assert least <= estimate_tokens(text) <= most
    assert estimate_tokens(text.encode()) == estimate_tokens(text)


@given(st.text(), st.text())
def test_an_estimate_never_exceeds_the_bytes_and_grows_with_the_text(one: str, other: str) -> None:
    assert estimate_tokens(one) <= len(one.encode())
    assert estimate_tokens(one + "\n\n" + other) >= estimate_tokens(one)


@given(st.binary())
def test_any_bytes_can_be_estimated(data: bytes) -> None:
    assert estimate_tokens(data) >= 0


def test_a_long_text_is_judged_by_slices_of_it() -> None:
    mixed = (PROSE + "\n12345678 {}[]();\n") * 40 + "四分之一便士" * 4_000
    pieces = [mixed[at : at + 10_000] for at in range(0, len(mixed), 10_000)]
    whole = sum(map(estimate_tokens, pieces))
    assert abs(estimate_tokens(mixed) - whole) <= whole // 20


def tokens(endpoint: Endpoint, **body: object) -> int:
    return estimate_input(decode(endpoint, json.dumps({"model": "m", **body}).encode(), method="POST", path="/v1/x"))


def test_a_prompt_is_its_text_wherever_its_api_puts_it() -> None:
    text = "four words of text"
    message = {"role": "user", "content": text}
    parts = {"role": "user", "content": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]}
    assert tokens("chat", messages=[message]) == 4 + MESSAGE_TOKENS
    assert tokens("messages", system=text, messages=[parts]) == 8 + MESSAGE_TOKENS
    assert tokens("responses", instructions=text, input=[message]) == 8 + MESSAGE_TOKENS
    assert (
        tokens("responses", input=text) == tokens("completions", prompt=text) == tokens("embeddings", input=text) == 4
    )
    assert tokens("embeddings", input=[text, text]) == 8
    assert tokens("embeddings", input=[[11, 12, 13], [14]]) == 4
    assert tokens("chat", messages=[message], max_tokens=100, user="not part of the prompt") == 4 + MESSAGE_TOKENS


def test_media_count_a_flat_figure_and_not_their_base64() -> None:
    data = "aGVsbG8" * 100_000
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
    asked = tokens(
        "chat", messages=[{"role": "user", "content": [picture, document, {"type": "text", "text": "what"}]}]
    )
    assert asked == 2 * MEDIA_TOKENS + MESSAGE_TOKENS + 1


def test_tool_schemas_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "rate", "parameters": {"type": "object"}}}
    assert tokens("chat", messages=[], tools=[tool]) > 10


def test_a_prompt_nested_to_the_limit_is_counted() -> None:
    depth = 300
    body = b'{"model":"m","input":' + b"[" * depth + b'"word"' + b"]" * depth + b"}"
    assert estimate_input(decode("responses", body, method="POST", path="/v1/x")) == 1
