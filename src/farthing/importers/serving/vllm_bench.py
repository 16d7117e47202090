"""Results of `vllm bench serve --save-result` (before 0.9: benchmark_serving.py), one JSON object per run.

The name of engine, hardware and the rest may stand in the file as metadata under the names of `Setup`:
`--metadata hardware=H100 precision=fp8 tensor=2`.
"""

from collections.abc import Iterator
from pathlib import Path

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, completed
from farthing.errors import TrafficError
from farthing.importers.serving.documents import Document, documents
from farthing.importers.serving.runs import Run, measured

NAMES = frozenset(("model_id", "completed", "total_input_tokens", "total_output_tokens", "output_throughput"))

_ENGINES = {
    "vllm": "vllm", "sglang": "sglang", "sglang-oai": "sglang", "tgi": "tgi", "tensorrt-llm": "trtllm",
    "lmdeploy": "lmdeploy", "llama.cpp": "llama.cpp",
}  # fmt: skip
"""Backends that name the engine; "openai" is any."""

_TOOL = "vllm bench"


def read(path: Path, setup: Setup) -> Iterator[Measurement]:
    """One measurement per run; means, or medians where a file has no means."""
    for document in documents(path):
        if not document.data.keys() >= NAMES:
            missing = ", ".join(sorted(NAMES - document.data.keys()))
            raise document.error(f"this is no result of {_TOOL}: it has no {missing}")
        yield measured(_run(document), completed(setup, _said(document), document.place))


def _run(document: Document) -> Run:
    count = document.needed("completed")
    output = document.needed("total_output_tokens") / count
    rate = document.find("request_rate")
    return Run(
        place=document.place,
        tool=_TOOL,
        completed=count,
        failed=_failed(document, count),
        input_tokens=document.needed("total_input_tokens") / count,
        output_tokens=output,
        output_tokens_per_s=document.needed("output_throughput"),
        ttft_s=document.seconds("mean_ttft_ms") or document.seconds("median_ttft_ms"),
        tpot_s=document.seconds("mean_tpot_ms") or document.seconds("median_tpot_ms"),
        e2e_s=document.seconds("mean_e2el_ms"),
        callers=document.number("max_concurrency") or None,
        requests_per_s=None if endless(rate) else document.needed("request_rate"),
    )


def endless(rate: object) -> bool:
    """Whether a rate stands for "as fast as the callers allow".

    >>> endless("inf"), endless(float("inf")), endless(None), endless(2.5)
    (True, True, True, False)
    """
    return rate in (None, "inf", float("inf"))


def _failed(document: Document, count: float) -> float:
    failed = document.number("failed")
    if failed is not None:
        return failed
    asked = document.number("num_prompts")
    return max(asked - count, 0.0) if asked else 0.0


def _said(document: Document) -> Setup:
    backend = document.text("backend") or document.text("endpoint_type")
    return Setup(
        hardware=document.text("hardware"),
        devices=_whole(document, "devices"),
        model=document.text("model_id"),
        precision=document.text("precision"),
        engine=document.text("engine") or _ENGINES.get(backend, ""),
        tensor=_whole(document, "tensor") or _whole(document, "tp"),
        data=_whole(document, "data"),
        expert=_whole(document, "expert"),
        pipeline=_whole(document, "pipeline"),
    )


def _whole(document: Document, key: str) -> int | None:
    """A whole number of metadata, which the tool writes as text."""
    value = document.find(key)
    if value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        raise TrafficError(
            f"{document.place}: {key} is {value!r}, not a whole number.", hint=f"Save it with --metadata {key}=1."
        ) from None
