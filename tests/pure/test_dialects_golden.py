"""Transcripts in the providers' formats, each with the facts that must be read from it.

`NAME.json` (or `.txt`) is a plain answer and `NAME.sse` a stream; `NAME.expected.json` says what was asked and what
must be read; `NAME.forwarded.sse` is what the caller gets where that is not the stream itself.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.dialects import Reading, StreamReader, decode, read
from farthing.schema import Call

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = {
    path.name.removesuffix(".expected.json"): json.loads(path.read_bytes()) for path in GOLDEN.glob("*.expected.json")
}
STREAMS = sorted(name for name in EXPECTED if (GOLDEN / f"{name}.sse").exists())
PLAIN = sorted(set(EXPECTED) - set(STREAMS))


def asked(expected: dict[str, Any]) -> Call:
    method, path = ("GET", "/v1/models") if expected["endpoint"] == "models" else ("POST", "/v1/x")
    return decode(expected["endpoint"], json.dumps(expected["request"]).encode(), method=method, path=path)


def facts(reading: Reading) -> dict[str, Any]:
    told = json.loads(msgspec.json.encode(reading))
    return {name: value for name, value in told.items() if value not in (None, "", [])}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_answer_is_read(name: str) -> None:
    expected = EXPECTED[name]
    (body,) = (
        path.read_bytes() for path in GOLDEN.glob(f"{name}.*") if path.suffix != ".json" or ".e" not in path.name
    )
    assert facts(read(asked(expected), expected.get("status", 200), body)) == expected["reading"]


class Relayed:
    """A stream fed in pieces: what was forwarded, and what was read."""

    def __init__(self, name: str, pieces: list[bytes]) -> None:
        expected = EXPECTED[name]
        reader = StreamReader(asked(expected), 1 << 20, running_usage=expected.get("running_usage", False))
        live = b"".join([reader.feed(piece) for piece in pieces])
        self.reading = facts(reader.close())
        self.live = live
        self.forwarded = live + reader.tail()
        self.kept = reader.body
        self.finished = reader.finished
        self.opened = reader.opened


def stream(name: str) -> bytes:
    return (GOLDEN / f"{name}.sse").read_bytes()


def meets(name: str, relayed: Relayed) -> None:
    expected = EXPECTED[name]
    forwarded = GOLDEN / f"{name}.forwarded.sse"
    assert relayed.forwarded == (forwarded.read_bytes() if forwarded.exists() else stream(name))
    assert relayed.kept == relayed.forwarded
    assert relayed.reading == expected["reading"]
    assert (relayed.finished, relayed.opened) == (expected["finished"], expected["opened"])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_relayed_and_read(name: str) -> None:
    meets(name, Relayed(name, [stream(name)]))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_frame_by_frame(name: str) -> None:
    frames = stream(name).split(b"\n\n")
    meets(name, Relayed(name, [*(frame + b"\n\n" for frame in frames[:-1]), frames[-1]]))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_byte_by_byte(name: str) -> None:
    whole = stream(name)
    meets(name, Relayed(name, [whole[at : at + 1] for at in range(len(whole))]))


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_forwarded_live_does_not_depend_on_where_a_stream_is_cut(name: str) -> None:
    whole = stream(name)
    live = Relayed(name, [whole]).live
    for at in range(0, len(whole), 1 + len(whole) // 300):
        relayed = Relayed(name, [whole[:at], whole[at:]])
        meets(name, relayed)
        assert relayed.live == live


@given(st.data())
def test_a_stream_is_the_same_however_it_is_cut(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(STREAMS))
    whole = stream(name)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=40)))
    bounds = [0, *cuts, len(whole)]
    meets(name, Relayed(name, [whole[start:end] for start, end in pairwise(bounds)]))


@pytest.mark.parametrize("family", ["chat", "completions", "embeddings", "responses", "messages"])
def test_every_family_has_its_transcripts(family: str) -> None:
    kinds = {"plain", "error", "missing_usage", "zero_usage"}
    if family != "embeddings":
        kinds |= {"stream", "stream_aborted"}
    assert {f"{family}_{kind}" for kind in kinds} <= set(EXPECTED)
