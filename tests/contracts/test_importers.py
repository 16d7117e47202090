"""Every importer over small files in its format, good and bad; and the public data, where it is at hand."""

import contextlib
import csv
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.errors import TrafficError
from farthing.importers import IMPORTERS, Importer, Reading, detect, read
from farthing.schema import METERS, Recorded, Usage, write_recorded

NOON = 1_763_640_000_000_000_000
"""2025-11-20 12:00:00 UTC."""


def text_file(folder: Path, text: str | bytes, name: str = "traffic") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def csv_file(folder: Path, rows: list[dict]) -> Path:
    file = folder / "table.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, {name: None for row in rows for name in row})
        writer.writeheader()
        for row in rows:
            cells = {name: json.dumps(cell) if isinstance(cell, dict | list) else cell for name, cell in row.items()}
            writer.writerow(cells)
    return file


def json_file(folder: Path, rows: list[dict]) -> Path:
    return text_file(folder, json.dumps(rows, indent=1), "table.json")


def page_file(folder: Path, rows: list[dict]) -> Path:
    return text_file(folder, json.dumps({"data": rows, "meta": {"page": 1}}), "page.json")


def jsonl_file(folder: Path, rows: list[dict]) -> Path:
    return text_file(folder, "".join(json.dumps(row) + "\n\n" for row in rows), "table.jsonl")


LAYOUTS = pytest.mark.parametrize("layout", [csv_file, json_file, page_file, jsonl_file])


def records(path: Path, importer: str, reading: Reading | None = None) -> list[Recorded]:
    assert detect(path).name == importer
    return list(read(path, reading))


# Farthing's own format


def test_our_own_format_comes_back_as_written(tmp_path):
    body = msgspec.Raw(b'{"model":"gpt-6-luna","messages":[]}')
    written = [
        Recorded(at=NOON, model="gpt-6-luna", tenant="acme", tags=(("env", "prod"),), request=body, usage=Usage(input=3, output=4)),
        Recorded(at=NOON + 1, model="claude-haiku-5-5", endpoint="messages", prompt="p", blocks=(1, 2), block_tokens=512, cost=7),
    ]  # fmt: skip
    file = text_file(tmp_path, b"\n".join(map(write_recorded, written)) + b"\n\n")

    back = records(file, "farthing")

    assert [write_recorded(recorded) for recorded in back] == [write_recorded(recorded) for recorded in written]


@given(recorded=st.builds(
    Recorded,
    at=st.integers(0, 2**62),
    model=st.text(min_size=1),
    tenant=st.text(),
    usage=st.none() | st.builds(Usage, **{meter: st.integers(0, 2**40) for meter in METERS}),
    graded=st.dictionaries(st.text(), st.booleans()),
    latency=st.none() | st.integers(0, 2**40),
    cost=st.none() | st.integers(0, 2**62),
))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_record_survives_a_line(tmp_path, recorded):
    (back,) = read(text_file(tmp_path, write_recorded(recorded)))

    assert write_recorded(back) == write_recorded(recorded)
    assert back.usage == recorded.usage


