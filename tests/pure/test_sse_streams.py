"""A stream on its way to the caller: what is forwarded when, what is held back, and what is made of a broken one."""

import json
import tracemalloc

import pytest

from farthing.dialects import StreamReader, decode
from farthing.dialects.streams import MAX_FRAME, SAMPLE
from farthing.schema import Call, Endpoint, Usage

DONE = b"data: [DONE]\n\n"


def asked(endpoint: Endpoint = "chat", **body: object) -> Call:
    return decode(endpoint, json.dumps({"model": "m", "stream": True, **body}).encode(), method="POST", path="/v1/x")


def frame(data: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if text is None else {"content": text}
    return frame(
        {"id": "c", "model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    )


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def usage_frame(prompt: int, completion: int) -> bytes:
    return frame({"id": "c", "model": "m-1", "choices": [], "usage": usage(prompt, completion)})


def test_content_goes_on_at_once_and_the_end_waits() -> None:
    reader = StreamReader(asked(stream_options={"include_usage": True}), 1 << 20)
    parts = [chunk("a"), chunk("b"), chunk(None, "stop"), usage_frame(3, 2), DONE]
    assert [reader.feed(part) for part in parts] == [*parts[:3], b"", b""]
    assert reader.tail() == parts[3] + DONE
    assert reader.finished
    assert reader.body == b"".join(parts)


def test_the_end_of_a_message_waits() -> None:
    reader = StreamReader(asked("messages"), 1 << 20)
    start = frame({"type": "message_start", "message": {"model": "c", "usage": {"input_tokens": 1}}})
    delta = frame({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}})
    stop = frame({"type": "message_stop"})
    assert (reader.feed(start), reader.feed(delta), reader.feed(stop)) == (start, delta, b"")
    assert (reader.tail(), reader.finished, reader.close().usage) == (stop, True, Usage(input=1, output=2))


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed"])
def test_the_end_of_a_response_waits(end: str) -> None:
    reader = StreamReader(asked("responses"), 1 << 20)
    created = frame({"type": "response.created", "response": {"id": "r", "model": "m-1"}})
    last = frame({"type": f"response.{end}", "response": {"id": "r", "model": "m-1", "status": end}})
    assert (reader.feed(created), reader.feed(last)) == (created, b"")
    assert (reader.tail(), reader.finished) == (last, True)


def test_an_error_inside_a_stream_waits_too() -> None:
    error = frame({"error": {"message": "no", "type": "server_error", "code": "overloaded"}})
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(chunk("a") + error) == chunk("a")
    assert (reader.tail(), reader.close().error, reader.finished) == (error, "overloaded", False)


def test_content_after_a_usage_frame_frees_it() -> None:
    reader = StreamReader(asked(stream_options={"include_usage": True}), 1 << 20)
    assert reader.feed(chunk("a") + usage_frame(3, 1)) == chunk("a")
    assert reader.feed(chunk("b")) == usage_frame(3, 1) + chunk("b")
    assert reader.feed(chunk("c")) == chunk("c")
    assert reader.tail() == b""


def test_whatever_follows_the_end_stays_behind_it() -> None:
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(chunk("a") + DONE + chunk("b")) == chunk("a")
    assert reader.feed(b": bye\n\n" + chunk("c")) == b": bye\n\n"
    assert reader.tail() == DONE + chunk("b") + chunk("c")


def test_a_stray_blank_line_stays_when_the_frame_after_it_goes() -> None:
    stream = chunk("a") + b"\n" + usage_frame(1, 1) + DONE
    for at in range(len(stream)):
        reader = StreamReader(asked(), 1 << 20)
        assert reader.feed(stream[:at]) + reader.feed(stream[at:]) == chunk("a") + b"\n"


def test_text_that_looks_like_a_mark_is_only_text() -> None:
    for text in (
        "[DONE]",
        '"usage":{"prompt_tokens":9}',
        ',"usage":null',
        '"error"',
        "data: [DONE]\n\n",
        "message_stop",
    ):
        reader = StreamReader(asked(), 1 << 20)
        part = chunk(text)
        assert reader.feed(chunk("a")) == chunk("a")
        assert reader.feed(part) == part
        assert (reader.finished, reader.close().error, reader.tail()) == (False, "", b"")


def test_a_null_usage_is_cut_out_only_for_who_did_not_ask() -> None:
    part = chunk("a", usage=None)
    assert StreamReader(asked(), 100).feed(part) == part.replace(b',"usage":null', b"")
    assert StreamReader(asked(stream_options={"include_usage": True}), 100).feed(part) == part
    assert StreamReader(asked("messages"), 100).feed(frame({"type": "message_start", "a": 1, "usage": None})) != b""


def test_an_empty_first_frame_passes() -> None:
    filtered = frame({"id": "", "model": "", "choices": [], "prompt_filter_results": []})
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(filtered) == filtered
    assert reader.opened
    assert reader.feed(chunk("a") + usage_frame(1, 1) + DONE) == chunk("a")
    assert reader.close().model == "m-1"


def test_running_usage_is_exact_wherever_the_stream_breaks_off() -> None:
    parts = [chunk(word, usage=usage(7, n)) for n, word in enumerate(["", "one", " two", " three"])]
    for stop in range(1, len(parts)):
        reader = StreamReader(asked(), 1 << 20, running_usage=True)
        out = b"".join(map(reader.feed, parts[:stop]))
        assert b"usage" not in out
        assert out == b"".join(chunk(word) for word in ["", "one", " two", " three"][:stop])
        assert (reader.close().usage, reader.close().usage_source) == (Usage(input=7, output=stop - 1), "provider")


def test_running_usage_spaced_otherwise_is_taken_out_as_well() -> None:
    spaced = (
        b'data: {"model": "m-1", "usage": {"prompt_tokens": 7, "completion_tokens": 1}, "choices": [{"delta": {}}]}\n\n'
    )
    reader = StreamReader(asked(), 1 << 20, running_usage=True)
    assert json.loads(reader.feed(spaced)[6:]) == {"model": "m-1", "choices": [{"delta": {}}]}


def test_running_usage_stays_for_who_asked_for_it() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    reader = StreamReader(asked(stream_options=options), 1 << 20, running_usage=True)
    part = chunk("a", usage=usage(7, 1))
    assert reader.feed(part) == part


def test_usage_in_a_last_frame_without_its_blank_line_is_exact_and_text_after_it_is_not() -> None:
    reader = StreamReader(asked(), 1 << 20, running_usage=True)
    reader.feed(chunk("a", usage=usage(7, 1)) + chunk(" b", usage=usage(7, 2)).rstrip())
    assert (reader.tail(), reader.close().usage_source) == (chunk(" b"), "provider")
    assert reader.close().usage == Usage(input=7, output=2)
    stale = StreamReader(asked(), 1 << 20)
    stale.feed(chunk("a", usage=usage(7, 1)) + chunk(" b c d").rstrip())
    assert (stale.close().usage, stale.close().usage_source) == (Usage(input=7, output=4), "estimated")


def test_what_the_provider_counted_before_a_break_is_the_least_it_is() -> None:
    reader = StreamReader(asked("messages"), 1 << 20)
    counted = {"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 5}
    reader.feed(frame({"type": "message_start", "message": {"model": "c", "usage": counted}}))
    assert reader.close().usage == Usage(input=9, cache_read=5, output=3)
    assert reader.close().usage_source == "estimated"


def test_comments_go_on_before_anything_else_does() -> None:
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(b": keep-alive\n\n") == b": keep-alive\n\n"
    assert not reader.opened
    assert reader.feed(chunk("a")) == chunk("a")


def test_nothing_is_forwarded_of_what_makes_no_sense_until_something_does() -> None:
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(b"data: {broken\n\n") == b""
    assert reader.feed(chunk("a")) == b"data: {broken\n\n" + chunk("a")
    assert reader.feed(b"data: {broken\n\n") == b"data: {broken\n\n"


def test_what_made_no_sense_comes_before_an_end_that_does() -> None:
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(b"data: {broken\n\ndata: [DONE]") == b""
    assert reader.tail() == b"data: {broken\n\n" + DONE


@pytest.mark.parametrize(
    "garbage", [b"<html>\n\n</html>", b"data: <html>\n\n", b"data: 5\n\ndata: []\n\n", b"\x00\xff" * 50]
)
def test_garbage_is_never_forwarded(garbage: bytes) -> None:
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(garbage) + reader.tail() == b""
    reading = reader.close()
    assert (reading.error, reading.usage, reader.opened) == ("upstream_garbage", None, False)


def test_a_stream_that_says_nothing_is_charged_its_prompt_by_estimate() -> None:
    reader = StreamReader(asked(messages=[{"role": "user", "content": "four words of text"}]), 1 << 20)
    reader.feed(b": keep-alive\n\ndata: {")
    reading = reader.close()
    assert (reading.error, reading.usage_source) == ("upstream_garbage", "estimated")
    assert reading.usage == Usage(input=8)


def test_data_on_several_lines_is_one_value() -> None:
    reader = StreamReader(asked(), 1 << 20)
    spread = b'data: {"model":"m-1","choices":[],\r\ndata: "usage":{"prompt_tokens":5,\r\ndata: "completion_tokens":1}}\r\n\r\n'
    assert reader.feed(chunk("a") + spread + DONE) == chunk("a")
    assert reader.close().usage == Usage(input=5, output=1)


def test_bytes_that_are_not_utf_8_are_passed_on_as_they_came() -> None:
    broken = chunk("a").replace(b'"a"', b'"\xff\xfe"')
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(broken) == broken
    assert reader.feed(broken.replace(b'"m-1"', b'"\xff"')) != b""
    reader.feed(usage_frame(1, 1) + DONE)
    assert reader.close().usage == Usage(input=1, output=1)


def test_a_frame_of_ten_megabytes_passes_in_pieces() -> None:
    big = chunk("x" * 10_000_000)
    reader = StreamReader(asked(), 1 << 20)
    pieces = [big[at : at + 65_536] for at in range(0, len(big), 65_536)]
    assert [part for part in map(reader.feed, pieces) if part] == [big]
    assert reader.body == b""


def test_a_frame_without_end_is_garbage_and_memory_stays_bounded() -> None:
    reader = StreamReader(asked(), 1 << 20)
    assert reader.feed(chunk("a")) == chunk("a")
    line = b"x" * (1 << 20)
    for _ in range(2 * MAX_FRAME // len(line)):
        assert reader.feed(line) == b""
    assert reader.feed(b"\n\n" + chunk("b")) == b""
    reading = reader.close()
    assert (reading.error, reading.usage_source) == ("upstream_garbage", "estimated")


def test_a_body_is_kept_whole_or_not_at_all() -> None:
    parts = [chunk("a"), chunk("b"), DONE]
    for keep in range(len(b"".join(parts)) + 2):
        reader = StreamReader(asked(), keep)
        for part in parts:
            reader.feed(part)
        assert reader.body in (b"", b"".join(parts))
        assert (reader.body != b"") == (keep >= len(b"".join(parts)))


def test_a_stream_too_long_to_keep_is_not_kept() -> None:
    reader = StreamReader(asked(), 0)
    reader.feed(chunk("a"))
    tracemalloc.start()
    for _ in range(1_000):
        reader.feed(chunk("x" * 10_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * SAMPLE


def test_a_long_stream_is_estimated_from_its_beginning() -> None:
    reader = StreamReader(asked(), 0)
    for _ in range(4 * SAMPLE // len(chunk(" word"))):
        reader.feed(chunk(" word"))
    words = 4 * SAMPLE // len(chunk(" word"))
    estimated = reader.close().usage
    assert estimated is not None
    assert abs(estimated.output - words) <= words // 100


def test_a_last_frame_without_its_blank_line_counts() -> None:
    for ending in (b"", b"\n", b"\r\n", b"\r"):
        reader = StreamReader(asked(), 1 << 20)
        assert reader.feed(chunk("a", "stop") + usage_frame(3, 1) + b"data: [DONE]" + ending) == chunk("a", "stop")
        assert (reader.tail(), reader.finished) == (DONE, True)
        assert reader.close().usage == Usage(input=3, output=1)


def test_a_stop_reason_for_every_choice_will_do_for_an_end() -> None:
    reader = StreamReader(asked(n=2), 1 << 20)
    reader.feed(chunk("a", "stop"))
    assert not reader.finished
    reader.close()
    assert not reader.finished
    both = StreamReader(asked(n=2), 1 << 20)
    both.feed(chunk("a", "stop") + chunk("b", "length"))
    assert not both.finished
    assert both.close().finish == "length"
    assert both.finished


def test_reasoning_and_tool_calls_are_counted_when_a_stream_breaks_off() -> None:
    thought = frame({"model": "m", "choices": [{"delta": {"reasoning_content": "three little words"}}]})
    called = {"index": 0, "id": "c", "function": {"name": "rate", "arguments": '{"unit"'}}
    tool = frame({"model": "m", "choices": [{"delta": {"tool_calls": [called]}}]})
    reader = StreamReader(asked(), 1 << 20)
    reader.feed(thought + tool)
    counted = reader.close().usage
    assert counted is not None
    assert (counted.reasoning, counted.output) == (3, 4)


def test_closing_twice_says_the_same() -> None:
    reader = StreamReader(asked(), 1 << 20)
    reader.feed(chunk("a") + b"data: {")
    assert (reader.close(), reader.tail(), reader.body) == (reader.close(), reader.tail(), reader.body)
