"""Probe: a bounded load on an engine of one's own, at 1, 2, 4 ... callers at once, until more of them gain nothing."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from random import Random
from statistics import median

import msgspec

from farthing.advisor.questions import Answer, Endpoint, Lengths, Manner, prompt
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import LEAST_TPOT_S, Setup, completed, measured_on, refuse_contradiction
from farthing.errors import RequestError, Unauthorized, UpstreamError, UpstreamUnreachable
from farthing.ports import Flow, Outcome, Question, Upstream
from farthing.schema import Headers

PER_CALLER = 2
"""Answers per caller that a level measures, at the least."""

ENOUGH = 4
"""Answers that a level cut short by a limit must have measured to be kept."""

Progress = Callable[[str], None]

_REFUSED_FIELDS = (400, 422)
_SHORT_TOKENS = 8
_ENGINES = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}
"""What engines answer as the owner of the models that they list."""


class ProbePlan(msgspec.Struct, frozen=True):
    """What to ask, and how much of it at the most; tokens are of prompts and answers together.

    A level measures `answers` or two per caller, whichever is more. The sweep ends where twice the callers bring less
    than the share `gain` more output, at `most_callers`, or at the first of the other limits.
    """

    input_tokens: int = 512
    output_tokens: int = 128
    answers: int = 8
    most_callers: int = 64
    most_requests: int = 2000
    most_tokens: int = 2_000_000
    most_seconds: float = 600.0
    gain: float = 0.05
    endpoint: Endpoint = "chat"


class Probed(msgspec.Struct, frozen=True):
    """What was measured, one row per level, why it stopped there, and what it took."""

    measurements: tuple[Measurement, ...]
    stopped: str
    requests: int
    tokens: int
    seconds: float


class _Spent:
    """What is left of the limits. Tokens are counted when they are asked for, so that the limit cannot be passed."""

    def __init__(self, plan: ProbePlan) -> None:
        self.requests = self.tokens = 0
        self._plan = plan

    def take(self, inputs: int, outputs: int) -> str:
        """Count one request; "" or the limit that it would pass."""
        if self.requests >= self._plan.most_requests:
            return f"the limit of {self._plan.most_requests} requests is reached"
        if self.tokens + inputs + outputs > self._plan.most_tokens:
            return f"the limit of {self._plan.most_tokens} tokens is reached"
        self.requests += 1
        self.tokens += inputs + outputs
        return ""


class _Level:
    """One number of callers: what was answered once all of them were at work, and why it ended."""

    def __init__(self, callers: int, quota: int, now: Callable[[], float]) -> None:
        self.callers = callers
        self.answers: list[Answer] = []
        self.over = asyncio.Event()
        self.limit = ""
        self.problem = ""
        self.steady_s: float | None = None
        self.ended_s = 0.0
        self.pieces = 0
        self._warm = 0
        self._quota = quota
        self._now = now

    def warmed_up(self) -> None:
        """One caller has had its first answer, which is not measured."""
        self._warm += 1
        if self._warm == self.callers:
            self.steady_s = self._now()

    def count(self, pieces: int) -> None:
        if self.steady_s is not None and not self.over.is_set():
            self.pieces += pieces

    def add(self, answer: Answer) -> None:
        if self.over.is_set() or self.steady_s is None or answer.began_s < self.steady_s:
            return
        self.answers.append(answer)
        if len(self.answers) >= self._quota:
            self.end()

    def end(self, limit: str = "", problem: str = "") -> None:
        if not self.over.is_set():
            self.limit, self.problem, self.ended_s = limit, problem, self._now()
            self.over.set()


class _Prober:
    """One sweep over one engine."""

    def __init__(self, upstream: Upstream, plan: ProbePlan, dice: Random) -> None:
        self._upstream = upstream
        self._plan = plan
        self._dice = dice
        self.now = asyncio.get_running_loop().time
        self.spent = _Spent(plan)

    async def ask(
        self, manner: Manner, words: int, output_tokens: int, frames: Callable[[int], None] = lambda pieces: None
    ) -> Answer:
        question = manner.question(prompt(words, self._dice), output_tokens)
        answer = Answer(self.now, frames)
        answer.end(await self._upstream.ask(question, answer))
        return answer

    async def fit(self, manner: Manner) -> tuple[Manner, Lengths]:
        """How the engine is to be asked, and how long prompts are in its tokens; warms it up as well.

        Raises UpstreamError, or what it is more exactly, when it does not answer as it should.
        """
        few = 16
        many = max(self._plan.input_tokens // 2, 4 * few)
        counted = []
        for words in (few, many):
            answer = await self._warm_up(manner, words)
            if answer.status in _REFUSED_FIELDS and manner.ignore_eos:
                manner = msgspec.structs.replace(manner, ignore_eos=False)
                answer = await self._warm_up(manner, words)
            if answer.problem or answer.usage is None:
                raise _refusal(self._upstream.name, answer.status, answer.problem)
            counted.append((words, answer.usage.prompt_tokens))
        return manner, Lengths.of(counted[0], counted[1])

    async def _warm_up(self, manner: Manner, words: int) -> Answer:
        limit = self.spent.take(words, _SHORT_TOKENS)
        if limit:
            raise RequestError(f"{limit.capitalize()} before anything was measured.", hint="Raise the limit.")
        return await self.ask(manner, words, _SHORT_TOKENS)

    async def level(self, level: _Level, manner: Manner, words: int, seconds: float) -> None:
        """Run one level to its end; cancelling it ends it as well."""
        callers = [asyncio.create_task(self._call(level, number, manner, words)) for number in range(level.callers)]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await level.over.wait()
            level.end(limit=f"the limit of {self._plan.most_seconds:g} s is reached")
        finally:
            level.end(limit="it was interrupted")
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def _call(self, level: _Level, number: int, manner: Manner, words: int) -> None:
        """One caller: asks again when answered. Its first answer is cut short, so that callers do not keep in step."""
        outputs = max(self._plan.output_tokens * (number + 1) // level.callers, 1)
        warm = False
        while not level.over.is_set():
            if limit := self.spent.take(self._plan.input_tokens, outputs):
                level.end(limit=limit)
                return
            answer = await self.ask(manner, words, outputs, level.count)
            if answer.problem:
                level.end(problem=answer.problem)
            elif warm:
                level.add(answer)
            else:
                warm, outputs = True, self._plan.output_tokens
                level.warmed_up()


async def probe(
    upstream: Upstream, setup: Setup, plan: ProbePlan, dice: Random, progress: Progress, model: str = ""
) -> Probed:
    """Measure an engine under a growing number of callers, each asking again when answered.

    `model` is the name the engine serves it under, which may be left out where it serves one; `setup` says what it
    runs on. Times are medians of answers, after each caller had one that is not measured. Stops at a limit, at the
    first refusal or failure, and when cancelled, with what was measured until then. Raises RequestError for a plan or
    setup that makes no sense, before any load, and UpstreamError when the engine does not answer at all.
    """
    _require(plan)
    prober = _Prober(upstream, plan, dice)
    began = prober.now()
    served = await _served(upstream, model)
    if served.max_model_len is not None and plan.input_tokens + plan.output_tokens > served.max_model_len:
        raise RequestError(
            f"Prompts of {plan.input_tokens} and answers of {plan.output_tokens} tokens exceed the context of "
            f"{served.max_model_len} tokens that {upstream.name} serves.",
            hint="Ask for less input or output.",
        )
    said = Setup(model=served.root or served.id, engine=_ENGINES.get(served.owned_by, ""))
    full = completed(setup, said, f"The engine {upstream.name}")
    found: list[Measurement] = []
    stopped = ""
    try:
        manner, lengths = await prober.fit(Manner(served.id, plan.endpoint))
        words = lengths.words(plan.input_tokens)
        callers = 1
        while not stopped:
            level = _Level(callers, max(plan.answers, PER_CALLER * callers), prober.now)
            progress(f"{callers} at once")
            try:
                await prober.level(level, manner, words, plan.most_seconds - (prober.now() - began))
            finally:
                stopped = _kept(found, level, full, upstream.name, progress)
            stopped = stopped or _no_gain(found, plan) or _most(callers, plan)
            callers = min(callers * 2, plan.most_callers)
    except asyncio.CancelledError:
        stopped = "it was interrupted"
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()  # what was measured goes back to who interrupted it
    return Probed(tuple(found), stopped, prober.spent.requests, prober.spent.tokens, prober.now() - began)


def _kept(found: list[Measurement], level: _Level, setup: Setup, name: str, progress: Progress) -> str:
    """Keep what a level measured; why the sweep ends with it, if it does."""
    try:
        measurement = _measured(level, setup, name)
    except RequestError as error:
        return error.message
    if measurement is not None:
        found.append(measurement)
        progress(_in_words(measurement))
    return level.problem or level.limit


def _no_gain(found: list[Measurement], plan: ProbePlan) -> str:
    if len(found) < 2:
        return ""
    before, after = (row.output_tokens_per_s_per_device or 0.0 for row in found[-2:])
    if after >= before * (1 + plan.gain):
        return ""
    return f"throughput grew by less than {plan.gain:.0%} from {found[-2].concurrency:g} to {found[-1].concurrency:g}"


def _most(callers: int, plan: ProbePlan) -> str:
    return f"{callers} at once is the most" if callers >= plan.most_callers else ""


def _measured(level: _Level, setup: Setup, name: str) -> Measurement | None:
    """The measurement of a level; None where too few answers came, or it failed."""
    answers = level.answers
    if level.problem or level.steady_s is None or len(answers) < ENOUGH:
        return None
    usages = [answer.usage for answer in answers if answer.usage is not None]
    inputs, outputs = (sum(getattr(usage, kind) for usage in usages) for kind in ("prompt_tokens", "completion_tokens"))
    tokens = level.pieces * outputs / sum(answer.pieces for answer in answers)
    tpots = [answer.tpot_s for answer in answers if answer.tpot_s is not None]
    tpot = median(tpots) if tpots else None
    note = f"{len(answers)} answers, medians"
    if tpot is not None and tpot < LEAST_TPOT_S:
        tpot, note = None, f"{note}; answers came in one piece"
    cached = [usage.prompt_tokens_details.cached_tokens or 0 for usage in usages if usage.prompt_tokens_details]
    assert setup.devices is not None
    found = msgspec.structs.replace(
        measured_on(setup, "closed_loop"),
        concurrency=float(level.callers),
        input_tokens=inputs / len(answers),
        output_tokens=outputs / len(answers),
        output_tokens_per_s_per_device=tokens / (level.ended_s - level.steady_s) / setup.devices,
        ttft_s=median(answer.first_s - answer.began_s for answer in answers if answer.first_s is not None),
        tpot_s=tpot,
        source=f"probe of {name}",
        note=note,
        cached_share=sum(cached) / inputs if cached else None,
    )
    refuse_contradiction(found, f"the probe of {name}")
    return found


def _in_words(row: Measurement) -> str:
    rate = (row.output_tokens_per_s_per_device or 0.0) * row.devices
    tpot = f", {row.tpot_s * 1e3:.3g} ms per token" if row.tpot_s is not None else ""
    return f"{row.concurrency:g} at once: {rate:.4g} tokens/s, first after {(row.ttft_s or 0.0) * 1e3:.3g} ms{tpot}"


class _Card(msgspec.Struct):
    """A model as an engine lists it. `root` is where vLLM and SGLang loaded it from."""

    id: str
    owned_by: str = ""
    root: str = ""
    max_model_len: int | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


class _Body:
    """A whole answer."""

    def __init__(self) -> None:
        self.status = 0
        self.data = b""

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self.status = status

    def chunk(self, data: bytes) -> None:
        self.data += data


async def _served(upstream: Upstream, model: str) -> _Card:
    """The model that is asked for, as the engine lists it; a name it does not list is taken as it is."""
    body = _Body()
    outcome = await upstream.ask(Question("GET", "/models", (), b"", stream=False), body)
    if outcome.ending != "complete" or body.status in (401, 403):
        raise _refusal(upstream.name, body.status, outcome.detail or f"it answered {body.status}", outcome)
    cards: list[_Card] = []
    if body.status == 200:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            cards = msgspec.json.decode(body.data, type=_Cards).data
    if model:
        return next((card for card in cards if card.id == model), _Card(model))
    if len({card.root or card.id for card in cards}) != 1:
        names = ", ".join(card.id for card in cards[:8]) or "none"
        raise RequestError(
            f"{upstream.name} lists {len(cards)} models: {names}.", hint="Say which one is to be asked for."
        )
    return cards[0]


def _refusal(name: str, status: int, problem: str, outcome: Outcome | None = None) -> UpstreamError | Unauthorized:
    if status in (401, 403):
        return Unauthorized(f"{name} refuses the key: {problem}.", hint="Give the key of the engine.")
    if outcome is not None and outcome.ending == "unreachable":
        return UpstreamUnreachable(f"{name} cannot be reached: {problem}.", hint="Is the engine up?")
    return UpstreamError(
        f"{name} cannot be probed: {problem}.", hint="It should serve streamed chat completions or completions."
    )


def _require(plan: ProbePlan) -> None:
    for name in ("input_tokens", "output_tokens", "answers", "most_callers", "most_requests", "most_tokens"):
        if getattr(plan, name) < 1:
            raise RequestError(f"The probe has {getattr(plan, name)} for {name}.", hint="Give 1 or more.")
    if plan.output_tokens < 2:
        raise RequestError("The probe asks for 1 token of output.", hint="Ask for 2 or more, to time those after it.")
    for name in ("most_seconds", "gain"):
        if not 0 < getattr(plan, name) < math.inf:
            raise RequestError(f"The probe has {getattr(plan, name):g} for {name}.", hint="Give a number above 0.")
