"""Scoring a decoder: perplexity, agreement with its teacher, exact match and speed, in a process of its own.

`python -m farthing.compress.generative.scoring FOLDER EXAM THREADS` prints what it finds as JSON: that a model loads
again in a fresh process is part of what is measured, and so is the memory that the process takes.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.compress.generative.reading import Check
from farthing.compress.generative.speaking import Logits, Speaker, greedy, open_speaker
from farthing.compress.generative.tokens import TOKENIZER, Words
from farthing.compress.generative.weights import run_aside
from farthing.errors import ConfigError, RequestError
from farthing.evaluation.intervals import ratio_draws

BEST: Final = 64
"""Of the teacher's probabilities so many are kept at each place; the rest count as one."""

DRAWS: Final = 2_000
ANSWERS = "teacher.npz"
QUESTIONS = "exam.json"

_LEAST = 1e-6
_REPEATS = 5
_PREFILL = 128
_DECODE = 32
_SPARE = 8

Floats = NDArray[np.float64]


class Question(msgspec.Struct, frozen=True):
    """Tokens of a prompt, and the text that should follow."""

    prompt: list[int]
    answer: str
    most: int


class Exam(msgspec.Struct, frozen=True):
    """What a decoder is measured with, as tokens; it reads at most `positions` of them."""

    texts: list[list[int]]
    questions: list[Question]
    end: int
    positions: int


class Figures(msgspec.Struct, frozen=True):
    """What was measured: negative log-likelihoods by text, and how often the answer was right to the letter.

    `agreed` counts places where the likeliest token is the teacher's, and `apart` sums KL(teacher || this), over
    `places`; all 0 for the teacher itself.
    """

    engine: str
    losses: list[float]
    tokens: list[int]
    right: list[bool]
    agreed: int
    apart: float
    places: int
    prefill_per_s: float
    decode_per_s: float
    peak_rss_mb: float


class Ratio(msgspec.Struct, frozen=True):
    """A perplexity, how many times another's it is, and the ends of the ratio's 95 % interval."""

    perplexity: float
    low: float
    high: float
    times: float
    times_low: float
    times_high: float


def set_exam(folder: Path, texts: Sequence[list[int]], checks: Sequence[Check], positions: int, words: Words) -> Exam:
    """Write down what all decoders of a job are measured with, and the tokenizer beside it.

    Raises ConfigError when a check is longer than what a decoder reads.
    """
    questions = []
    for check in checks:
        most = len(words.tokenizer.encode(check.answer, add_special_tokens=False).ids) + _SPARE
        question = Question(words.prompt(check.prompt), check.answer, most)
        if (needed := len(question.prompt) + most) > positions:
            raise ConfigError(
                f"A check takes {needed:,} tokens, and the decoder reads {positions:,}: {check.prompt[:40]!r}",
                hint="Leave it out, or shorten its prompt.",
            )
        questions.append(question)
    exam = Exam(list(texts), questions, words.end, positions)
    words.tokenizer.save(str(folder / TOKENIZER))
    (folder / QUESTIONS).write_bytes(msgspec.json.encode(exam))
    return exam


def measure(model: Path, exam: Path, threads: int) -> Figures:
    """Measure a decoder's folder in a fresh process. The first that is measured with an exam is the teacher of others.

    Raises ConfigError when it cannot be loaded there, Unavailable when memory runs out.
    """
    command = [sys.executable, "-m", __name__, str(model), str(exam), str(threads)]
    printed = run_aside(command, f"Measuring {model}", threads)
    return msgspec.json.decode(printed.splitlines()[-1], type=Figures)


def compared(of: Figures, against: Figures, rng: np.random.Generator) -> Ratio:
    """Two perplexities of the same texts, with intervals over resampled texts. Raises RequestError when they differ."""
    if of.tokens != against.tokens:
        raise RequestError("Two decoders were measured with other texts.", hint="Measure both with one exam.")
    losses = np.array([of.losses, against.losses]).T
    tokens = np.array([of.tokens, against.tokens], np.float64).T
    means = losses.sum(0) / tokens.sum(0)
    drawn = ratio_draws(losses, tokens, rng, DRAWS)
    low, high = np.exp(np.quantile(drawn[:, 0], (0.025, 0.975)))
    times_low, times_high = np.exp(np.quantile(drawn[:, 0] - drawn[:, 1], (0.025, 0.975)))
    perplexity, times = np.exp(means[0]), np.exp(means[0] - means[1])
    return Ratio(*(float(one) for one in (perplexity, low, high, times, times_low, times_high)))


