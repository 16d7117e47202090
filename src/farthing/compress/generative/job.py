"""GenerativeJob: which decoder is to be compressed, how far, and what must not be lost; one TOML file."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from farthing.compress.job import Count, Epochs, Part, Points, Rate, Weight

Task = Literal["generation"]


class Texts(Struct, frozen=True, forbid_unknown_fields=True):
    """What the decoder is to be good at: texts, one a line (.txt), or a column of a table.

    `text` names the column. A share `held_out` of `train`, or the files `dev`, decides; of those at most `scored` texts
    are measured. `checks` are JSONL files with a `prompt` and the `answer` that should follow it to the letter. Texts
    longer than `length` tokens are cut into pieces.
    """

    train: tuple[str, ...]
    text: str = "text"
    dev: tuple[str, ...] = ()
    held_out: Part = 0.1
    checks: tuple[str, ...] = ()
    length: Annotated[int, Meta(ge=8, le=131_072)] = 256
    scored: Count = 500


class Decoder(Struct, frozen=True, forbid_unknown_fields=True):
    """The model to begin with: a folder in the Hugging Face format, with safetensors and a tokenizer.json."""

    path: str


class Shrink(Struct, frozen=True, forbid_unknown_fields=True, tag="shrink", tag_field="kind"):
    """Cut out whole `layers` (how many, those that change least first), then width in what is left.

    `ffn` is the share of the feed-forward channels that stays, `kv_heads` how many key-value heads stay, with their
    query heads (0: all). What matters is measured on `calibration` texts.
    """

    layers: Annotated[int, Meta(ge=0)] = 0
    ffn: Annotated[float, Meta(gt=0, le=1)] = 1.0
    kv_heads: Annotated[int, Meta(ge=0)] = 0
    calibration: Count = 128


class Relearn(Struct, frozen=True, forbid_unknown_fields=True, tag="distil", tag_field="kind"):
    """Teach what was shrunk by the answers of the decoder it was made from.

    Of the teacher's next-token probabilities, softened by `temperature`, the `best` are learned one by one and the rest
    as one; `hard` weighs the token that really came. At most `tokens` tokens are trained on (0: no limit).
    """

    epochs: Epochs = 3
    rate: Rate = 3e-4
    batch: Count = 16
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    soft: Weight = 1.0
    hard: Weight = 0.1
    best: Count = 64
    tokens: Annotated[int, Meta(ge=0)] = 0
    patience: Count = 2


class Weights(Struct, frozen=True, forbid_unknown_fields=True, tag="quantize", tag_field="kind"):
    """Store the weights in 4 or 8 bits, in blocks with a scale each, for ONNX Runtime on a CPU (32: as they are).

    Not `symmetric` blocks have a zero point too. `fit` says how a block's scale is found: from its largest weight, or
    by least squares (k_quant). `activations` may be rounded to 8 bits while multiplied, which is faster.
    """

    bits: Literal[4, 8, 32] = 8
    block: Literal[16, 32, 64, 128, 256] = 32
    symmetric: bool = True
    fit: Literal["rtn", "k_quant"] = "rtn"
    activations: Literal[8, 32] = 8


class Export(Struct, frozen=True, forbid_unknown_fields=True, tag="export", tag_field="kind"):
    """Write the dense model for another server: a GGUF file for llama.cpp, or a script that quantizes it for vLLM."""

    to: Literal["gguf-f16", "gguf-q8_0", "gguf-q4_0", "vllm-fp8", "vllm-w8a8", "vllm-w4a16"] = "gguf-q8_0"


Stage = Shrink | Relearn | Weights | Export


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stage may lose against the decoder that the job begins with.

    `perplexity` is the most that held-out perplexity may be multiplied by, compared with the upper end of its 95 %
    interval; `lost` the most points of exact match, where there are checks.
    """

    perplexity: Annotated[float, Meta(ge=1)] = 1.1
    lost: Points = 2.0


class Host(Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured on: `threads` of this machine."""

    threads: Count = 1


class GenerativeJob(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of compression of a decoder, into the folder `out`."""

    name: str
    data: Texts
    teacher: Decoder
    task: Task
    stages: tuple[Stage, ...] = (Shrink(layers=1), Relearn(), Weights())
    targets: Limits = Limits()
    machine: Host = Host()
    out: str = "compressed"
    seed: int = 7
