"""Results of `python -m sglang.bench_serving --output-file`, one JSON object per line and run."""

from collections.abc import Iterator
from pathlib import Path

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, completed
from farthing.importers.serving.documents import Document, documents
from farthing.importers.serving.runs import Run, measured
from farthing.importers.serving.vllm_bench import endless

NAMES = frozenset(("backend", "dataset_name", "completed", "total_output_tokens_retokenized", "output_throughput"))

_ENGINES = {
    "sglang": "sglang", "sglang-native": "sglang", "sglang-oai": "sglang", "sglang-oai-chat": "sglang",
    "vllm": "vllm", "vllm-chat": "vllm", "lmdeploy": "lmdeploy", "lmdeploy-chat": "lmdeploy", "trt": "trtllm",
}  # fmt: skip

_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

_TOOL = "sglang bench_serving"


def read(path: Path, setup: Setup) -> Iterator[Measurement]:
    """One measurement per run; means, or medians where a file has no means."""
    for document in documents(path):
        if not document.data.keys() >= NAMES:
            missing = ", ".join(sorted(NAMES - document.data.keys()))
            raise document.error(f"this is no result of {_TOOL}: it has no {missing}")
        yield measured(_run(document), completed(setup, _said(document), document.place))


def _run(document: Document) -> Run:
    count = document.needed("completed")
    rate = document.find("request_rate")
    asked = document.number("num_prompts")
    drafted = document.number("accept_length")
    return Run(
        place=document.place,
        tool=_TOOL,
        completed=count,
        failed=max(asked - count, 0.0) if asked else 0.0,
        input_tokens=document.needed("total_input_tokens") / count,
        output_tokens=document.needed("total_output_tokens") / count,
        output_tokens_per_s=document.needed("output_throughput"),
        ttft_s=document.seconds("mean_ttft_ms") or document.seconds("median_ttft_ms"),
        tpot_s=document.seconds("mean_tpot_ms") or document.seconds("median_tpot_ms"),
        e2e_s=document.seconds("mean_e2e_latency_ms"),
        callers=document.number("max_concurrency") or None,
        requests_per_s=None if endless(rate) else document.needed("request_rate"),
        note=f"drafts, {drafted:.3g} tokens accepted a step" if drafted and drafted > 1 else "",
    )


def _said(document: Document) -> Setup:
    """What the file says of the server: newer ones carry its arguments.

    With attention data parallelism, SGLang counts the copies among its tensor-parallel devices.
    """
    tensor, data = (_count(document, name) for name in ("tp_size", "dp_size"))
    if document.find("server_info", "enable_dp_attention") and tensor and data:
        tensor //= data
    dtype = document.text("server_info", "dtype")
    return Setup(
        model=document.text("server_info", "model_path"),
        precision=document.text("server_info", "quantization") or _PRECISIONS.get(dtype, ""),
        engine=_ENGINES.get(document.text("backend"), ""),
        tensor=tensor,
        data=data,
        expert=_count(document, "ep_size"),
        pipeline=_count(document, "pp_size"),
    )


def _count(document: Document, name: str) -> int | None:
    value = document.number("server_info", name)
    return int(value) if value else None
