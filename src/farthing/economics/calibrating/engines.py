"""Serving engines by name: what is one family with constants of its own, whatever the version."""

FAMILIES = ("vllm", "sglang", "trtllm", "vllm-static", "trtllm-static", "other-static")
"""Engines with constants of their own; timing one static batch is another thing than serving."""

_STATIC = " (static batch)"
_PARTS = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "tensorrt": "trtllm", "trt-llm": "trtllm"}


def engine_of(name: str, kind: str = "") -> str:
    """The name of an engine with its version, by which classes of deployments are told apart.

    >>> engine_of("vLLM 0.6.5 ", "static_batch")
    'vllm 0.6.5 (static batch)'
    """
    return name.strip().lower() + (_STATIC if kind == "static_batch" else "")


def engine_family(engine: str) -> str:
    """The family of an engine; "other" for one that has no constants of its own.

    >>> engine_family("vLLM 0.6.5"), engine_family("TensorRT 10.8"), engine_family("deepspeed (static batch)")
    ('vllm', 'trtllm', 'other-static')
    """
    name = engine.lower()
    family = next((known for part, known in _PARTS.items() if part in name), "other")
    return f"{family}-static" if name.endswith(_STATIC) else family
