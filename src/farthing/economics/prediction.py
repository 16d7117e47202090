"""Prediction: what a deployment will do under a load, and between what bounds."""

import msgspec


class Estimate(msgspec.Struct, frozen=True):
    """A predicted quantity with the interval that holds the truth in 90 of 100 cases of its class."""

    value: float
    low: float
    high: float


class Prediction(msgspec.Struct, frozen=True):
    """How a deployment serves a workload. Rates are of one whole replica.

    `batch` is how many sequences decode at once in it; `bound` names the term that takes most of an iteration
    ("memory", "compute", "link", "host", "queue"); `extrapolated` says in what it lies outside of what was measured.
    """

    ttft_s: Estimate
    tpot_s: Estimate
    output_tokens_per_s: Estimate
    batch: float
    bound: str
    prefill_share: float
    """The share of busy time that goes into prompts; the rest goes into output tokens."""
    utilisation_memory: float
    utilisation_compute: float
    """Shares of the data sheet's peaks that are used, 0 to 1."""
    extrapolated: tuple[str, ...] = ()
