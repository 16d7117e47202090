"""Small models inside the gateway's own process, asked like any upstream."""

import asyncio
import math
import os
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from farthing import dialects
from farthing.dialects.rendering.completions import chat_frames
from farthing.engines import telling
from farthing.engines.asking import ASKED, Chat, Classify, Embed, Rerank, read_request, texts_of
from farthing.engines.batching import Rules
from farthing.engines.models import Keeping, Loaded, Models
from farthing.engines.scoring import Scored
from farthing.errors import FarthingError, RequestError, UnknownEndpoint, UnknownModel
from farthing.ports import Outcome, Question, Sink
from farthing.schema import Endpoint, Headers, Task
from farthing.schema.artefact import MODEL

SERVED: Final[dict[Task, tuple[Endpoint, ...]]] = {
    "classification": ("classify", "chat"),
    "multi-label": ("classify",),
    "regression": ("rerank",),
    "embedding": ("embeddings", "rerank"),
    "tagging": (),
}
"""The endpoints at which a model for each task can be asked."""

_JSON: Final[Headers] = ((b"content-type", b"application/json"),)
_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_OWNER: Final = "farthing"
VERSION_DIGITS: Final = 12
"""Of the model's SHA-256, as an answer's `system_fingerprint`."""


class EmbeddedUpstream:
    """Answers from models in this process, whose texts are run together while the processor is busy.

    A label that a chat asks for is given when the model is as sure of it as the question demands, and else declined.
    """

    simulated = False
    provider = "embedded"

    def __init__(self, name: str, folders: Iterable[Path], keeping: Keeping, rules: Rules) -> None:
        """Load the models. Raises ConfigError when one cannot be served."""
        self.name = name
        self.models = Models(folders, keeping, rules)
        self._ids = count()
        self._run = os.urandom(6).hex()
        self._started = int(time.time())

    async def ask(self, question: Question, sink: Sink) -> Outcome:
        """Answer, or refuse in the dialect of the endpoint; a cancelled question ends as `disconnected`."""
        endpoint = dialects.endpoint_at(question.method, f"/v1{question.path.partition('?')[0]}")
        try:
            if endpoint in ASKED:
                return await self._answer(endpoint, question, sink)
            if endpoint == "models":
                return self._list(question, sink)
            raise UnknownEndpoint(
                f"The engine has no {question.method} {question.path}.",
                hint=f"It answers at: {', '.join(ASKED)}, models.",
            )
        except FarthingError as error:
            return self._refuse(endpoint or "chat", error, sink)
        except asyncio.CancelledError:
            return Outcome("disconnected", "the caller left before the model had answered")

    async def close(self) -> None:
        """Answer what waits, and unload the models."""
        await self.models.close()

    # -- answers

    async def _answer(self, endpoint: Endpoint, question: Question, sink: Sink) -> Outcome:
        asked = read_request(endpoint, question.body)
        loaded = await self.models.find(asked.model)
        artefact = loaded.model.artefact
        if endpoint not in SERVED[artefact.task]:
            raise _wrong_task(asked.model, artefact.task, endpoint)
        told = telling.Told(f"{self._run}{next(self._ids):08x}", int(time.time()), asked.model)
        match asked:
            case Classify():
                scored = await loaded.batcher.ask(texts_of("input", asked.input))
                sure = min([one.confidence for one in scored])
                return _pour(sink, telling.labels(told, artefact, scored), sure)
            case Embed():
                scored = await loaded.batcher.ask(texts_of("input", asked.input))
                _check_dimensions(asked, scored)
                return _pour(sink, telling.embeddings(told, scored, packed=asked.encoding_format == "base64"))
            case Rerank():
                scores, scored = await _ranked(asked, loaded)
                return _pour(sink, telling.ranking(told, asked, scores, scored))
            case Chat():
                (scored_text,) = await loaded.batcher.ask(texts_of("messages", asked.text))
                return await _say(asked, question, told, loaded, scored_text, sink)

    def _list(self, question: Question, sink: Sink) -> Outcome:
        name = question.path.partition("?")[0].removeprefix("/models").strip("/")
        names = self.models.names()
        if not name:
            return _pour(sink, dialects.models_body("openai", [(one, _OWNER) for one in names], self._started))
        if name not in names:
            raise UnknownModel(f'There is no model "{name}" here.', hint=f"There are: {', '.join(names)}.")
        return _pour(sink, dialects.model_body("openai", name, _OWNER, self._started))

    def _refuse(self, endpoint: Endpoint, error: FarthingError, sink: Sink) -> Outcome:
        headers = _JSON
        if error.retry_after is not None:
            seconds, milliseconds = math.ceil(error.retry_after), math.ceil(error.retry_after * 1000)
            headers += ((b"retry-after", b"%d" % seconds), (b"retry-after-ms", b"%d" % milliseconds))
        sink.begin(error.status, headers, None)
        sink.chunk(dialects.error_body(endpoint, error, ""))
        return Outcome("complete")


