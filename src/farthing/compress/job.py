"""Job: what is to be compressed, how far, and what must not be lost; one TOML file."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from farthing.schema import Task

Count = Annotated[int, Meta(ge=1, description="a whole number from 1")]
Epochs = Annotated[int, Meta(ge=0, le=1000, description="a whole number of epochs, 0 to 1000")]
Part = Annotated[float, Meta(gt=0, lt=1, description="a share between 0 and 1")]
Rate = Annotated[float, Meta(gt=0, lt=1, description="a learning rate between 0 and 1")]
Points = Annotated[float, Meta(ge=0, le=100, description="points from 0 to 100")]
RecipeName = Literal["dynamic", "dynamic-reduced", "static", "static-reduced", "static-entropy", "static-percentile"]
Weight = Annotated[float, Meta(ge=0, description="a weight, 0 for none")]


class Augment(Struct, frozen=True, forbid_unknown_fields=True):
    """Texts made from those given, for the teacher to label: `copies` of each, by the operations named."""

    copies: Annotated[int, Meta(ge=0, le=100)] = 2
    operations: tuple[Literal["crossover", "delete", "swap", "typo", "case"], ...] = (
        "crossover",
        "delete",
        "swap",
        "typo",
    )


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the texts are: CSV, JSONL, Parquet, plain text (one a line) or Farthing's own traffic.

    `text`, `label` and `second` name columns. `train` is split: a share `held_out`, drawn with the job's seed and
    stratified by label, decides everything; or `dev` is a file of its own. `test` is looked at once, at the end.
    `unlabeled` texts are labelled by the teacher; `outside` are texts that belong to no label, to see whether the model
    notices. `separator` parts the labels of a multi-label column. `licence` is what the model card says of the data.
    """

    train: tuple[str, ...]
    text: str = "text"
    label: str = "label"
    second: str = ""
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    unlabeled: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    held_out: Part = 0.1
    separator: str = ","
    max_length: Annotated[int, Meta(ge=4, le=8192)] = 64
    augment: Augment = Augment()
    licence: str = ""


class Labeller(Struct, frozen=True, forbid_unknown_fields=True):
    """A large model that labels texts, asked through an OpenAI-compatible endpoint such as the gateway.

    `instructions` stand before the list of labels; `key` is a reference ("env:NAME"); an answer given less often than
    `confidence` of `votes` times is left out.
    """

    model: str
    base_url: str = "http://127.0.0.1:8787/v1"
    key: str = ""
    instructions: str = "Say which one of these labels fits the text best. Answer with the label alone."
    votes: Count = 1
    confidence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    concurrency: Count = 8


class Teacher(Struct, frozen=True, forbid_unknown_fields=True):
    """The model to learn from: a model in the Hugging Face format, fine-tuned here unless it is `finished`.

    `path` is a folder, a name on the hub, or `package:NAME/folder` of an installed package. Without one, an encoder of
    `layers` and `width` learns all from the texts, which takes many of them.
    `members` of an ensemble are fine-tuned from successive seeds and averaged. The lowest `frozen` layers are left as
    they are. With a `labeller`, texts without a label are labelled by a larger model first.
    """

    path: str = ""
    finished: bool = False
    members: Count = 1
    epochs: Epochs = 3
    rate: Rate = 2e-4
    batch: Count = 32
    frozen: Annotated[int, Meta(ge=0)] = 0
    layers: Count = 4
    width: Annotated[int, Meta(ge=32, multiple_of=32)] = 256
    pooling: Literal["auto", "mean", "first"] = "auto"
    labeller: Labeller | None = None


class Losses(Struct, frozen=True, forbid_unknown_fields=True):
    """What pulls the student, and how hard: the teacher's softened answers, true labels, what goes on inside."""

    soft: Weight = 1.0
    hard: Weight = 0.2
    pooled: Weight = 4.0
    hidden: Weight = 0.0
    relations: Weight = 0.0
    contrastive: Weight = 0.0


class Distil(Struct, frozen=True, forbid_unknown_fields=True, tag="distil", tag_field="kind"):
    """Teach a smaller student: these `layers` of the teacher (by number, or how many), narrower if `width` says so.

    `vocabulary` is the most pieces kept, of those seen at least `seen` times (0: all kept); `embedding` the width of
    the factorised embeddings (0: not factorised).
    """

    layers: tuple[int, ...] | Count = 2
    width: Annotated[int, Meta(ge=0)] = 0
    vocabulary: Annotated[int, Meta(ge=0)] = 30_000
    seen: Count = 1
    embedding: Annotated[int, Meta(ge=0)] = 128
    epochs: Epochs = 6
    rate: Rate = 5e-4
    batch: Count = 64
    temperature: Annotated[float, Meta(gt=0)] = 2.0
    losses: Losses = Losses()
    patience: Count = 3


