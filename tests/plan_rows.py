"""Rows of an engine whose constants are known: what a fit must find again."""

import math
from collections.abc import Iterator

import numpy as np

from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.constants import CONSTANTS
from farthing.economics.calibrating.fitting import predicted, tabled
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.facts.catalogue import Catalogue

MODELS = ("llama-3-8b", "llama-3-70b", "qwen3-32b", "qwen3-30b-a3b")
HARDWARE = ("H100 SXM", "A100 SXM 80GB", "L40S")

TRUTH = {constant.name: constant.start for constant in CONSTANTS}


def measurements(models: tuple[str, ...] = MODELS, hardware: tuple[str, ...] = HARDWARE) -> Iterator[Measurement]:
    """Loads of layouts, not yet measured."""
    for model in models:
        for kind in hardware:
            for tensor in (4, 8):
                for concurrency, given, taken in ((2, 500, 200), (8, 1000, 500), (32, 4000, 300), (64, 300, 1000)):
                    yield Measurement(
                        hardware=kind,
                        devices=tensor,
                        model=model,
                        precision="bf16",
                        engine="vllm 0.19",
                        kind="closed_loop",
                        tensor=tensor,
                        concurrency=concurrency,
                        input_tokens=given,
                        output_tokens=taken,
                    )


def measured(cases: list[Case], constants: dict[str, float], noise: float, seed: int) -> list[Measurement]:
    """The rows of cases as an engine with these constants gives them, each off by a share of `noise`."""
    table = tabled(cases)
    served = predicted(table, constants)
    rng = np.random.default_rng(seed)
    rows = []
    for place, case in enumerate(cases):
        tpot, ttft, rate = (
            float(values[place]) * math.exp(noise * rng.standard_normal())
            for values in (served.tpot_s, served.ttft_s, served.output_tokens_per_s)
        )
        row = {name: getattr(case.measurement, name) for name in case.measurement.__struct_fields__}
        row |= {"tpot_s": tpot, "ttft_s": ttft, "output_tokens_per_s_per_device": rate / case.deployment.devices}
        rows.append(Measurement(**row))
    return rows


def cases_of(rows: list[Measurement], catalogue: Catalogue) -> list[Case]:
    """The cases of those rows that can be run."""
    from farthing.economics.calibrating.calibrate import resolved

    return resolved(rows, catalogue)[0]
