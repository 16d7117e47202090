"""A simulated provider: every endpoint, plain and streamed, at no price and with no network.

The same question always gets the same answer. Every reply is marked as simulated: its system fingerprint, id or owner
says "farthing-stub", and the `x-farthing-simulated` header is set.
"""

import asyncio
import random

import msgspec

from farthing.ports import Outcome, Question, Sink
from farthing.providers.pouring import Tap, json_headers, pour, refuse, simulated_endpoint, sse_headers
from farthing.schema import Endpoint
from farthing.simulation import openai_answers, wire
from farthing.simulation.answers import Answer
from farthing.simulation.composing import MARK, Asked, compose, read_question
from farthing.simulation.labels import LABELLER, STUDENT, right_label, student_answer
from farthing.simulation.pace import complete_after, first_token_after, per_token

MODELS = (
    "gpt-6-sol",
    "gpt-6-luna",
    "gpt-5.4-mini",
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "gemini-3.8-flash",
    "text-embedding-3-small",
)
"""The models it lists; it answers as any other model too."""

FAULTY_MODELS = (
    "stub-429",
    "stub-500",
    "stub-refused",
    "stub-reset",
    "stub-stall",
    "stub-garbage",
    "stub-error-200",
)
"""Models that always fail, each in the way of its name."""

_STREAMED = ("chat", "responses", "completions", "messages")
_HEADERS = json_headers(b"stub")
_STREAM_HEADERS = sse_headers(b"stub")
_RATE_LIMITED = ((b"retry-after", b"1"), (b"x-ratelimit-remaining-requests", b"0"))


class Faults(msgspec.Struct, frozen=True):
    """How often the stub fails, each a share of calls from 0 to 1; drawn from a seeded sequence."""

    rate_limited: float = 0.0
    failed: float = 0.0
    reset: float = 0.0
    stalled: float = 0.0


