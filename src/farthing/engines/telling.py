"""How the engine's answers are told, each in the wire format of its endpoint."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from farthing.engines.asking import Rerank
from farthing.engines.scoring import Scored
from farthing.schema import Artefact

_encode = msgspec.json.Encoder(decimal_format="number").encode

MULTI_LABEL_SHARE = 0.5
"""From this probability on a text has a label, where it may have several."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What every answer says of itself: its `id` without a prefix, the Unix second, and the model."""

    id: str
    created: int
    model: str


class _Usage(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class _Label(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    index: int
    label: str
    probs: list[float]
    num_classes: int
    confidence: float
    labels: list[str] | None = None


class _Labels(msgspec.Struct, frozen=True, gc=False):
    id: str
    created: int
    model: str
    data: list[_Label]
    usage: _Usage
    object: str = "list"


class _Embedding(msgspec.Struct, frozen=True, gc=False):
    index: int
    embedding: list[float] | str
    object: str = "embedding"


class _Embeddings(msgspec.Struct, frozen=True, gc=False):
    model: str
    data: list[_Embedding]
    usage: _Usage
    object: str = "list"


class _Ranked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class _Ranking(msgspec.Struct, frozen=True, gc=False):
    id: str
    model: str
    results: list[_Ranked]
    usage: _Usage


def labels(told: Told, artefact: Artefact, scored: Sequence[Scored]) -> bytes:
    """The labels of some texts, as vLLM tells them, with how sure the model is of each."""
    names = artefact.labels
    several = artefact.task == "multi-label"
    data = [
        _Label(
            index,
            names[one.best],
            list(one.values),
            len(names),
            one.confidence,
            [name for name, share in zip(names, one.values, strict=True) if share >= MULTI_LABEL_SHARE]
            if several
            else None,
        )
        for index, one in enumerate(scored)
    ]
    return _encode(_Labels(f"classify-{told.id}", told.created, told.model, data, _used(scored)))


def embeddings(told: Told, scored: Sequence[Scored], *, packed: bool) -> bytes:
    """The embeddings of some texts, as OpenAI tells them; `packed`, each is the base64 of little-endian float32."""
    data = [_Embedding(index, _vector(one, packed)) for index, one in enumerate(scored)]
    return _encode(_Embeddings(told.model, data, _used(scored)))


def ranking(told: Told, asked: Rerank, scores: Sequence[float], scored: Sequence[Scored]) -> bytes:
    """Documents by relevance, as Cohere and Jina tell them; those of equal scores in the order they came in."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: asked.top_n]
    texts = asked.texts if asked.return_documents else None
    results = [_Ranked(place, scores[place], {"text": texts[place]} if texts else None) for place in order]
    return _encode(_Ranking(f"rerank-{told.id}", told.model, results, _used(scored)))


def chat(told: Told, label: str, scored: Scored, label_tokens: int, version: str) -> dict[str, Any]:
    """A label as the message of an assistant; `version` tells one artefact of a name from the next."""
    return {
        "id": f"chatcmpl-{told.id}",
        "object": "chat.completion",
        "created": told.created,
        "model": told.model,
        "system_fingerprint": version,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": label, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "confidence": scored.confidence,
        "usage": {
            "prompt_tokens": scored.tokens,
            "completion_tokens": label_tokens,
            "total_tokens": scored.tokens + label_tokens,
        },
    }


def _used(scored: Sequence[Scored]) -> _Usage:
    tokens = sum([one.tokens for one in scored])
    return _Usage(tokens, tokens)


def _vector(scored: Scored, packed: bool) -> list[float] | str:
    row = np.asarray(scored.values, dtype="<f4")
    return base64.b64encode(row.tobytes()).decode() if packed else row.tolist()