def test_null_bodies_are_no_bodies(tmp_path):
    (recorded,) = read(text_file(tmp_path, '{"at":1,"model":"m","request":null,"reply":null}'))

    assert not bytes(recorded.request)
    assert not bytes(recorded.reply)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"at":1,"model":"m","modle":"m"}', "nothing is known of `modle`. Did you mean `model`?"),
        ('{"at":1,"model":"m","usage":{"imput":3}}', "nothing is known of `usage.imput`. Did you mean `input`?"),
        ('{"at":1,"model":"m","usage":{"input":-3}}', "Expected `int` >= 0"),
        ('{"at":"noon","model":"m"}', "Expected `int`, got `str` - at `$.at`"),
        ('{"at":1,"model":"m"', "Input data was truncated"),
        ('{"at":1,"model":"m","endpoint":"chatter"}', "Invalid enum value 'chatter'"),
        (b'{"at":1,"model":"\xff"}', "utf-8"),
        ('{"at":1,"model":"m","request":' + "[" * 100_000, "recursion"),
        ("42", "Expected `object`"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(tmp_path, line, what):
    line = line.encode() if isinstance(line, str) else line
    file = text_file(tmp_path, b'{"at":0,"model":"m"}\n\n' + line + b"\n")
    traffic = read(file)

    assert next(traffic).at == 0
    with pytest.raises(TrafficError) as failure:
        next(traffic)

    assert f"{file}, line 3: " in str(failure.value)
    assert what.casefold() in str(failure.value).casefold()
    assert failure.value.hint


# Public traces


def test_mooncake_requests_keep_their_lengths_and_blocks(tmp_path):
    lines = [
        {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
        {"timestamp": 27, "input_length": 1000, "output_length": 9, "hash_ids": [0, 1]},
        {"timestamp": 27, "input_length": 1001, "output_length": 9, "hash_ids": [0, 1]},
    ]
    first, second, third = records(jsonl_file(tmp_path, lines), "mooncake", Reading("claude-haiku-5-5"))

    assert (first.at, second.at) == (0, 27_000_000)
    assert first.usage == Usage(input=1000, output=5)
    assert first.blocks == (0, 1)
    assert first.prompt == second.prompt != third.prompt
    assert first.model == "claude-haiku-5-5"


def test_azure_requests_keep_their_instants_to_the_last_digit(tmp_path):
    file = text_file(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-20 12:00:00.1234567,4808,10\n")
    (request,) = records(file, "azure_llm")

    assert request.at == NOON + 123_456_700
    assert request.usage == Usage(input=4808, output=10)
    assert request.model == "gpt-6-luna"


def test_mmlu_questions_carry_their_grades(tmp_path):
    header = "prompt,mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"
    text_file(tmp_path, header + '"Which coin?\nA. penny\nAnswer:",False,True\n', "mmlu_history.csv")
    text_file(tmp_path, header + "Two?,True,True\n", "mmlu_algebra.csv")

    algebra, history = records(tmp_path, "routellm_mmlu")

    assert (algebra.feature, history.feature) == ("algebra", "history")
    assert history.at > algebra.at
    assert history.graded == {"mistralai/Mixtral-8x7B-Instruct-v0.1": False, "gpt-4-1106-preview": True}
    assert history.model == "gpt-4-1106-preview"
    assert json.loads(bytes(history.request))["messages"][0]["content"].startswith("Which coin?\nA. penny")
    assert history.usage is None
    assert next(read(tmp_path, Reading("gpt-6-sol"))).model == "gpt-6-sol"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[]}\n{"timestamp":-1,"input_length":1,"output_length":1,"hash_ids":[]}', "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,1\n", 'line 2: "noon" is not a date'),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-20 12:00:00,one,1\n", "line 2: Expected `int`"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-20 12:00:00,1\n", "line 2: Object missing required field"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-20 12:00:00,1,1,1\n", "line 2: there are more cells than columns"),
        ("prompt,gpt-6-sol\nWhy?,Maybe\n", "line 2: this is not a graded question"),
        ("prompt\nWhy?\n", "line 2: this is not a graded question"),
    ],
)  # fmt: skip
def test_a_bad_row_of_a_trace_is_named(tmp_path, text, place):
    with pytest.raises(TrafficError) as failure:
        list(read(text_file(tmp_path, text)))

    assert place in str(failure.value)
    assert failure.value.hint


# LiteLLM

LITELLM = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "spend": 0.000123,
    "total_tokens": 1100,
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "startTime": "2025-11-20T12:00:01.250Z",
    "endTime": "2025-11-20T12:00:03.250Z",
    "completionStartTime": "2025-11-20T12:00:01.750Z",
    "model": "azure/gpt-5.4-mini",
    "model_id": "3f",
    "model_group": "gpt-5.4-mini",
    "custom_llm_provider": "azure",
    "metadata": {
        "user_api_key_alias": "search-prod",
        "usage_object": {"prompt_tokens_details": {"cached_tokens": 600}, "completion_tokens_details": {"reasoning_tokens": 40}},
    },
    "cache_hit": "False",
    "cache_key": "Cache OFF",
    "request_tags": ["nightly"],
    "end_user": "u-7",
    "team_id": "team-a",
}  # fmt: skip


