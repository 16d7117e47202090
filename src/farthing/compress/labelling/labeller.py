"""Labelling: a large model behind an OpenAI-compatible endpoint, such as the gateway, says which label fits each text.

Every answer is in a file before the next is asked for: neither a kill nor an empty budget loses what was paid for.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import msgspec

from farthing.compress.job import Labeller
from farthing.compress.labelling.kept import Kept, KeptAnswers
from farthing.compress.labelling.questions import BRIEF, ROOMY, Manner, Said, Sought, read_answer
from farthing.compress.progress import Progress
from farthing.errors import (
    BudgetExceeded,
    ConfigError,
    FarthingError,
    Forbidden,
    RequestError,
    Unauthorized,
    UnknownModel,
    UpstreamError,
    UpstreamGarbage,
    UpstreamUnreachable,
)
from farthing.ports import Flow, Outcome, Question, Upstream
from farthing.providers.http import HttpSettings, HttpUpstream
from farthing.schema import PICO_PER_USD, Headers

ATTEMPTS: Final = 6
"""How often one answer is asked for, when what stands between fails."""

FIRST_WAIT_S, LONGEST_WAIT_S, LONGEST_RETRY_AFTER_S = 0.5, 30.0, 600.0
HOPELESS: Final = 40
"""So many first answers of which none is a label mean that something is wrong with the question."""

DEADLINE_S: Final = 300.0
_REPORTS: Final = 50
"""How often progress is told, from beginning to end."""


class Labelled(msgspec.Struct, frozen=True):
    """A text with its label; `confidence` is the share of votes for it, `cost` what they cost in pico-dollars.

    `cost` is `None` where the endpoint does not say. `model` is the one that answered, by its own name.
    """

    text: str
    label: str
    confidence: float
    cost: int | None
    model: str


class Labelling(msgspec.Struct, frozen=True):
    """What came of labelling: each distinct text that got a label, in the order given, and why the others did not.

    `strays` are answers that are no label, with some `examples` of them; `unsure` the texts whose label had too few
    votes; `refused` those that the endpoint would not answer. `cost` in pico-dollars is that of all answers, those kept
    from earlier runs included, as far as it is known; of `unpriced` answers it is not.
    """

    labelled: tuple[Labelled, ...]
    asked: int
    strays: int
    examples: tuple[str, ...]
    unsure: int
    refused: int
    cost: int
    unpriced: int


def label_texts(
    texts: Sequence[str], labels: Sequence[str], labeller: Labeller, key: str, kept: Path, progress: Progress
) -> Labelling:
    """Ask the `labeller`, with the API key `key`, for the label of each distinct text; what was answered is in `kept`.

    Run again with the same file, it asks only what was not answered yet. Raises ConfigError for labels or an address
    that cannot be used, TrafficError for a file that cannot be read or written, BudgetExceeded, Unauthorized, Forbidden
    and UnknownModel as the endpoint says, UpstreamError once it fails too often, and RequestError or UpstreamGarbage
    where its answers show that the question is wrong.
    """
    address = urlsplit(labeller.base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(
            f"'{labeller.base_url}' is no address of a labeller.", hint="Write it like http://127.0.0.1:8787/v1."
        )
    settings = HttpSettings(
        name=labeller.base_url,
        provider="",
        base_url=labeller.base_url,
        api_key=key,
        connections=labeller.concurrency,
        stall_timeout=DEADLINE_S,
        deadline=DEADLINE_S,
    )

    async def ask() -> Labelling:
        upstream = HttpUpstream(settings)
        try:
            return await label_through(upstream, texts, labels, labeller, kept, progress)
        finally:
            await upstream.close()

    return asyncio.run(ask())


async def label_through(
    upstream: Upstream,
    texts: Sequence[str],
    labels: Sequence[str],
    labeller: Labeller,
    kept: Path,
    progress: Progress,
) -> Labelling:
    """As `label_texts`, through an upstream that is open already."""
    distinct = [text for text in dict.fromkeys(texts) if text.strip()]
    sought = Sought.of(labels, labeller)
    answers = KeptAnswers(kept)
    try:
        asking = _Asking(upstream, sought, labeller, answers, progress)
        await asking.run(distinct)
    finally:
        answers.close()
    return _counted(distinct, sought, labeller, answers, asking)


class _Asking:
    """The questions of one run, `labeller.concurrency` of them at once."""

    def __init__(
        self, upstream: Upstream, sought: Sought, labeller: Labeller, answers: KeptAnswers, progress: Progress
    ) -> None:
        self._upstream = upstream
        self._sought = sought
        self._labeller = labeller
        self._answers = answers
        self._progress = progress
        self._manner: Manner = BRIEF
        self._stopped: FarthingError | None = None
        self._over = asyncio.Event()
        self._waits = Random(0)  # noqa: S311 (waits, not secrets)
        self._not_before = 0.0
        self._labels = 0
        self._total = 0
        self.asked = 0
        self.refused: dict[str, str] = {}

    async def run(self, texts: Sequence[str]) -> None:
        """Ask all that has no answer yet; on a failure what is under way is finished and kept before it is raised."""
        open_votes = [
            (text, vote)
            for vote in range(self._labeller.votes)
            for text in texts
            if self._answers.of(self._sought.digest(text), vote) is None
        ]
        self._total = len(open_votes)
        if not open_votes:
            return
        kept = len(texts) * self._labeller.votes - self._total
        self._progress.note(f"{self._labeller.model} is asked for {self._total:,} labels; {kept:,} are kept already.")
        votes = iter(open_votes)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._labeller.concurrency, self._total)):
                group.create_task(self._work(votes))
        if self.refused and not self._labels:
            self._stop(
                RequestError(
                    f"{self._upstream.name} refuses every text: {next(iter(self.refused.values()))}.",
                    hint="Look at the model and the address of the labeller.",
                )
            )
        if self._stopped is not None:
            self._stopped.facts["kept"] = self.asked
            self._stopped.hint += f" The answers of this run, {self.asked:,}, are kept in {self._answers.path}."
            raise self._stopped

    def _stop(self, error: FarthingError) -> None:
        """Ask nothing more; the first reason counts."""
        self._stopped = self._stopped or error
        self._over.set()

    async def _work(self, votes: Iterator[tuple[str, int]]) -> None:
        for text, vote in votes:
            if text in self.refused:
                continue
            try:
                said = await self._answer(text, vote)
                if said is not None:
                    self._keep(text, vote, said)
            except FarthingError as error:
                self._stop(error)
            if self._over.is_set():
                return

    def _keep(self, text: str, vote: int, said: Said) -> None:
        label = self._sought.label(said.text)
        self._answers.add(
            Kept(
                digest=self._sought.digest(text),
                vote=vote,
                label=label,
                said="" if label else said.text[:200],
                model=said.model,
                cost=said.cost,
            )
        )
        self.asked += 1
        self._labels += bool(label)
        if self.asked == HOPELESS and not self._labels:
            raise UpstreamGarbage(
                f"None of the first {HOPELESS} answers of {self._labeller.model} is one of the labels; "
                f"one of them is {said.text[:100]!r}.",
                hint="Say in labeller.instructions how to answer, or take another model.",
            )
        if self.asked % max(self._total // _REPORTS, 1) == 0 or self.asked == self._total:
            self._progress.step(self.asked, self._total, spent_usd=self._answers.cost / PICO_PER_USD)

    async def _answer(self, text: str, vote: int) -> Said | None:
        """The answer to one question; `None` where the endpoint refuses this text, or the run is over.

        Raises what ends the run: BudgetExceeded, Unauthorized, Forbidden, UnknownModel, or UpstreamError at the last
        attempt.
        """
        manner, turned = self._manner, False
        tries = spent = repeated = 0
        while await self._may_ask():
            said = await self._ask(text, vote, manner, repeated)
            spent += said.cost or 0
            answered = said.status == 200 and not said.problem
            thinks = answered and said.cut_short and manner is BRIEF and not self._sought.label(said.text)
            may_not_know_a_field = said.status in (400, 422) and not self._labels
            if (thinks or may_not_know_a_field) and not turned:
                manner, turned = ROOMY if manner is BRIEF else BRIEF, True
            elif answered:
                self._manner = manner
                return said if said.cost is None else msgspec.structs.replace(said, cost=spent)
            elif said.status in (400, 413, 422):
                self.refused[text] = said.told
                return None
            else:
                self._raise_what_lasts(said)
                repeated += said.repeated or said.status == 409  # this key would get the same failure again
                tries += 1
                self._wait(said, tries)
        return None

    def _raise_what_lasts(self, said: Said) -> None:
        name, hint = self._upstream.name, "Run it again after that."
        match said.status:
            case 402:
                raise BudgetExceeded(
                    f"{name} gives no more answers within the budget: {said.told}.", hint=f"Raise it. {hint}"
                )
            case 401:
                raise Unauthorized(f"{name} refuses the key: {said.told}.", hint=f"Set labeller.key. {hint}")
            case 403:
                raise Forbidden(f"{name} does not allow it: {said.told}.", hint=f"Take another key. {hint}")
            case 404:
                raise UnknownModel(
                    f"{name} does not serve {self._labeller.model}: {said.told}.",
                    hint=f"Look at labeller.model and labeller.base_url, which usually ends in /v1. {hint}",
                )

    async def _may_ask(self) -> bool:
        """Wait as long as the endpoint asked all callers to; whether the run still goes on then."""
        while self._not_before > asyncio.get_running_loop().time() and not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._not_before):
                    await self._over.wait()
        return not self._over.is_set()

    def _wait(self, said: Said, tries: int) -> None:
        """Put off all questions as long as the endpoint says, or twice as long as the time before.

        Raises UpstreamError at the last attempt.
        """
        if tries == ATTEMPTS:
            kind = UpstreamUnreachable if said.ending == "unreachable" else UpstreamError
            raise kind(
                f"{self._upstream.name} failed {ATTEMPTS} times in a row for one text: {said.told}.",
                hint="Run it again once it answers.",
            )
        wait = min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S) * (0.5 + self._waits.random())
        if said.retry_after is not None:
            wait = min(max(said.retry_after, 0.0), LONGEST_RETRY_AFTER_S) + self._waits.random() * FIRST_WAIT_S
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)

    async def _ask(self, text: str, vote: int, manner: Manner, repeated: int) -> Said:
        headers: Headers = (
            (b"content-type", b"application/json"),
            (b"accept", b"application/json"),
            # the gateway gives an answer again that was lost on its way here, instead of buying it twice
            (b"idempotency-key", f"label-{self._sought.digest(text)}-{vote}-{manner.name}-{repeated}".encode()),
        )
        body = self._sought.body(text, vote, manner)
        reading = _Reading()
        outcome = await self._upstream.ask(Question("POST", "/chat/completions", headers, body, stream=False), reading)
        if outcome.ending == "disconnected":  # how an upstream ends whose question is cancelled
            raise asyncio.CancelledError
        return reading.end(outcome)


class _Reading:
    """One answer as it comes in: a `farthing.ports.Sink`."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: Headers = ()
        self._data = bytearray()

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self._status, self._headers = status, headers

    def chunk(self, data: bytes) -> None:
        self._data += data

    def end(self, outcome: Outcome) -> Said:
        return read_answer(self._status, self._headers, bytes(self._data), outcome)


