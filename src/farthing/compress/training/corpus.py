"""Texts ready for training: ids, targets as tensors, and what the teacher says of each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from farthing.compress.examples import Examples, Span
from farthing.compress.networks.loading import Studied
from farthing.compress.training.batches import Batch, Encoded, batch, encoded, in_order
from farthing.compress.training.loop import device, lower_precision
from farthing.compress.training.losses import UNKNOWN
from farthing.schema import Task

AT_ONCE = 64


class Corpus(NamedTuple):
    """Encoded texts with their targets; see `losses.hard_loss` for how unknown ones are marked."""

    texts: Encoded
    targets: list[NDArray[np.int64]] | NDArray[np.float32] | NDArray[np.int64]

    def targets_of(self, some: Batch) -> Tensor:
        """The targets of a batch; those of tagging filled up to its length."""
        if not isinstance(self.targets, list):
            return torch.from_numpy(self.targets[some.rows]).to(some.ids.device)
        filled = np.full(tuple(some.ids.shape), UNKNOWN, np.int64)
        for number, row in enumerate(some.rows):
            filled[number, : len(self.targets[row])] = self.targets[row]
        return torch.from_numpy(filled).to(some.ids.device)


class Taught(NamedTuple):
    """A teacher's outputs by text ([labels] or [length, labels] each), and its pooled texts [n, width]."""

    outputs: list[NDArray[np.float32]]
    pooled: NDArray[np.float32]

    def outputs_of(self, some: Batch) -> Tensor:
        """Its outputs for a batch; those of tagging filled up with zeros, which the mask leaves out."""
        chosen = [self.outputs[row] for row in some.rows]
        if chosen[0].ndim == 1:
            return torch.from_numpy(np.stack(chosen)).to(some.ids.device)
        filled = np.zeros((*some.ids.shape, chosen[0].shape[-1]), np.float32)
        for number, one in enumerate(chosen):
            length = min(len(one), filled.shape[1])
            filled[number, :length] = one[:length]
        return torch.from_numpy(filled).to(some.ids.device)

    def pooled_of(self, some: Batch) -> Tensor:
        return torch.from_numpy(self.pooled[some.rows]).to(some.ids.device)


def corpus(task: Task, tokenizer: Tokenizer, padding: int, examples: Examples, labels: int) -> Corpus:
    """Examples as a model reads them. Texts without targets, or beyond them for tagging, are marked as unknown."""
    texts = encoded(tokenizer, padding, examples, offsets=task == "tagging")
    count = len(examples)
    given = examples.targets
    match task:
        case "tagging":
            spans = given if isinstance(given, tuple) else ()
            known = [tags(offsets, some) for offsets, some in zip(texts.offsets, spans, strict=False)]
            unknown = [np.full(len(offsets), UNKNOWN, np.int64) for offsets in texts.offsets[len(spans) :]]
            return Corpus(texts, [*known, *unknown])
        case "classification" | "embedding":
            targets = np.full(count, UNKNOWN, np.int64) if given is None else np.asarray(given, np.int64)
            return Corpus(texts, targets)
        case "multi-label" | "regression":
            nothing = np.full((count, labels) if task == "multi-label" else count, np.nan, np.float32)
            return Corpus(texts, nothing if given is None else np.asarray(given, np.float32))


def tags(offsets: list[tuple[int, int]], spans: tuple[Span, ...]) -> NDArray[np.int64]:
    """The tag of each token: 0 outside, else 2k + 1 where a span of label k begins and 2k + 2 inside it.

    Special tokens, which cover no characters, are unknown.
    """
    found = np.zeros(len(offsets), np.int64)
    for number, (start, end) in enumerate(offsets):
        if start == end:
            found[number] = UNKNOWN
            continue
        for first, last, label in spans:
            if start < last and end > first:
                begins = (
                    number == 0 or offsets[number - 1][1] <= first or offsets[number - 1][0] == offsets[number - 1][1]
                )
                found[number] = 2 * label + (1 if begins else 2)
    return found


@torch.no_grad()
def taught(teacher: nn.Module, texts: Encoded, note: Callable[[int, int], None]) -> Taught:
    """What a teacher says of texts; `note` is told how many are done."""
    outputs: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(texts)
    pooled: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(texts)
    studied: Studied = teacher.eval().to(device())  # type: ignore[assignment]
    done = 0
    for rows in in_order(texts, AT_ONCE):
        some = batch(texts, rows, device())
        with lower_precision():
            insight = studied.insight(some.ids, some.mask)
        output, inside = insight.output.float().cpu().numpy(), insight.pooled.float().cpu().numpy()
        for number, row in enumerate(rows):
            outputs[row] = output[number][: len(texts.ids[row])] if output.ndim == 3 else output[number]
            pooled[row] = inside[number]
        done += len(rows)
        note(done, len(texts))
    return Taught(outputs, np.stack(pooled))


@torch.no_grad()
def answered(model: nn.Module, texts: Encoded) -> list[NDArray[np.float32]]:
    """A model's outputs by text."""
    model.eval()
    found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(texts)
    for rows in in_order(texts, AT_ONCE):
        some = batch(texts, rows, device())
        with lower_precision():
            output = model(some.ids, some.mask).float().cpu().numpy()
        for number, row in enumerate(rows):
            found[row] = output[number][: len(texts.ids[row])] if output.ndim == 3 else output[number]
    return found