@LAYOUTS
def test_litellm_rows_are_calls_by_time(tmp_path, layout):
    early = {
        **LITELLM,
        "call_type": "aembedding",
        "startTime": "2025-11-20T12:00:00Z",
        "endTime": "2025-11-20T12:00:00.050Z",
        "completionStartTime": "2025-11-20T12:00:00.050Z",
        "completion_tokens": 0,
        "cache_key": "abc",
        "metadata": {},
    }
    reading = Reading()
    embedding, chat = records(
        layout(tmp_path, [LITELLM, early, {**LITELLM, "call_type": "aimage_generation"}]), "litellm", reading
    )

    assert chat.at == NOON + 1_250_000_000
    assert (chat.model, chat.served, chat.endpoint, chat.stream) == ("gpt-5.4-mini", "azure/gpt-5.4-mini", "chat", True)
    assert (chat.team, chat.key, chat.tags) == ("team-a", "search-prod", (("tag", "nightly"), ("end_user", "u-7")))
    assert chat.usage == Usage(input=400, cache_read=600, output=60, reasoning=40)
    assert (chat.ttft, chat.latency, chat.cost) == (500_000, 2_000_000, 123_000_000)
    assert (embedding.endpoint, embedding.stream, embedding.prompt) == ("embeddings", False, "abc")
    assert embedding.usage == Usage(input=1000)
    assert reading.skipped == Counter({"call_type aimage_generation": 1})


def test_litellm_stored_requests_become_bodies(tmp_path):
    turns = [{"role": "user", "content": "Why?"}]
    proxied = {**LITELLM, "proxy_server_request": {"model": "other", "messages": turns, "temperature": 0}}
    logged = {**LITELLM, "messages": turns}

    first, second, third = records(json_file(tmp_path, [proxied, logged, LITELLM]), "litellm")

    assert json.loads(bytes(first.request)) == {"model": "gpt-5.4-mini", "messages": turns, "temperature": 0}
    assert json.loads(bytes(second.request)) == {"model": "gpt-5.4-mini", "messages": turns}
    assert not bytes(third.request)


def test_litellm_failures_cost_what_they_say_and_have_no_usage(tmp_path):
    (failed,) = records(json_file(tmp_path, [{**LITELLM, "status": "failure", "spend": 0}]), "litellm")

    assert (failed.status, failed.usage, failed.cost) == (500, None, 0)


def test_litellm_cache_writes_are_told_apart_by_their_life(tmp_path):
    written = {
        "usage_object": {
            "cache_read_input_tokens": 300,
            "cache_creation_input_tokens": 500,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400},
        }
    }
    beside = {**LITELLM, "prompt_tokens": 31, "metadata": written}
    inside, outside = records(json_file(tmp_path, [{**LITELLM, "metadata": written}, beside]), "litellm")

    assert inside.usage == Usage(input=200, cache_read=300, cache_write_5m=100, cache_write_1h=400, output=100)
    assert outside.usage == Usage(input=31, cache_read=300, cache_write_5m=100, cache_write_1h=400, output=100)


# OpenAI usage

BUCKET = {
    "object": "bucket",
    "start_time": NOON // 10**9,
    "end_time": NOON // 10**9 + 60,
    "results": [
        {
            "object": "organization.usage.completions.result",
            "input_tokens": 1003,
            "output_tokens": 500,
            "input_cached_tokens": 800,
            "input_cache_write_30m_tokens": 10,
            "input_audio_tokens": 3,
            "num_model_requests": 7,
            "project_id": "proj_1",
            "user_id": None,
            "api_key_id": "key_1",
            "model": "gpt-6-luna",
            "batch": False,
            "service_tier": "flex",
        },
        {"object": "organization.usage.embeddings.result", "input_tokens": 9, "num_model_requests": 2, "model": "text-embedding-3-small"},
        {"object": "organization.usage.images.result", "images": 2, "num_model_requests": 2, "model": "gpt-image-1"},
    ],
}  # fmt: skip


