"""A report as a run would write it: a line of four stages, two controls, a search, and a year of load."""

import numpy as np
from msgspec.structs import replace

from farthing.compress.gates import goals
from farthing.compress.job import Machine, Targets
from farthing.compress.record import Host, Report, Row, Texts, Trial, annual
from farthing.evaluation.answers import Beside
from farthing.evaluation.assessing import assess, compare

LABELS = (
    "card arrival", "lost <b>card</b>", "refund", "top up", "pin & code", "limits", "exchange rate", "cash withdrawal",
    "a label whose name is much longer than there is room for", "verify identity", "transfer timing", "fees", "closing",
    "statement", "card payment wrong", "apple pay",
)  # fmt: skip
ROWS = (
    ("teacher", "teacher", 22_420_000, 89.72, 7.39, 85.0, 0.9354, 468.0),
    ("distilled", "distil", 4_120_000, 16.48, 2.55, 248.0, 0.9321, 540.0),
    ("pruned", "prune", 1_460_000, 5.85, 0.66, 896.0, 0.9328, 426.0),
    ("INT8 dynamic", "quantize", 1_460_000, 1.594, 0.51, 1137.0, 0.9325, 0.0),
)
CONTROLS = (
    ("TF-IDF + logistic regression", "control", None, 13.4, 4.2, 240.0, 0.9091, 61.0),
    ("teacher, quantized only", "control", 22_420_000, 22.75, 3.86, 160.0, 0.9367, 0.0),
)


def logits(truth: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Answers of a made-up model that is right about so often, and less sure where it is wrong."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(len(truth)).random(len(truth))  # the same texts are hard for all models
    wrong = hard + rng.normal(0, 0.02, len(truth)) > right
    shown = np.where(wrong, (truth + 1) % len(LABELS), truth)
    sharp = np.where(wrong, rng.uniform(0.5, 4, len(truth)), rng.uniform(2, 9, len(truth)))
    return rng.normal(0, 0.6, (len(truth), len(LABELS))) + sharp[:, None] * np.eye(len(LABELS))[shown]


def sample() -> Report:
    """The report."""
    dice = np.random.default_rng(3)
    dev, test = dice.integers(0, len(LABELS), 1003), dice.integers(0, len(LABELS), 3080)
    rows = tuple(_row(given, 10 + number, dev, test) for number, given in enumerate(ROWS))
    pruned = replace(rows[2], verdict="backed off", note="5 heads, for 4 broke the floor")
    rows = (replace(rows[0], verdict=""), rows[1], pruned, rows[3])
    machine = Machine(usd_per_h=0.05, calls_per_s=2000.0, calls_per_year=2e10, before_usd_per_1k=0.12)
    return Report(
        "banking <i>intents</i>", "classification", rows,
        Host("AMD EPYC 7763", ("avx2", "fma"), 2, 1, 8000.0, {"onnxruntime": "1.31.1", "farthing": "0.1.0"}),
        "compressed", LABELS,
        tuple(_row(given, 30 + number, dev, test) for number, given in enumerate(CONTROLS)),
        tuple(Trial(f"{n} layers", 0.8 * n, 0.3 * n, 88 + 4 * (1 - 0.5**n), 1, n == 2) for n in range(1, 7)),
        goals(Targets(lost=0.7, smaller=50.0, faster=15.0), rows[-1], rows[0]),
        annual(machine, rows[0], rows[-1], 0.1),
        Texts(9000, 1003, 3080, 5047, 9000, 400, {"train <1>.csv": "ab" * 32}),
        1.31, 0.62, 0.84, 7, 1620.0, 2100.0, "2026-11-21", "0.1.0",
    )  # fmt: skip


def _row(given: tuple, seed: int, dev: np.ndarray, test: np.ndarray) -> Row:
    name, kind, parameters, mb, cpu_ms, texts, right, train_cpu_s = given
    rng = np.random.default_rng(0)
    (ours_dev, theirs_dev), (ours_test, theirs_test) = (
        (logits(truth, right, seed), logits(truth, ROWS[0][6], 10)) for truth in (dev, test)
    )
    outside = np.random.default_rng(seed).normal(0, 0.9, (400, len(LABELS)))
    beside = Beside(LABELS, outside=outside, typos=logits(test, right - 0.05, seed + 50))
    return Row(
        name, kind, parameters, mb, cpu_ms, 1.6 * cpu_ms, 1.1 * cpu_ms, texts, 1.8 * texts, 14 * texts, 40 + 2 * mb,
        None, 0.05 / 3.6 / texts,
        dev=assess("classification", ours_dev, dev, rng, Beside(LABELS)),
        test=assess("classification", ours_test, test, rng, beside),
        dev_against_teacher=compare("classification", theirs_dev, ours_dev, dev, rng, Beside(LABELS)),
        test_against_teacher=compare("classification", theirs_test, ours_test, test, rng, Beside(LABELS)),
        train_cpu_s=train_cpu_s, verdict="kept",
    )  # fmt: skip
