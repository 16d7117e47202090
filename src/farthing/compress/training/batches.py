"""Texts as batches of token ids."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from farthing.compress.examples import Examples


class Encoded(NamedTuple):
    """Texts as token ids, with what fills up a batch; `offsets` are the characters of each token, for tagging."""

    ids: list[list[int]]
    padding: int
    offsets: list[list[tuple[int, int]]]

    def __len__(self) -> int:
        return len(self.ids)


class Batch(NamedTuple):
    """Ids and mask, int64 [batch, length], and which texts they are."""

    ids: Tensor
    mask: Tensor
    rows: NDArray[np.int64]


def encoded(tokenizer: Tokenizer, padding: int, examples: Examples, *, offsets: bool = False) -> Encoded:
    """The texts of examples, or pairs of texts, as token ids; special tokens are those of the tokenizer."""
    inputs = list(zip(examples.texts, examples.seconds, strict=True)) if examples.seconds else list(examples.texts)
    found = tokenizer.encode_batch(inputs)
    return Encoded([one.ids for one in found], padding, [one.offsets for one in found] if offsets else [])


def shuffled(texts: Encoded, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows of batches in random order, texts of similar length together, so that little is computed on padding."""
    lengths = np.array([len(ids) for ids in texts.ids])
    order = rng.permutation(len(texts))
    pool = size * 16
    rows: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        some = order[start : start + pool]
        some = some[np.argsort(lengths[some], kind="stable")]
        rows += [some[at : at + size] for at in range(0, len(some), size)]
    return [rows[number] for number in rng.permutation(len(rows))]


def in_order(texts: Encoded, size: int) -> Iterator[NDArray[np.int64]]:
    """Rows of batches by length, each text once."""
    order = np.argsort([len(ids) for ids in texts.ids], kind="stable")
    yield from (order[at : at + size] for at in range(0, len(order), size))


def batch(texts: Encoded, rows: NDArray[np.int64], device: torch.device) -> Batch:
    """Some of the texts, filled up to the longest."""
    chosen: Sequence[list[int]] = [texts.ids[row] for row in rows]
    length = max(map(len, chosen))
    ids = np.full((len(chosen), length), texts.padding, np.int64)
    mask = np.zeros_like(ids)
    for number, one in enumerate(chosen):
        ids[number, : len(one)] = one
        mask[number, : len(one)] = 1
    return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device), rows)