def total(traffic: list[Recorded]) -> Usage:
    return Usage(**{meter: sum(getattr(recorded.usage, meter) for recorded in traffic) for meter in METERS})


@pytest.mark.parametrize(
    "pages",
    [
        {"object": "page", "data": [BUCKET], "has_more": False},
        [{"object": "page", "data": [BUCKET]}],
        [BUCKET],
        BUCKET,
    ],
    ids=["page", "pages", "buckets", "bucket"],
)
def test_openai_results_are_spread_into_their_requests_exactly(tmp_path, pages):
    reading = Reading()
    traffic = records(text_file(tmp_path, json.dumps(pages)), "openai_usage", reading)
    chats = [recorded for recorded in traffic if recorded.endpoint == "chat"]
    embedded = [recorded for recorded in traffic if recorded.endpoint == "embeddings"]

    assert (len(chats), len(embedded)) == (7, 2)
    assert total(chats) == Usage(input=190, cache_read=800, cache_write_30m=10, input_audio=3, output=500)
    assert total(embedded) == Usage(input=9)
    assert {recorded.usage.output for recorded in chats} == {71, 72}
    assert [recorded.at for recorded in traffic] == sorted(recorded.at for recorded in traffic)
    assert all(NOON <= recorded.at < NOON + 60 * 10**9 for recorded in traffic)
    assert (chats[0].tenant, chats[0].key, chats[0].tier) == ("proj_1", "key_1", "flex")
    assert reading.skipped == Counter({"organization.usage.images.result": 1})


