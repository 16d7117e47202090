"""Where frames end, and what they say."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farthing.dialects import sse

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
streams = st.lists(st.sampled_from([b"data: 1", b": ping", b"event: e", b"\xff", *LINE_ENDS])).map(b"".join)


@given(streams)
def test_frames_put_together_are_the_stream(data: bytes) -> None:
    assert b"".join(sse.split(data)) == data


@given(streams)
def test_whole_ends_where_the_last_whole_frame_does(data: bytes) -> None:
    end = sse.whole(data)
    assert sse.whole(data[:end] + b"x") == end
    assert sse.whole(data[end:]) == 0


@given(streams, st.lists(st.integers(0, 60)))
@example(b"\n\n\n", [2])
@example(b"data: 1\r\n\r\n", [10])
def test_arriving_in_pieces_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    framer = sse.Framer(1_000)
    out = b"".join(framer.feed(data[a:b]) for a, b in pairwise(bounds))
    assert out == data[: sse.whole(data)]
    assert bytes(framer.rest) == data[sse.whole(data) :]


@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_frame_ends_in_any_kind_of_blank_line(end: bytes) -> None:
    one, two = b"event: a" + end + b"data: 1" + end + end, b"data: 2" + end + end
    assert sse.split(one + two)[0] == one
    assert [sse.data_of(frame) for frame in sse.split(one + two)] == [b"1", b"2"]


def test_a_carriage_return_at_the_very_end_may_be_half_a_line_end() -> None:
    assert sse.whole(b"data: 1\r\n\r") == 0
    assert sse.whole(b"data: 1\r\n\r\n") == 11
    assert sse.whole(b"data: 1\r\rd") == 9


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  {}\n\n", b" {}"),
        (b"data: {\ndata: }\n\n", b"{\n}"),
        (b"data\n\n", b""),
        (b"\xef\xbb\xbfdata: 1\n\n", b"1"),
        (b"id: 1\r\ndata: 1\r\nretry: 5\r\n\r\n", b"1"),
        (b"\ndata: 1\n\n", b"1"),
        (b"data: 1", b"1"),
        (b": data: 1\n\n", None),
        (b"event: ping\n\n", None),
        (b"\n\n", None),
    ],
)
def test_data_is_what_the_data_lines_say(frame: bytes, data: bytes | None) -> None:
    assert sse.data_of(frame) == data


@given(st.lists(st.sampled_from([b"data: 1\n\n", b": x\n\n", b"event: e\r\ndata: 2\r\n\r\n"]), min_size=1))
def test_the_closing_frames_are_the_last_two(frames: list[bytes]) -> None:
    assert sse.closing(b"".join(frames)) == ((b"", *frames)[-2], frames[-1])


def test_a_frame_written_is_a_frame_read() -> None:
    assert sse.frame(b"{}") == b"data: {}\n\n"
    assert sse.frame(b"{}", "ping") == b"event: ping\ndata: {}\n\n"
    assert sse.completed(b"data: 1\r") == b"data: 1\n\n"


def test_an_endless_frame_is_given_up() -> None:
    framer = sse.Framer(100)
    assert framer.feed(b"data: 1\n\ndata: ") == b"data: 1\n\n"
    assert framer.feed(b"x" * 101) == b""
    assert framer.endless
    assert framer.feed(b"\n\ndata: 2\n\n") == b""