class Prune(Struct, frozen=True, forbid_unknown_fields=True, tag="prune", tag_field="kind"):
    """Cut out what matters least, in `steps` with recovery after each: the numbers left in every layer (0: all).

    `importance` is measured by first-order Taylor terms of the loss, or by the size of activations.
    """

    heads: Annotated[int, Meta(ge=0)] = 0
    ffn: Annotated[int, Meta(ge=0)] = 0
    width: Annotated[int, Meta(ge=0)] = 0
    layers: Annotated[int, Meta(ge=0)] = 0
    vocabulary: Annotated[int, Meta(ge=0)] = 0
    importance: Literal["taylor", "activation"] = "taylor"
    steps: Count = 1
    epochs: Epochs = 6
    rate: Rate = 5e-4
    batch: Count = 64
    temperature: Annotated[float, Meta(gt=0)] = 2.0
    losses: Losses = Losses()
    patience: Count = 3


class Quantize(Struct, frozen=True, forbid_unknown_fields=True, tag="quantize", tag_field="kind"):
    """Store and compute in 8 bits: the `recipes` are tried, and the fastest that keeps the floor is taken.

    `embeddings` is the number of bits the embedding table is stored in. Where none keeps the floor, the most sensitive
    layers stay in fp32, at most `exceptions` of them, and the model is trained with rounding for `recovery` epochs.
    """

    recipes: tuple[RecipeName, ...] = ("dynamic", "dynamic-reduced", "static")
    embeddings: Literal[4, 8, 32] = 8
    exceptions: Annotated[int, Meta(ge=0)] = 4
    recovery: Epochs = 0
    calibration: Count = 256


Stage = Distil | Prune | Quantize


class Targets(Struct, frozen=True, forbid_unknown_fields=True):
    """What the result must be: `lost` is the most points of the main metric that the whole line may lose.

    `smaller` and `faster` are ratios to the teacher; 0 asks for nothing. Sizes in MB, times in ms of CPU at batch 1.
    `sure` is how many percent of the answers that are given without asking a larger model must be right, with 95 %
    confidence; it sets the threshold of the artefact.
    """

    lost: Points = 1.0
    smaller: Annotated[float, Meta(ge=0)] = 0.0
    faster: Annotated[float, Meta(ge=0)] = 0.0
    size_mb: Annotated[float, Meta(ge=0)] = 0.0
    latency_ms: Annotated[float, Meta(ge=0)] = 0.0
    recall_lost: Points = 20.0
    usd_per_1k: Annotated[float, Meta(ge=0)] = 0.0
    sure: Points = 97.0


class Search(Struct, frozen=True, forbid_unknown_fields=True):
    """Try several sizes of the stages under the targets: `trials` shapes, halved in each of so many `rungs`.

    The last rung trains for all the epochs of the stages, each one before for half as many as the next. `engine` says
    where: one after the other here, or at once on Ray (`pip install 'farthing[ray]'`).
    """

    trials: Count = 8
    rungs: Count = 2
    engine: Literal["local", "ray"] = "local"


class Machine(Struct, frozen=True, forbid_unknown_fields=True):
    """What the result runs on, and what is paid for it: `usd_per_h` a machine, `calls_per_s` at the peak.

    `before_usd_per_1k` is what 1,000 calls cost today. Each model is measured for so many `seconds`.
    """

    usd_per_h: Annotated[float, Meta(ge=0)] = 0.05
    threads: Annotated[int, Meta(ge=0)] = 1
    calls_per_s: Annotated[float, Meta(ge=0)] = 0.0
    calls_per_year: Annotated[float, Meta(ge=0)] = 0.0
    before_usd_per_1k: Annotated[float, Meta(ge=0)] = 0.0
    spare: Annotated[int, Meta(ge=0)] = 1
    seconds: Annotated[float, Meta(gt=0)] = 5.0


class Job(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of compression, from a teacher to an artefact in the folder `out`."""

    name: str
    data: Data
    teacher: Teacher = Teacher()
    task: Task = "classification"
    stages: tuple[Stage, ...] = (Distil(), Prune(heads=4, ffn=320), Quantize())
    targets: Targets = Targets()
    search: Search | None = None
    machine: Machine = Machine()
    out: str = "compressed"
    seed: int = 7
