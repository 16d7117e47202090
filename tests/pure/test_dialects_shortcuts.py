"""What is read the short way is what the long way reads, whatever is sent."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farthing.dialects import Reading, StreamReader, decode, read
from farthing.dialects.answers import GARBAGE, unusual_completion, unusual_message
from farthing.dialects.usage import CompletionReport, plain_usage
from farthing.dialects.usage.openai import divided_usage
from farthing.dialects.wire import NOT_JSON
from farthing.schema import Call, Endpoint

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
ENDPOINTS: list[Endpoint] = ["chat", "completions", "embeddings", "messages"]


def asked(endpoint: Endpoint, **more: object) -> Call:
    return decode(endpoint, json.dumps({"model": "m", **more}).encode(), method="POST", path="/v1/x")


def the_long_way(call: Call, body: bytes) -> Reading:
    try:
        return (unusual_message if call.endpoint == "messages" else unusual_completion)(call, body)
    except NOT_JSON:
        return Reading(error=GARBAGE)


odd = st.sampled_from([None, -1, 1.0, 2.5, True, "7", 2**60, {}, [], [0]])
count = st.sampled_from([None, 0, 1, 5, 40])
other_text = st.sampled_from([None, "", "stop", "length", "default", "fast", 5])


def members(*names: str, of: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, of))


def usage_with(*counts: str, **details: tuple[str, ...]) -> st.SearchStrategy[object]:
    """Usage as it is documented, or with something odd in it, or a name that nobody knows."""
    inner = {name: members(*names, of=count) for name, names in details.items()}
    usual = st.fixed_dictionaries({}, optional={**dict.fromkeys(counts, count), **inner})
    places = [*counts, *details, "strange"]
    return usual | st.builds(lambda usage, place, value: {**usage, place: value}, usual, st.sampled_from(places), odd)


completion_usages = usage_with(
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "prompt_cache_hit_tokens",
    "reasoning_tokens",
    prompt_tokens_details=("cached_tokens", "audio_tokens", "cache_write_tokens", "text_tokens"),
    completion_tokens_details=("reasoning_tokens", "audio_tokens", "rejected_prediction_tokens"),
)
message_usages = usage_with(
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    cache_creation=("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    output_tokens_details=("thinking_tokens",),
    server_tool_use=("web_search_requests",),
)
errors = st.sampled_from([None, {}, "", "busy", {"code": "cut"}])
answers = st.fixed_dictionaries(
    {},
    optional={
        "model": other_text,
        "service_tier": other_text,
        "choices": st.lists(members("finish_reason", of=other_text), max_size=3) | odd,
        "data": odd,
        "content": odd,
        "stop_reason": other_text,
        "usage": completion_usages | message_usages,
        "x_groq": members("usage", of=completion_usages) | odd,
        "error": errors,
    },
)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@given(answers)
def test_an_answer_is_read_the_same_either_way(endpoint: Endpoint, answer: dict[str, object]) -> None:
    call, body = asked(endpoint), json.dumps(answer).encode()
    assert read(call, 200, body) == the_long_way(call, body)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@given(completion_usages | message_usages, st.none() | errors)
def test_usage_beside_an_answer_is_read_the_same_either_way(endpoint: Endpoint, usage: object, error: object) -> None:
    answer = {"choices": [{"finish_reason": "stop"}], "data": [], "content": [], "usage": usage, "error": error}
    call, body = asked(endpoint), json.dumps(answer).encode()
    assert read(call, 200, body) == the_long_way(call, body)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_transcript_is_read_the_same_either_way(path: Path, endpoint: Endpoint) -> None:
    call, body = asked(endpoint), path.read_bytes()
    assert read(call, 200, body) == the_long_way(call, body)


small = st.integers(0, 6)
"""Counts that overlap and exceed one another."""
ELSEWHERE = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens", "reasoning_tokens")
IN_PROMPT = (
    "cache_write_tokens",
    "audio_tokens",
    "image_tokens",
    "video_tokens",
    "text_tokens",
    "created_cache_tokens",
)
IN_COMPLETION = ("audio_tokens", "image_tokens", "text_tokens", "rejected_prediction_tokens")


def one_of(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, int]]:
    """At most one count by one of these names."""
    return st.just({}) | st.builds(lambda name, value: {name: value}, st.sampled_from(names), small)


@given(st.tuples(small, small, small), one_of(ELSEWHERE), one_of(IN_PROMPT), one_of(IN_COMPLETION), st.data())
def test_plain_usage_is_what_dividing_it_gives(
    counts: tuple[int, int, int],
    elsewhere: dict[str, int],
    prompt: dict[str, object],
    completion: dict[str, object],
    data: st.DataObject,
) -> None:
    cached, reasoning = data.draw(one_of(("cached_tokens",))), data.draw(one_of(("reasoning_tokens",)))
    modes = {name: {"video": value} for name, value in data.draw(one_of(("multimodal_tokens",))).items()}
    asked_, said, more = counts
    reported = {"prompt_tokens": asked_, "completion_tokens": said, "total_tokens": asked_ + said + max(0, more - 4)}
    details = {"prompt_tokens_details": prompt | cached | modes, "completion_tokens_details": completion | reasoning}
    report = msgspec.convert(reported | elsewhere | details, CompletionReport)
    usage = plain_usage(report)
    assert usage is None or (usage, ()) == divided_usage(report, None)


def written(heads: list[str], choices: list[str], ends: list[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(heads), st.sampled_from(choices), st.sampled_from(ends)).map("".join)


HEADS = ['{"id":"a","model":"m-1",', '{"id":"b","model":"m-1","usage":null,', '{"usage":null,"model":"m-1",']
TEXTS = ['{"content":"one"}', '{"content":"\\"error\\" [DONE] choices"}', "{}"]
CHOICES = [f'"choices":[{{"index":0,"delta":{text},"finish_reason":null}}]' for text in TEXTS]
ENDS = ["}", ',"usage":null}', ',"usage":null,"obfuscation":"x8"}']
USAGE, ERROR = '"usage":{"prompt_tokens":3,"completion_tokens":2}', '"error":{"code":"cut"}'
content = written(HEADS, CHOICES, ENDS)
facts = st.one_of(
    written([f'{{"model":"m-2",{USAGE},', f'{{"model":"m-1",{ERROR},'], CHOICES, ENDS),
    written(HEADS, ['"choices":[{"finish_reason":"stop"}]', '"choices": [{"finish_reason": "length"}]'], ENDS),
    written(HEADS, [*CHOICES, '"choices":[]'], [f",{USAGE}}}", f",{ERROR}}}"]),
    st.sampled_from(["[DONE]", "{broken", "5"]),
)
streams = st.lists(st.tuples(st.lists(content, max_size=4), facts), max_size=4).map(
    lambda parts: [chunk for quiet, fact in parts for chunk in (*quiet, fact)]
)


@given(streams, st.booleans(), st.booleans())
@example([f'{{"model":"m-1",{USAGE},{CHOICES[0]}}}'] * 3, True, False)
def test_a_beginning_seen_before_hides_nothing(said: list[str], wants_usage: bool, running: bool) -> None:
    call = asked("chat", stream=True, stream_options={"include_usage": wants_usage})
    frames = [f"data: {chunk}\n\n".encode() for chunk in said]
    one_by_one, at_once = (StreamReader(call, 1 << 20, running_usage=running) for _ in range(2))
    live = b"".join([one_by_one.feed(frame) for frame in frames])
    assert live == at_once.feed(b"".join(frames))
    assert one_by_one.tail() == at_once.tail()
    assert one_by_one.close() == at_once.close()
    assert (one_by_one.body, one_by_one.finished) == (at_once.body, at_once.finished)
