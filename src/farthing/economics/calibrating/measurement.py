"""Measurement: one row of measured serving, whoever measured it."""

import msgspec


class Measurement(msgspec.Struct, frozen=True):
    """What an engine did on some hardware under some load. `None` is what was not measured or not said.

    `kind` says how the load was made: "closed_loop" (so many callers, each asks again when answered), "static_batch"
    (so many requests at once, timed to the last token), "steady_batch" (a batch kept full), "max_throughput" (offline,
    all at once), "prefill_only", "open_loop" (Poisson arrivals), or another name, which is reported but not fitted.
    Names are those of the row; `farthing.economics.facts.catalogue` resolves them. Throughput counts output tokens.
    """

    hardware: str
    devices: int
    model: str
    precision: str
    engine: str
    kind: str
    tensor: int | None = None
    data: int | None = None
    expert: int | None = None
    concurrency: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    output_tokens_per_s_per_device: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    power_w: float | None = None
    """Of all devices together."""
    source: str = ""
    note: str = ""
    pipeline: int | None = None
    max_sequences: int | None = None
    """The most sequences of one iteration that the engine was told to allow."""
    kv_tokens: int | None = None
    """Tokens of context that fit into the KV cache of one copy, as the engine reported it."""
    energy_j_per_output_token: float | None = None
    """Of all devices together."""
    cached_share: float | None = None
    """The share of input tokens that were found in the prefix cache; `None` is not known, and mostly little."""