@given(
    tokens=st.tuples(*[st.integers(0, 10**7)] * 3),
    requests=st.integers(1, 40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_token_is_lost_or_made_in_spreading(tmp_path, tokens, requests):
    text, cached, output = tokens
    result = {"input_tokens": text + cached, "input_cached_tokens": cached, "output_tokens": output, "num_model_requests": requests, "model": "m"}  # fmt: skip
    traffic = list(read(text_file(tmp_path, json.dumps([{**BUCKET, "results": [result]}]))))

    assert len(traffic) == requests
    assert total(traffic) == Usage(input=text, cache_read=cached, output=output)


def test_openai_dashboard_csv_is_read_like_the_api(tmp_path):
    row = {name: value for name, value in BUCKET["results"][0].items() if name != "object"}
    file = csv_file(
        tmp_path, [{"start_time": BUCKET["start_time"], "end_time": BUCKET["end_time"], **row, "batch": "True"}]
    )
    traffic = records(file, "openai_usage")

    assert len(traffic) == 7
    assert total(traffic).tokens == 1503
    assert traffic[0].tier == "batch"


def test_openai_usage_without_models_needs_to_be_told_one(tmp_path):
    result = {"input_tokens": 10, "output_tokens": 5, "num_model_requests": 1, "model": None}
    file = text_file(tmp_path, json.dumps([{**BUCKET, "results": [result]}]))

    with pytest.raises(TrafficError, match=r"names no model\..*Export it grouped by model"):
        list(read(file))
    assert next(read(file, Reading("gpt-6-sol"))).model == "gpt-6-sol"


def test_openai_parts_that_exceed_their_whole_are_refused(tmp_path):
    result = {"input_tokens": 10, "input_cached_tokens": 11, "output_tokens": 5, "num_model_requests": 1, "model": "m"}

    with pytest.raises(TrafficError, match="more than the 10 in and 5 out"):
        list(read(text_file(tmp_path, json.dumps([{**BUCKET, "results": [result]}]))))


# Langfuse

LANGFUSE = {
    "id": "obs-1",
    "traceId": "t-1",
    "type": "GENERATION",
    "name": "answer",
    "startTime": "2025-11-20T12:00:00.000Z",
    "endTime": "2025-11-20T12:00:02.000Z",
    "completionStartTime": "2025-11-20T12:00:00.500Z",
    "model": "claude-sonnet-5-5",
    "modelParameters": {"temperature": 0, "max_tokens": 200, "house": "style"},
    "input": [{"role": "user", "content": "Why?"}],
    "output": {"role": "assistant", "content": "Because."},
    "usageDetails": {"input": 100, "cache_read_input_tokens": 900, "output": 20, "output_reasoning_tokens": 5, "total": 1025},
    "calculatedTotalCost": 0.0025,
    "level": "DEFAULT",
    "environment": "production",
}  # fmt: skip


@LAYOUTS
def test_langfuse_generations_are_calls(tmp_path, layout):
    reading = Reading()
    span = {**LANGFUSE, "type": "SPAN"}
    nameless = {**LANGFUSE, "model": None}
    (call,) = records(layout(tmp_path, [span, LANGFUSE, nameless]), "langfuse", reading)

    assert (call.at, call.model, call.endpoint, call.feature, call.stream) == (
        NOON,
        "claude-sonnet-5-5",
        "chat",
        "answer",
        True,
    )
    assert call.usage == Usage(input=100, cache_read=900, output=20, reasoning=5)
    assert (call.ttft, call.latency, call.cost) == (500_000, 2_000_000, 2_500_000_000)
    assert call.tags == (("environment", "production"),)
    assert json.loads(bytes(call.request)) == {
        "model": "claude-sonnet-5-5",
        "messages": [{"role": "user", "content": "Why?"}],
        "temperature": 0,
        "max_tokens": 200,
        "stream": True,
    }
    assert reading.skipped == Counter({"observation of type SPAN": 1, "generation without a model": 1})


def test_langfuse_blob_exports_differ_only_in_spelling(tmp_path):
    row = {
        "id": "obs-1",
        "trace_id": "t-1",
        "type": "GENERATION",
        "start_time": "2025-11-20 12:00:00.250000",
        "end_time": "2025-11-20 12:00:01.250000",
        "provided_model_name": "gpt-6-luna",
        "input": "Why?",
        "usage_details": {"input": 3, "output": 4, "total": 7},
        "total_cost": "0.0000023",
        "user_id": "u-7",
    }
    (call,) = records(jsonl_file(tmp_path, [row]), "langfuse")

    assert (call.at, call.latency, call.cost) == (NOON + 250_000_000, 1_000_000, 2_300_000)
    assert call.usage == Usage(input=3, output=4)
    assert call.tags == (("user", "u-7"),)
    assert json.loads(bytes(call.request))["messages"] == [{"role": "user", "content": "Why?"}]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"usage": {"input": 3, "output": 4, "unit": "TOKENS"}}, Usage(input=3, output=4)),
        ({"usage": {"input": 3, "output": 4, "unit": "CHARACTERS"}}, None),
        ({"promptTokens": 3, "completionTokens": 4}, Usage(input=3, output=4)),
        ({"inputUsage": 3, "outputUsage": 4, "totalUsage": 7}, Usage(input=3, output=4)),
        ({}, None),
    ],
)
def test_langfuse_older_ways_to_say_usage(tmp_path, usage, expected):
    row = {name: value for name, value in LANGFUSE.items() if name != "usageDetails"} | usage
    (call,) = records(json_file(tmp_path, [row]), "langfuse")

    assert call.usage == expected


def test_langfuse_inputs_that_are_no_request_are_still_told_apart(tmp_path):
    rows = [{**LANGFUSE, "input": {"question": text}} for text in ("Why?", "Why?", "How?")]
    first, second, third = records(json_file(tmp_path, rows), "langfuse")

    assert not bytes(first.request)
    assert first.prompt == second.prompt != third.prompt


def test_langfuse_usage_that_nobody_knows_is_refused_not_dropped(tmp_path):
    row = {**LANGFUSE, "usageDetails": {"input": 1, "holograms": 2}}

    with pytest.raises(TrafficError, match='row 1: nothing is known of the usage "holograms"'):
        list(read(json_file(tmp_path, [row])))