def examine(speaker: Speaker, exam: Exam, folder: Path) -> dict[str, Any]:
    """Losses of every text, and how near the decoder is to the answers that the first one left in `folder`."""
    kept = _Answers(folder / ANSWERS, len(exam.texts))
    losses = [kept.take(number, ids, speaker.begin(ids, 0)[:-1]) for number, ids in enumerate(exam.texts)]
    kept.leave()
    return {
        "losses": losses,
        "tokens": [len(ids) - 1 for ids in exam.texts],
        "agreed": kept.agreed,
        "apart": kept.apart,
        "places": kept.places,
    }


def log_softmax(logits: Logits) -> Logits:
    """Logarithms of probabilities, over the last axis."""
    shifted: Logits = logits - logits.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


def divergence(taught: Floats, found: Floats) -> Floats:
    """KL(teacher || student) at each place, from log-probabilities of the same tokens, the rest as one."""
    shares = np.exp(taught)
    rest = np.clip(1 - shares.sum(-1), _LEAST, None)
    left = np.clip(1 - np.exp(found).sum(-1), _LEAST, None)
    apart: Floats = (shares * (taught - found)).sum(-1) + rest * np.log(rest / left)
    return apart


class _Answers:
    """What the teacher expects at each place: kept when there is nothing yet, else compared with."""

    def __init__(self, path: Path, texts: int) -> None:
        self.path, self.texts = path, texts
        self.taught: Any = np.load(path) if path.is_file() else None
        self.found: dict[str, NDArray[Any]] = {}
        self.agreed, self.apart, self.places = 0, 0.0, 0

    def take(self, number: int, ids: list[int], logits: Logits) -> float:
        """The negative log-likelihood of a text's tokens but the first."""
        logs = log_softmax(logits)
        if self.taught is None:
            best = np.argsort(-logs, axis=-1, kind="stable")[:, :BEST]
            self.found[f"ids{number}"] = best.astype(np.int32)
            self.found[f"logs{number}"] = np.take_along_axis(logs, best, -1)
        else:
            best = self.taught[f"ids{number}"]
            taught = self.taught[f"logs{number}"].astype(np.float64)
            apart = divergence(taught, np.take_along_axis(logs, best, -1).astype(np.float64))
            self.apart += float(apart.sum())
            self.agreed += int((logs.argmax(-1) == best[:, 0]).sum())
            self.places += len(logs)
        return -float(np.take_along_axis(logs, np.array(ids[1:])[:, None], -1).astype(np.float64).sum())

    def leave(self) -> None:
        if self.taught is None:
            with self.path.open("wb") as opened:
                np.savez(opened, **self.found)  # type: ignore[arg-type]


def speeds(speaker: Speaker, exam: Exam) -> tuple[float, float]:
    """Tokens per second of wall time of one caller: read in a prompt, and said one by one; medians."""
    stream = [token for ids in exam.texts for token in ids]
    reads = (stream * (_PREFILL // len(stream) + 1))[: min(_PREFILL, max(exam.positions - _DECODE - 1, 1))]
    speaker.begin(reads, _DECODE)  # warms up
    prefill, decode = [], []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        token = int(speaker.begin(reads, _DECODE)[-1].argmax())
        first = time.perf_counter()
        for _ in range(_DECODE):
            token = int(speaker.follow(token).argmax())
        prefill.append(len(reads) / (first - began))
        decode.append(_DECODE / (time.perf_counter() - first))
    return median(prefill), median(decode)


def peak_rss_mb() -> float:
    """The most memory that this process has had resident, in MB; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) * 1024 / 1e6 if found else 0.0


def _main(model: Path, folder: Path, threads: int) -> Figures:
    from tokenizers import Tokenizer

    exam = msgspec.json.decode((folder / QUESTIONS).read_bytes(), type=Exam)
    longest = max(map(len, exam.texts))
    longest = max([longest, _PREFILL + _DECODE, *(len(one.prompt) + one.most for one in exam.questions)])
    speaker = open_speaker(model, threads, longest)
    prefill, decode = speeds(speaker, exam)
    peak = peak_rss_mb()  # before logits of whole texts are compared, which serving does not do
    words = Tokenizer.from_file(str(folder / TOKENIZER))
    right = []
    for question in exam.questions:
        said = words.decode(greedy(speaker, question.prompt, question.most, exam.end), skip_special_tokens=True)
        right.append(said.strip() == question.answer.strip())
    return Figures(
        engine=speaker.engine,
        right=right,
        prefill_per_s=prefill,
        decode_per_s=decode,
        peak_rss_mb=peak,
        **examine(speaker, exam, folder),
    )


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(_main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))).decode() + "\n")