class StubUpstream:
    """Answers like a provider, from a seed and the question alone.

    `speed` divides all waiting (2 is twice as fast as a real provider, 0 never waits); `stall` is how long in seconds
    a stalled answer is waited for; `faults` are drawn from `seed`. The models in `FAULTY_MODELS` always fail; the model
    `stub-student` answers with a label and declines what it is not sure of, `stub-labeller` with the right one.
    """

    simulated = True

    def __init__(
        self,
        name: str = "stub",
        *,
        provider: str = "stub",
        speed: float = 0.0,
        seed: int = 0,
        faults: Faults | None = None,
        stall: float = 60.0,
    ) -> None:
        self.name = name
        self.provider = provider
        self._speed = speed
        self._seed = seed
        self._stall = stall
        self._faults = faults
        self._dice = random.Random(seed)  # noqa: S311 (simulated faults, not secrets)

    async def ask(self, question: Question, sink: Sink) -> Outcome:
        """Answer at the model's pace; a cancelled answer ends as `disconnected`."""
        try:
            return await self._answer(question, sink)
        except asyncio.CancelledError:
            return Outcome("disconnected", "the caller left before the simulated answer was complete")

    async def close(self) -> None:
        """There is nothing to close."""

    async def _answer(self, question: Question, sink: Sink) -> Outcome:
        endpoint = simulated_endpoint(question)
        if endpoint is None:
            return refuse(sink, "chat", 404, f"The stub has no {question.method} {question.path}.", _HEADERS)
        if endpoint == "models":
            return _list_models(question.path, sink)
        try:
            asked = read_question(question.body)
            answer = compose(endpoint, asked, self._seed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return refuse(sink, endpoint, 400, f"The stub cannot read this body: {error}.", _HEADERS)
        fault = self._fault(asked.model)
        if fault:
            return await self._fail(fault, endpoint, asked, answer, sink)
        if asked.model in (STUDENT, LABELLER) and answer.text:
            return await self._label(question, endpoint, asked, answer, sink)
        return await self._give(endpoint, asked, answer, sink)

    async def _label(self, question: Question, endpoint: Endpoint, asked: Asked, answer: Answer, sink: Sink) -> Outcome:
        """Answer with a label alone, or decline it."""
        label, confidence = right_label(asked.question), None
        if asked.model == STUDENT:
            label, confidence = student_answer(asked.question, self._seed)
            if confidence < question.accept:
                sure = f"the stub is sure by {confidence:.3f} only, and {question.accept:g} was asked"
                return Outcome("declined", sure, confidence=confidence)
        usage = answer.usage and msgspec.structs.replace(answer.usage, output=2, reasoning=0)
        answer = msgspec.structs.replace(answer, text=label, usage=usage, finish="stop")
        outcome = await self._give(endpoint, asked, answer, sink)
        return msgspec.structs.replace(outcome, confidence=confidence)

    async def _give(self, endpoint: Endpoint, asked: Asked, answer: Answer, sink: Sink) -> Outcome:
        if asked.stream and endpoint in _STREAMED:
            return await self._stream(endpoint, asked, answer, sink)
        if self._speed:
            await asyncio.sleep(complete_after(answer) / self._speed)
        return pour(sink, 200, _HEADERS, wire.plain(endpoint, answer))

    async def _stream(self, endpoint: Endpoint, asked: Asked, answer: Answer, sink: Sink) -> Outcome:
        frames = wire.frames(endpoint, answer, asked.include_usage)
        pause = 0.0
        if self._speed:
            await asyncio.sleep(first_token_after(answer) / self._speed)
            pause = per_token(answer) * answer.tokens_per_frame / self._speed
        tap = Tap()
        sink.begin(200, _STREAM_HEADERS, tap)
        for frame in frames:
            if not await tap.opened():
                return Outcome("garbage", tap.stopped)
            sink.chunk(frame)
            if pause:
                await asyncio.sleep(pause)
        return Outcome("complete")

    def _fault(self, model: str) -> str:
        if model.startswith("stub-") and model in FAULTY_MODELS:
            return model.removeprefix("stub-")
        if self._faults is None:
            return ""
        draw = self._dice.random()
        rates = self._faults
        for fault, rate in (("429", rates.rate_limited), ("500", rates.failed), ("reset", rates.reset)):
            draw -= rate
            if draw < 0:
                return fault
        return "stall" if draw < rates.stalled else ""

    async def _fail(self, fault: str, endpoint: Endpoint, asked: Asked, answer: Answer, sink: Sink) -> Outcome:
        match fault:
            case "429":
                message = f"The stub limits the rate of {asked.model}; try again in 1 second."
                return refuse(sink, endpoint, 429, message, _HEADERS + _RATE_LIMITED)
            case "500":
                return refuse(sink, endpoint, 500, f"The stub fails for {asked.model}.", _HEADERS)
            case "error-200":
                return refuse(sink, endpoint, 200, f"The stub reports an error for {asked.model}.", _HEADERS)
            case "refused":
                return Outcome("unreachable", f"the stub refuses connections for {asked.model}", sent=False)
        sink.begin(200, _STREAM_HEADERS if asked.stream else _HEADERS, None)
        if fault == "garbage":
            sink.chunk(b"data: {\xff\xfe not json\n\n" if asked.stream else b"<html>not json</html>")
            return Outcome("complete")
        sink.chunk(_first_half(endpoint, asked, answer))
        if fault == "reset":
            return Outcome("reset", f"the stub drops connections for {asked.model} part way")
        await asyncio.sleep(self._stall)
        return Outcome("timeout", f"the stub sent no bytes for {self._stall:g} s")


def _first_half(endpoint: Endpoint, asked: Asked, answer: Answer) -> bytes:
    if asked.stream:
        frames = wire.frames(endpoint, answer, asked.include_usage)
        return b"".join(frames[: len(frames) // 2])
    body = wire.plain(endpoint, answer)
    return body[: len(body) // 2]


def _list_models(path: str, sink: Sink) -> Outcome:
    name = path.partition("?")[0].removeprefix("/models").strip("/")
    if name and name not in MODELS:
        return refuse(sink, "models", 404, f"The stub has no model {name}.", _HEADERS)
    cards = openai_answers.model(name, MARK) if name else openai_answers.models(MODELS, MARK)
    return pour(sink, 200, _HEADERS, cards)
