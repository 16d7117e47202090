"""Names of hardware and models as people write them, reduced to what tells one thing from another."""

import re
from functools import lru_cache
from typing import NamedTuple

_WORD = re.compile(r"[a-z0-9.+]+")

_VENDORS = {
    "nvidia", "amd", "intel", "aws", "amazon", "google", "cloud", "habana", "corporation", "tesla", "geforce",
    "instinct", "quadro", "gpu", "gpus", "cpu", "cpus", "accelerator", "processor", "graphics",
    "generation", "ada", "hbm", "hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr7", "oam", "r", "tm", "platinum",
    "gold", "socket", "x1", "node", "hgx", "dgx", "device", "card", "chip", "blackwell", "hopper", "ampere", "server",
    "edition",
}  # fmt: skip
"""Words that never tell one device from another."""

_MEMORY = re.compile(r"(\d+)(?:gb|gib|g)")
_FORM = {"sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm", "sxm6": "sxm", "pcie4": "pcie", "pcie5": "pcie"}
_TIMES = re.compile(r"(?:^|[\s(])(\d+)\s*x\s*(?=[a-z])")


class DeviceName(NamedTuple):
    """A name of hardware, reduced: the gigabytes it names are 0 for none, `times` is how many it says there are."""

    key: str
    gigabytes: int
    times: int


@lru_cache(maxsize=16_384)
def device_name(name: str) -> DeviceName:
    """A name of hardware without vendor, form of writing, and memory.

    >>> device_name("NVIDIA A100-SXM4-80GB"), device_name("CPU 2xINTEL(R) XEON(R) 6787P")
    (DeviceName(key='a100sxm', gigabytes=80, times=1), DeviceName(key='xeon6787p', gigabytes=0, times=2))
    """
    text = name.lower().replace("_", " ").replace("tensor core", " ")
    times = _TIMES.search(text)
    count = int(times[1]) if times else 1
    if times:
        text = text[: times.start()] + " " + text[times.end() :]
    gigabytes, kept = 0, []
    for word in _WORD.findall(text):
        if memory := _MEMORY.fullmatch(word):
            gigabytes = int(memory[1])
        elif word not in _VENDORS:
            kept.append(_FORM.get(word, word))
    return DeviceName("".join(kept), gigabytes, count)


_SIZE = re.compile(r"(?:\d+x)?\d+(?:\.\d+)?[bm]|a\d+(?:\.\d+)?b|\d+e")
_GLUED = re.compile(r"([a-z]{2,})(\d+(?:\.\d+)?[bm])")
_VERSION = re.compile(r"v[01]\.\d+|v1")
_DATE = re.compile(r"\d{4}|\d{6}|20\d{6}")
_VARIANTS = {
    "instruct", "chat", "it", "hf", "base", "pt", "meta", "thinking", "preview", "latest", "tuned", "sft", "dpo", "rl",
    "fp8", "fp16", "bf16", "fp4", "nvfp4", "mxfp4", "int4", "int8", "4bit", "8bit", "awq", "gptq", "gguf", "bnb",
    "w8a8", "w4a16", "w8a16", "w4a8", "quantized", "dynamic", "static", "pertensor", "block", "kv", "turbo", "moe",
    "coder", "math", "code", "original", "model", "unsloth", "nm", "testing", "quant", "autoround", "torchao", "1m",
    "99", "99.9",
    "128k", "32k", "4k", "8k", "16k", "64k", "256k", "long", "kvcache", "gs128", "asym", "sym", "marlin", "mlx", "text",
}  # fmt: skip
"""Words that change neither the shape of a model nor its size."""

_OTHER_SHAPES = {
    "eagle", "eagle2", "eagle3", "draft", "drafter", "medusa", "hydra", "speculator", "adapter", "lora", "pruned",
    "minitron", "reranker", "embedding", "assistant", "mtp", "guard", "vision", "vl", "audio", "omni", "multimodal",
    "2of4", "sparse", "merged", "upscaled", "moa", "frankenmoe", "distill", "distilled",
}  # fmt: skip
"""Words of a model that is another shape than the one whose name it carries."""


@lru_cache(maxsize=65_536)
def model_words(name: str) -> tuple[str, ...]:
    """The words of a model's name in lower case, without its publisher, with versions written alike.

    >>> model_words("meta-llama/Llama-3_1-8B-Instruct"), model_words("falcon180B")
    (('llama', '3.1', '8b', 'instruct'), ('falcon', '180b'))
    """
    text = name.strip().rstrip("/").rsplit("/", 1)[-1].lower()
    text = re.sub(r"(?<=\d)_(?=\d)", ".", text)
    words: list[str] = []
    for word in re.findall(r"[a-z0-9.+]+", text):
        glued = _GLUED.fullmatch(word)
        words.extend(glued.groups() if glued else (word,))
    return tuple(words)


def model_key(name: str) -> str:
    """A model's name with everything in it that may tell it from another; sizes stand apart.

    >>> model_key("Qwen/Qwen3-8B"), model_key("qwen 3 8b"), model_key("Qwen-38B")
    ('qwen3 8b', 'qwen3 8b', 'qwen 38b')
    """
    return _joined(model_words(name))


def plain_key(name: str) -> str:
    """A model's name without what changes neither its shape nor its size.

    >>> plain_key("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8")
    'qwen3 235b a22b'
    """
    return _joined(_plain_words(name))


def inner_keys(name: str) -> tuple[str, ...]:
    """Keys of the runs of words within a name that say a size, the longest first; none if words outside say another.

    >>> inner_keys("NousResearch/Hermes-3-Llama-3.1-8B")[-2:], inner_keys("Llama-3.1-8B-EAGLE3")
    (('llama3.1 8b', '3.1 8b'), ())
    """
    words = _plain_words(name)
    if any(word in _OTHER_SHAPES for word in words):
        return ()
    found = []
    for length in range(len(words) - 1, 1, -1):
        for start in range(len(words) - length + 1):
            inside, outside = words[start : start + length], words[:start] + words[start + length :]
            if any(map(_SIZE.fullmatch, inside)) and not any(map(_SIZE.fullmatch, outside)):
                found.append(_joined(inside))
    return tuple(found)


def _plain_words(name: str) -> tuple[str, ...]:
    return tuple(
        word
        for word in model_words(name)
        if word not in _VARIANTS and not _DATE.fullmatch(word) and not _VERSION.fullmatch(word)
    )


def _joined(words: tuple[str, ...]) -> str:
    text = "".join(f" {word} " if _SIZE.fullmatch(word) else word for word in words)
    return " ".join(text.split())