# The reference

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "traffic-format.md"


def test_the_reference_has_every_name_and_every_format():
    text = REFERENCE.read_text("utf-8")

    for name in (*Recorded.__struct_fields__, *(importer.name for importer in IMPORTERS)):
        assert f"`{name}`" in text


def test_the_lines_in_the_reference_are_what_they_say(tmp_path):
    example = REFERENCE.read_text("utf-8").split("```json\n")[1].split("```")[0]

    assert [recorded.endpoint for recorded in records(text_file(tmp_path, example), "farthing")] == ["chat", "messages"]


# What is not traffic


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "name,age\nAda,36\n", "[]", "[1, 2]", '{"hello": "world"}', b"\x00\xff\x01\x02", "{" * 5000],
)
def test_what_is_not_traffic_is_refused_with_the_known_formats(tmp_path, text):
    with pytest.raises(TrafficError, match="not traffic in any known format") as failure:
        read(text_file(tmp_path, text))

    assert "Mooncake" in failure.value.hint


def test_a_missing_file_is_a_traffic_error(tmp_path):
    with pytest.raises(TrafficError, match="cannot be read: No such file"):
        read(tmp_path / "nowhere.jsonl")


def test_an_empty_directory_is_a_traffic_error(tmp_path):
    with pytest.raises(TrafficError):
        read(tmp_path)


def test_a_broken_table_is_a_traffic_error(tmp_path):
    with pytest.raises(TrafficError, match=r"table\.json"):
        list(read(text_file(tmp_path, json.dumps([LITELLM])[:-40] + "}", "table.json")))


def test_a_spreadsheets_byte_order_mark_is_no_part_of_a_name(tmp_path):
    file = text_file(tmp_path, b"\xef\xbb\xbfTIMESTAMP,ContextTokens,GeneratedTokens\n2025-11-20 12:00:00,1,1\n")

    assert len(records(file, "azure_llm")) == 1


FUZZED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)


def read_all_or_refuse(path: Path, importer: Importer) -> None:
    with contextlib.suppress(TrafficError):
        list(islice(importer.read(path, Reading("m")), 1_000))


@given(st.binary(max_size=300))
@FUZZED
def test_no_bytes_raise_anything_but_a_traffic_error(tmp_path, data):
    for importer in IMPORTERS:
        read_all_or_refuse(text_file(tmp_path, data), importer)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.just("2025-11-20"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
MOONCAKE = {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]}
EXPORTS = {"mooncake": MOONCAKE, "litellm": LITELLM, "langfuse": LANGFUSE, "openai_usage": BUCKET}


def places(value: object, path: tuple = ()) -> list[tuple]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, member in members for place in places(member, (*path, name)))]


@pytest.mark.parametrize("name", EXPORTS)
@given(data=st.data())
@FUZZED
def test_a_value_of_the_wrong_kind_anywhere_raises_nothing_but_a_traffic_error(tmp_path, name, data):
    row = json.loads(json.dumps(EXPORTS[name]))
    *way, last = data.draw(st.sampled_from(places(row)[1:]))
    holder = row
    for step in way:
        holder = holder[step]
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = data.draw(JSON)
    importer = next(importer for importer in IMPORTERS if importer.name == name)

    read_all_or_refuse(jsonl_file(tmp_path, [row]), importer)


# The public data


@pytest.mark.parametrize(
    ("place", "importer", "count", "tokens"),
    [
        ("mooncake/conversation_trace.jsonl", "mooncake", 12_031, 148_915_871),
        ("azure_llm/AzureLLMInferenceTrace_code.csv", "azure_llm", 8_819, 18_305_870),
        ("routellm_mmlu", "routellm_mmlu", 6_384, 0),
    ],
)
def test_public_data_is_read_whole(shared_data, place, importer, count, tokens):
    traffic = records(shared_data / place, importer)

    assert len(traffic) == count
    assert sum(recorded.usage.tokens for recorded in traffic if recorded.usage) == tokens
    assert all(recorded.note == importer for recorded in traffic)
