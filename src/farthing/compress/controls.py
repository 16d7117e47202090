"""Controls: what has to be beaten. TF-IDF and logistic regression need no network, no teacher and a minute."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from farthing.compress.examples import Examples
from farthing.errors import ConfigError

WORD: Final = re.compile(r"\b\w\w+\b")
"""Words of one character say nothing by themselves."""

WORDS: Final = (1, 2)
"""Lengths of the runs of words, from and to."""

CHARACTERS: Final = (2, 5)
"""Lengths of the runs of characters within a word with a space around it."""

STRENGTH: Final = 10.0
"""The weight of the data against that of small weights (C of others)."""

STEPS: Final = 50
"""After so many the answers of 77 labels change no more, though weights still do."""

_STORED: Final = np.dtype(np.float32).itemsize
_TIMED: Final = 200


class Control(NamedTuple):
    """What the control says of texts: logits float32 [texts, labels]; its size in MB; CPU time of a text in ms, its
    median, and of fitting in seconds."""

    logits: NDArray[np.float32]
    mb: float
    cpu_ms: float
    fit_cpu_s: float


def tfidf_control(train: Examples, texts: Sequence[str], labels: Sequence[str], seed: int) -> Control:
    """Fit TF-IDF with a multinomial logistic regression, and ask it about texts.

    Texts of no known label (-1) are not learned from. Raises ConfigError when none is left.
    """
    targets = np.asarray(train.targets, np.int64)
    known = np.flatnonzero(targets >= 0)
    if not len(known):
        raise ConfigError("There are no labelled texts to fit the control on.", hint="Give some in data.train.")
    began = time.process_time()
    words = Weighing(word_runs, [train.texts[place] for place in known])
    characters = Weighing(character_runs, [train.texts[place] for place in known])
    rows = sparse.hstack([words.fitted, characters.fitted], format="csr")
    weights, bias = logistic_regression(rows, targets[known], len(labels))
    fit_cpu_s = time.process_time() - began

    def ask(some: Sequence[str]) -> NDArray[np.float32]:
        asked = sparse.hstack([words.rows(some), characters.rows(some)], format="csr")
        return np.asarray(asked @ weights + bias, np.float32)

    rng = np.random.default_rng(seed)
    sample = [texts[place] for place in rng.permutation(len(texts))[:_TIMED]]
    vocabulary = sum(len(run.encode()) for one in (words, characters) for run in one.columns)
    size = weights.nbytes + bias.nbytes + _STORED * rows.shape[1] + vocabulary
    return Control(ask(texts), size / 1e6, float(np.median([_cpu_ms(ask, text) for text in sample] or [0])), fit_cpu_s)


def word_runs(text: str) -> Iterable[str]:
    """Words, and pairs of them."""
    words = WORD.findall(text.lower())
    for length in range(WORDS[0], WORDS[1] + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def character_runs(text: str) -> Iterable[str]:
    """Runs of characters that do not cross from one word to the next."""
    for word in text.lower().split():
        padded = f" {word} "
        for length in range(CHARACTERS[0], CHARACTERS[1] + 1):
            if length >= len(padded):
                yield padded
                break
            for start in range(len(padded) - length + 1):
                yield padded[start : start + length]


class Weighing:
    """Runs that training texts hold, and what each weighs: 1 + ln(count), times how rare it is, rows of length 1."""

    def __init__(self, runs: Callable[[str], Iterable[str]], texts: Sequence[str]) -> None:
        self._runs = runs
        self.columns: dict[str, int] = {}
        counted = [Counter(runs(text)) for text in texts]
        for one in counted:
            for run in one:
                self.columns.setdefault(run, len(self.columns))
        held = self._counts(counted)
        texts_with = np.bincount(held.indices, minlength=len(self.columns))
        self._rarity = (np.log((1 + len(texts)) / (1 + texts_with)) + 1).astype(np.float32)
        self.fitted = self._weighed(held)

    def rows(self, texts: Sequence[str]) -> sparse.csr_array:
        """Texts as rows of weights; runs that were never seen weigh nothing."""
        return self._weighed(self._counts([Counter(self._runs(text)) for text in texts]))

    def _counts(self, counted: Sequence[Counter[str]]) -> sparse.csr_array:
        starts, places, counts = [0], [], []
        for one in counted:
            for run, count in one.items():
                place = self.columns.get(run)
                if place is not None:
                    places.append(place)
                    counts.append(count)
            starts.append(len(places))
        return sparse.csr_array(
            (np.array(counts, np.float32), np.array(places, np.int32), np.array(starts, np.int32)),
            shape=(len(counted), len(self.columns)),
        )

    def _weighed(self, rows: sparse.csr_array) -> sparse.csr_array:
        rows.data = (1 + np.log(rows.data)) * self._rarity[rows.indices]
        filled = np.diff(rows.indptr)
        squares = np.bincount(np.repeat(np.arange(len(filled)), filled), rows.data**2, len(filled))
        rows.data = (rows.data / np.repeat(np.sqrt(squares), filled)).astype(np.float32)
        return rows


def logistic_regression(
    rows: sparse.csr_array, targets: NDArray[np.int64], labels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights float32 [columns, labels] and biases [labels] of a multinomial logistic regression with an L2 penalty.

    Minimised by L-BFGS (Liu and Nocedal 1989).
    """
    columns = rows.shape[1]
    turned = rows.T.tocsr()
    wanted = np.zeros((rows.shape[0], labels), np.float32)
    wanted[np.arange(len(targets)), targets] = 1

    def cost(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat[: columns * labels].reshape(columns, labels)
        logits = rows @ weights.astype(np.float32) + flat[columns * labels :].astype(np.float32)
        logits -= logits.max(1, keepdims=True)
        chances = np.exp(logits)
        total = chances.sum(1, keepdims=True)
        chances /= total
        loss = float((np.log(total[:, 0]) - (logits * wanted).sum(1)).sum())
        wrong = chances - wanted
        slope = np.concatenate([(turned @ wrong).ravel() + flat[: columns * labels] / STRENGTH, wrong.sum(0)])
        return loss + float(flat[: columns * labels] @ flat[: columns * labels]) / (2 * STRENGTH), slope

    found = optimize.minimize(
        cost, np.zeros((columns + 1) * labels), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 5}
    ).x.astype(np.float32)
    return found[: columns * labels].reshape(columns, labels), found[columns * labels :]


def _cpu_ms(ask: Callable[[Sequence[str]], object], text: str) -> float:
    began = time.process_time()
    ask([text])
    return 1000 * (time.process_time() - began)
