"""Whatever a provider reports, its tokens end up in buckets that never overlap and sum to its total."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farthing.dialects.usage import completion_report, completion_usage, merged, messages_usage, response_usage
from farthing.schema import Usage

count = st.integers(0, 2_000_000)
maybe = st.none() | count


def details(*names: str) -> st.SearchStrategy[dict[str, int | None] | None]:
    return st.none() | st.fixed_dictionaries({}, optional=dict.fromkeys(names, maybe))


@given(
    prompt=count,
    completion=count,
    extra=st.integers(0, 10_000),
    inside=details(
        "cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "video_tokens", "text_tokens"
    ),
    spoken=details("reasoning_tokens", "audio_tokens", "image_tokens", "rejected_prediction_tokens"),
    ttl=st.sampled_from([None, "5m", "30m", "1h", "12h"]),
)
def test_completion_buckets_sum_to_the_total_however_the_details_overlap(
    prompt: int, completion: int, extra: int, inside: object, spoken: object, ttl: str | None
) -> None:
    reported = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + extra,
        "prompt_tokens_details": inside,
        "completion_tokens_details": spoken,
    }
    usage, unknown, _ = completion_usage(json.dumps(reported).encode(), ttl)
    assert usage is not None
    assert unknown == ()
    assert usage.input_tokens == prompt
    assert usage.output_tokens == completion + extra
    assert usage.tokens == reported["total_tokens"]
    assert min(getattr(usage, meter) for meter in Usage.__struct_fields__) >= 0


@given(
    asked=count,
    said=count,
    inside=details("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"),
    split=details("ttl_30m_tokens", "ttl_12h_tokens"),
    spoken=details("reasoning_tokens", "audio_tokens"),
    ttl=st.sampled_from([None, "30m", "12h"]),
)
def test_response_buckets_sum_to_the_total(
    asked: int, said: int, inside: dict[str, object] | None, split: object, spoken: object, ttl: str | None
) -> None:
    inside = None if inside is None else {**inside, "cache_write_tokens_details": split}
    reported = {
        "input_tokens": asked,
        "output_tokens": said,
        "total_tokens": asked + said,
        "input_tokens_details": inside,
        "output_tokens_details": spoken,
    }
    usage, unknown, _ = response_usage(json.dumps(reported).encode(), b"", ttl)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, unknown) == (asked, said, ())


@given(
    fresh=count,
    said=count,
    read=maybe,
    written=maybe,
    split=details("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    thinking=details("thinking_tokens"),
)
def test_message_buckets_sum_to_all_that_stands_side_by_side(
    fresh: int, said: int, read: int | None, written: int | None, split: dict[str, int | None] | None, thinking: object
) -> None:
    reported = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": split,
        "output_tokens": said,
        "output_tokens_details": thinking,
    }
    usage, _, _ = messages_usage(json.dumps(reported).encode())
    assert usage is not None
    stored = written or sum(part or 0 for part in (split or {}).values())
    assert usage.input_tokens == fresh + (read or 0) + stored
    assert usage.cache_write_5m + usage.cache_write_1h == stored
    assert usage.output_tokens == said


def test_what_grew_after_the_split_was_told_lives_as_long_as_the_rest() -> None:
    reported = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 150}
    hours = {**reported, "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 100}}
    both = {**reported, "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 100}}
    assert messages_usage(json.dumps(hours).encode()).usage == Usage(input=1, output=1, cache_write_1h=150)
    assert messages_usage(json.dumps(both).encode()).usage == Usage(
        input=1, output=1, cache_write_1h=100, cache_write_5m=50
    )


def test_a_split_larger_than_what_was_written_is_cut_and_the_longest_life_comes_first() -> None:
    split = {"ephemeral_5m_input_tokens": 80, "ephemeral_1h_input_tokens": 60}
    reported = {"cache_creation_input_tokens": 100, "cache_creation": split}
    assert messages_usage(json.dumps(reported).encode()).usage == Usage(cache_write_1h=60, cache_write_5m=40)


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (None, Usage(input=88, cache_write_30m=9, cache_write_12h=3)),
        ("12h", Usage(input=88, cache_write_30m=2, cache_write_12h=10)),
        ("1h", Usage(input=88, cache_write_30m=2, cache_write_12h=3, cache_write_1h=7)),
    ],
)
def test_writes_that_the_split_leaves_out_live_as_long_as_the_call_asked(ttl: str | None, expected: Usage) -> None:
    split = {"ttl_30m_tokens": 2, "ttl_12h_tokens": 3}
    details = {"cache_write_tokens": 12, "cache_write_tokens_details": split}
    reported = {"input_tokens": 100, "output_tokens": 0, "input_tokens_details": details}
    assert response_usage(json.dumps(reported).encode(), b"", ttl) == (expected, (), None)


def test_a_later_report_that_says_nothing_of_a_count_leaves_it() -> None:
    first = {"input_tokens": 25, "cache_read_input_tokens": 7, "output_tokens": 1}
    assert merged(first, {"input_tokens": None, "output_tokens": 9}) == {**first, "output_tokens": 9}
    assert merged(first, {"output_tokens": None}) == first
    assert merged(first, {"output_tokens": 0}) == {**first, "output_tokens": 0}


buckets = st.builds(
    Usage,
    **{
        name: st.integers(0, 10_000)
        for name in Usage.__struct_fields__
        if not name.startswith(("cache_write_", "web_")) or name == "cache_write_30m"
    },
)


@given(buckets)
def test_a_report_made_of_buckets_is_read_back_as_the_same_buckets(usage: Usage) -> None:
    assert completion_usage(json.dumps(completion_report(usage)).encode()) == (usage, (), None)


@pytest.mark.parametrize("bad", [-1, True, "12", 1.5, [3], {"a": 1}, 2**60, 10**30])
@pytest.mark.parametrize("name", ["prompt_tokens", "total_tokens"])
def test_a_count_that_is_no_count_makes_the_report_unknown(name: str, bad: object) -> None:
    reported = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, name: bad}
    tally = completion_usage(json.dumps(reported).encode())
    assert tally.usage is None
    assert tally.unknown in ((name,), ("usage",))


@pytest.mark.parametrize("given_", [b'"lots"', b"[1]", b"5", b"{", b'{"a":' + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("read", [completion_usage, response_usage, messages_usage])
def test_a_report_that_is_no_object_is_unknown_and_never_zero(read: object, given_: bytes) -> None:
    tally = read(given_)  # type: ignore[operator]
    assert tally.usage is None
    assert tally.unknown != () or given_ == b"null"


@pytest.mark.parametrize("read", [completion_usage, response_usage, messages_usage])
@pytest.mark.parametrize("nothing", [b"", b"null"])
def test_no_report_is_nothing_and_not_unknown(read: object, nothing: bytes) -> None:
    assert read(nothing) == (None, (), None)  # type: ignore[operator]


def test_whole_floats_are_counts() -> None:
    assert completion_usage(b'{"prompt_tokens":12.0,"completion_tokens":3,"total_tokens":15}').usage == Usage(
        input=12, output=3
    )


@given(st.text(min_size=1), st.sampled_from(["", "prompt_tokens_details", "completion_tokens_details"]))
def test_a_name_nobody_knows_is_named(name: str, group: str) -> None:
    known = completion_report(Usage())
    assume(name not in (known[group] if group else known))  # type: ignore[operator]
    assume(not name.endswith(("tokens", "time", "cost", "details", "byok")))
    reported: dict[str, object] = {"prompt_tokens": 1, "completion_tokens": 2}
    reported |= {group: {name: 5}} if group else {name: 5}
    usage, unknown, _ = completion_usage(json.dumps(reported).encode())
    assert usage == Usage(input=1, output=2)
    assert unknown == ((f"{group}.{name}" if group else name),)


def test_unknown_names_are_found_at_any_depth() -> None:
    responses = {
        "input_tokens": 5,
        "output_tokens": 1,
        "input_tokens_details": {"cache_write_tokens_details": {"ttl_7d_tokens": 1}},
    }
    messages = {
        "input_tokens": 5,
        "output_tokens": 1,
        "cache_creation": {"ephemeral_1w_input_tokens": 2},
        "server_tool_use": {"web_search_requests": 1, "time_travel_requests": 1},
        "iterations": [{"type": "message", "warp": 1}, {"type": "message", "warp": 2}],
    }
    assert response_usage(json.dumps(responses).encode()).unknown == (
        "input_tokens_details.cache_write_tokens_details.ttl_7d_tokens",
    )
    read = messages_usage(json.dumps(messages).encode())
    assert read.usage == Usage(input=5, output=1, web_search=1)
    assert read.unknown == (
        "cache_creation.ephemeral_1w_input_tokens",
        "server_tool_use.time_travel_requests",
        "iterations.warp",
    )


def test_a_time_to_live_without_a_bucket_is_named() -> None:
    reported = b'{"prompt_tokens":10,"completion_tokens":0,"prompt_tokens_details":{"cache_write_tokens":4}}'
    assert completion_usage(reported, "7d") == (Usage(input=6, cache_write_30m=4), ("cache_write_7d",), None)
