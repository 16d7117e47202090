"""What the stub does beyond what every upstream does: faults on demand, a pace, and marks of being simulated."""

import asyncio
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.advisor import VirtualLoop
from farthing.ports import Flow, Outcome, Question
from farthing.providers.stub import FAULTY_MODELS, MODELS, Faults, StubUpstream
from farthing.schema import Headers

PATHS = {
    "/chat/completions": {"messages": [{"role": "user", "content": "Why?"}]},
    "/responses": {"input": "Why?"},
    "/embeddings": {"input": "Why?"},
    "/completions": {"prompt": "Why?"},
    "/classify": {"input": ["Why?", "How?"]},
    "/rerank": {"query": "Why?", "documents": ["Because.", "So."]},
    "/messages": {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 50},
    "/messages/count_tokens": {"messages": [{"role": "user", "content": "Why?"}]},
}


class Kept:
    """A sink that keeps what came, and when."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[tuple[float, bytes]] = []

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self.status = status
        self.headers = dict(headers)

    def chunk(self, data: bytes) -> None:
        self.chunks.append((asyncio.get_running_loop().time(), data))

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.chunks)


def ask(stub: StubUpstream, path: str, body: object = None, method: str = "POST") -> tuple[Outcome, Kept, float]:
    """The outcome, what came, and how many seconds it took, in virtual time."""
    kept = Kept()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    stream = isinstance(body, dict) and bool(body.get("stream"))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        outcome = runner.run(stub.ask(Question(method, path, (), data, stream), kept))
        return outcome, kept, runner.get_loop().time()


@pytest.mark.parametrize("path", PATHS)
def test_every_reply_is_marked_as_simulated(path):
    _, kept, _ = ask(StubUpstream(), path, {"model": "gpt-6-luna", **PATHS[path]})

    assert kept.status == 200
    assert kept.headers[b"x-farthing-simulated"] == b"stub"
    if path in ("/chat/completions", "/responses", "/completions", "/messages"):
        assert b"farthing-stub" in kept.body


@pytest.mark.parametrize("path", PATHS)
def test_the_same_question_gets_the_same_answer_from_any_stub(path):
    question = {"model": "gpt-6-luna", **PATHS[path]}

    assert ask(StubUpstream(), path, question)[1].body == ask(StubUpstream(name="other"), path, question)[1].body


def test_models_are_listed_and_shown_one_by_one():
    _, listed, _ = ask(StubUpstream(), "/models", method="GET")
    _, shown, _ = ask(StubUpstream(), f"/models/{MODELS[0]}", method="GET")
    _, unknown, _ = ask(StubUpstream(), "/models/gpt-2", method="GET")

    assert [card["id"] for card in json.loads(listed.body)["data"]] == list(MODELS)
    assert json.loads(shown.body)["id"] == MODELS[0]
    assert unknown.status == 404


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/images/generations"), ("GET", "/chat/completions"), ("POST", "/models")]
)
def test_other_places_are_not_found(method, path):
    assert ask(StubUpstream(), path, {}, method)[1].status == 404


def test_a_query_makes_no_other_place():
    assert ask(StubUpstream(), "/messages?beta=true", {"model": "m", **PATHS["/messages"]})[1].status == 200


EXPECTED = {
    "stub-429": ("complete", 429),
    "stub-500": ("complete", 500),
    "stub-error-200": ("complete", 200),
    "stub-garbage": ("complete", 200),
    "stub-refused": ("unreachable", 0),
    "stub-reset": ("reset", 200),
    "stub-stall": ("timeout", 200),
}


@pytest.mark.parametrize("model", FAULTY_MODELS)
@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_faulty_model_fails_in_the_way_of_its_name(model, path, stream):
    outcome, kept, took = ask(StubUpstream(stall=7), path, {"model": model, "stream": stream, **PATHS[path]})

    assert (outcome.ending, kept.status) == EXPECTED[model]
    assert took == (7 if model == "stub-stall" else 0)
    if model in ("stub-429", "stub-500", "stub-error-200"):
        body = json.loads(kept.body)
        assert body["error"]["message"]
        assert (body.get("type") == "error") == (path == "/messages")
    elif model == "stub-garbage":
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(kept.body.removeprefix(b"data: "))


def drawn(seed: int, faults: Faults, calls: int = 400) -> list[int | str]:
    stub = StubUpstream(seed=seed, faults=faults)

    async def one() -> int | str:
        kept = Kept()
        body = json.dumps({"model": "gpt-6-luna", **PATHS["/chat/completions"]}).encode()
        outcome = await stub.ask(Question("POST", "/chat/completions", (), body, False), kept)
        return kept.status if outcome.ending == "complete" else outcome.ending

    async def all_of_them() -> list[int | str]:
        return [await one() for _ in range(calls)]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(all_of_them())


def test_faults_come_at_their_rates_and_from_the_seed():
    faults = Faults(rate_limited=0.1, failed=0.1, reset=0.1, stalled=0.1)
    endings = drawn(1, faults)

    assert endings == drawn(1, faults) != drawn(2, faults)
    for ending in (429, 500, "reset", "timeout"):
        assert endings.count(ending) == pytest.approx(40, abs=20)
    assert drawn(1, Faults(failed=1.0)) == [500] * 400
    assert drawn(1, Faults()) == [200] * 400


def test_the_pace_is_divided_by_the_speed_and_none_at_zero():
    question = {"model": "gpt-6-luna", **PATHS["/chat/completions"]}
    real, double, none = (ask(StubUpstream(speed=speed), "/chat/completions", question)[2] for speed in (1, 2, 0))

    assert real > 0.18
    assert double == pytest.approx(real / 2, abs=1e-5)
    assert none == 0


def test_a_stream_comes_in_the_time_of_a_plain_answer_a_piece_at_a_time():
    question = {"model": "gpt-6-luna", **PATHS["/chat/completions"]}
    _, _, plain = ask(StubUpstream(speed=1), "/chat/completions", question)
    _, kept, streamed = ask(StubUpstream(speed=1), "/chat/completions", {**question, "stream": True})
    times = [at for at, _ in kept.chunks]

    assert times[0] < plain / 2
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert streamed == pytest.approx(plain, rel=0.5)


BAD = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"model": 1}',
    b'{"model": "\xff"}',
    b'{"messages": []}',
    b'{"model":"m","x":' + b"[" * 50_000,
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_a_body_that_is_no_question_is_refused(path, body):
    outcome, kept, _ = ask(StubUpstream(), path, body)

    assert (outcome.ending, kept.status) == ("complete", 400)
    assert "cannot read" in json.loads(kept.body)["error"]["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "messages",
    "input",
    "prompt",
    "system",
    "tools",
    "n",
    "max_tokens",
    "stream",
    "stream_options",
    "dimensions",
    "service_tier",
)


@given(path=st.sampled_from(sorted(PATHS)), fields=st.dictionaries(st.sampled_from(FIELDS), JSON))
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_it_answers_or_refuses(path, fields):
    outcome, kept, _ = ask(StubUpstream(), path, {"model": "gpt-6-sol", **fields})

    assert outcome.ending == "complete"
    assert kept.status in (200, 400)


@given(schema=JSON, stream=st.booleans())
@settings(max_examples=100, deadline=None)
def test_tools_of_any_schema_can_be_called(schema, stream):
    tool = {"type": "function", "function": {"name": "weigh", "parameters": schema}}
    turns = [{"role": "user", "content": "call weigh"}]
    _, kept, _ = ask(
        StubUpstream(), "/chat/completions", {"model": "m", "messages": turns, "tools": [tool], "stream": stream}
    )

    assert kept.status == 200
    assert b'"weigh"' in kept.body