async def _ranked(asked: Rerank, loaded: Loaded) -> tuple[list[float], list[Scored]]:
    """How relevant each document is to the query: what a model for pairs says, or how alike their embeddings are."""
    (query,) = texts_of("query", asked.query)
    documents = texts_of("documents", asked.texts, may_be_empty=True)
    if loaded.model.artefact.task == "regression":
        scored = await loaded.batcher.ask([(query, document) for document in documents])
        return [float(one.values[0]) for one in scored], scored
    scored = await loaded.batcher.ask([query, *documents])
    rows = np.stack([np.asarray(one.values, dtype=np.float64) for one in scored])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return (rows[1:] @ rows[0]).round(6).tolist(), scored


async def _say(
    asked: Chat, question: Question, told: telling.Told, loaded: Loaded, scored: Scored, sink: Sink
) -> Outcome:
    """A label as an answer in a chat, if the model is sure enough of it."""
    sure = scored.confidence
    if sure < question.accept:
        why = f"{told.model} is {sure:.3f} sure of its answer, and {question.accept:.3f} was asked for"
        return Outcome("declined", why, confidence=sure)
    artefact = loaded.model.artefact
    label, version = artefact.labels[scored.best], artefact.files[MODEL][:VERSION_DIGITS]
    answer = telling.chat(told, label, scored, loaded.label_tokens[scored.best], version)
    if not question.stream:
        return _pour(sink, msgspec.json.encode(answer), sure)
    tap = _Tap()
    sink.begin(200, (_STREAM, _confidence(sure)), tap)
    for frame in chat_frames(answer, asked.wants_usage):
        await tap.opened.wait()
        if tap.stopped:
            return Outcome("garbage", tap.stopped)
        sink.chunk(frame)
    return Outcome("complete", confidence=sure)


def _pour(sink: Sink, body: bytes, sure: float | None = None) -> Outcome:
    sink.begin(200, _JSON if sure is None else (*_JSON, _confidence(sure)), None)
    sink.chunk(body)
    return Outcome("complete", confidence=sure)


def _confidence(sure: float) -> tuple[bytes, bytes]:
    return b"x-farthing-confidence", b"%.6f" % sure


def _check_dimensions(asked: Embed, scored: list[Scored]) -> None:
    width = len(scored[0].values)
    if asked.dimensions is not None and asked.dimensions != width:
        raise RequestError(
            f"`dimensions` is {asked.dimensions}; the model {asked.model} gives {width}.", hint="Leave it out."
        )


def _wrong_task(model: str, task: Task, endpoint: Endpoint) -> RequestError:
    served = SERVED[task]
    return RequestError(
        f'The model "{model}" is for {task}, which {endpoint} does not ask for.',
        hint=f"Ask it at: {', '.join(served)}." if served else "No endpoint asks for it.",
    )


class _Tap:
    """A stream that its reader can hold up, or stop."""

    def __init__(self) -> None:
        self.stopped = ""
        self.opened = asyncio.Event()
        self.opened.set()

    def pause(self) -> None:
        self.opened.clear()

    def resume(self) -> None:
        self.opened.set()

    def stop(self, reason: str) -> None:
        self.stopped = reason
        self.opened.set()