def _counted(
    texts: Sequence[str], sought: Sought, labeller: Labeller, answers: KeptAnswers, asking: _Asking
) -> Labelling:
    labelled: list[Labelled] = []
    found: list[Kept] = []
    unsure = 0
    for text in texts:
        digest = sought.digest(text)
        votes = [kept for vote in range(labeller.votes) if (kept := answers.of(digest, vote)) is not None]
        found += votes
        counts = Counter(kept.label for kept in votes if kept.label)
        if not counts:
            continue
        label = max(counts, key=lambda label: (counts[label], -sought.labels.index(label)))
        confidence = counts[label] / labeller.votes
        if confidence < labeller.confidence:
            unsure += 1
            continue
        costs = [kept.cost for kept in votes if kept.cost is not None]
        cost = sum(costs) if len(costs) == len(votes) else None
        labelled.append(Labelled(text, label, confidence, cost, votes[0].model))
    strays = [kept.said for kept in found if not kept.label]
    return Labelling(
        labelled=tuple(labelled),
        asked=asking.asked,
        strays=len(strays),
        examples=tuple(dict.fromkeys(strays))[:5],
        unsure=unsure,
        refused=len(asking.refused),
        cost=sum(kept.cost or 0 for kept in found),
        unpriced=sum(kept.cost is None for kept in found),
    )
