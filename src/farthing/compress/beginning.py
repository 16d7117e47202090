"""The beginning: from examples alone to a job file that says what was found and what is suggested."""

import os
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np

from farthing.compress.data.reading import Gathered, read_examples
from farthing.compress.job import Data, Teacher
from farthing.errors import ConfigError
from farthing.prompts.estimate import estimate_tokens
from farthing.schema import Task

SHOWN = 8
"""How many labels are listed with their counts."""

_ROOM = 1.3
"""Tokenizers of encoders cut rare words into more pieces than the estimate knows."""


class _Encoder(msgspec.Struct, frozen=True):
    """What the Hugging Face format says of an encoder's shape; zeros where it does not."""

    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    intermediate_size: int = 0


_OWN = _Encoder(Teacher().layers, Teacher().width // 32, 4 * Teacher().width)
"""The encoder that is trained where no teacher is named."""


class Beginning(msgspec.Struct, frozen=True):
    """What a job is made of: its name, where its examples are, what is in them, and whom to learn from."""

    name: str
    data: Data
    task: Task
    found: Gathered
    teacher: str
    traffic: bool = False


def begun(data: Data, task: Task, folder: Path, teacher: str, traffic: bool) -> Beginning:
    """Look at the examples of a job that is to lie in `folder`; raises TrafficError when they cannot be used."""
    found = read_examples(data, data.train, task, folder, None)
    return Beginning(Path(data.train[0]).stem, data, task, found, teacher, traffic)


def job_text(beginning: Beginning, folder: Path) -> str:
    """A job file for what was found, with every figure it suggests explained."""
    return "\n".join(
        [*_head(beginning), *_data(beginning), *_teacher(beginning), *_stages(beginning, folder), *_rest()]
    )


def write_job(file: Path, text: str) -> None:
    """Write a job file that is not there yet; raises ConfigError when it is, or cannot be written."""
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise ConfigError(f"{file} is there already.", hint="Name another file; nothing was written.") from None
    except OSError as error:
        hint = "Name a file that you may write to."
        raise ConfigError(f"{file} cannot be written: {error.strerror}.", hint=hint) from None


def seen_from(folder: Path, file: Path) -> str:
    """How a file is named in a job file that lies in `folder`: relative where it lies below it."""
    file = Path(os.path.abspath(file))  # links are kept as they are named
    try:
        return file.relative_to(Path(os.path.abspath(folder))).as_posix()
    except ValueError:
        return str(file)


def max_length(beginning: Beginning) -> int:
    """Tokens that hold 99 of 100 of the texts whole, by an estimate."""
    texts = beginning.found.examples
    both = zip(texts.texts, texts.seconds or [""] * len(texts), strict=True)
    tokens = np.percentile([estimate_tokens(first) + estimate_tokens(second) for first, second in both], 99)
    return int(min(max(-(-(tokens * _ROOM + 2) // 8) * 8, 16), 512))


def _head(beginning: Beginning) -> list[str]:
    found = beginning.found
    lines = [
        "# A job for `farthing compress run`. What is left out here takes its default.",
        f"name = {_quoted(beginning.name)}",
        f"task = {_quoted(beginning.task)}",
        f"out = {_quoted(f'{beginning.name}-small')}  # the folder for the result",
        "",
        f"# Found: {len(found.examples):,} examples{_labels(beginning)}.",
        f"# Characters to a text: {_lengths(found.examples.texts)}.",
    ]
    lines += [f"# Note: {_one_line(warning)}" for warning in found.warnings]
    if found.alone:
        lines.append(f"# Classes with one example, which must go or grow before it runs: {_one_line(found.alone)}")
    return [*lines, ""]


def _data(beginning: Beginning) -> list[str]:
    data = beginning.data
    lines = ["[data]", f"train = [{', '.join(map(_quoted, data.train))}]"]
    if beginning.traffic:
        lines.append(
            "# Recorded traffic: the text is what the user said last, the label what the large model answered."
        )
    else:
        lines.append(f"text = {_quoted(data.text)}")
        if beginning.task != "embedding":
            lines.append(f"label = {_quoted(data.label)}")
    return [
        *lines,
        "held_out = 0.1  # the share of the examples that decides; or name files of their own with dev = [...]",
        '# test = ["test.csv"]  # looked at once, at the end',
        '# unlabeled = ["more.txt"]  # texts without labels: the more of your own, the better the student',
        '# outside = ["other.txt"]  # texts that belong to no label, to see whether the model notices',
        f"max_length = {max_length(beginning)}  # tokens; 99 of 100 texts are shorter, by an estimate",
        "",
    ]


def _teacher(beginning: Beginning) -> list[str]:
    lines = [
        "[teacher]",
        f"path = {_quoted(beginning.teacher)}  # an encoder in the Hugging Face format",
    ]
    if not beginning.teacher:
        lines[1] += "; empty, one learns all from the texts"
    if beginning.task == "embedding":
        return [*lines, "finished = true  # a teacher of embeddings is taken as it is", ""]
    return [*lines, "finished = false  # true takes it as it is, false trains it on the labels first", ""]


def _stages(beginning: Beginning, folder: Path) -> list[str]:
    shape = _shape_of(folder / beginning.teacher) if beginning.teacher else _OWN
    layers, heads, ffn = (
        "2  # how many of the teacher's",
        "4  # left in every layer",
        "320  # neurons left in every layer",
    )
    if min(shape.num_hidden_layers, shape.num_attention_heads, shape.intermediate_size) > 0:
        kept = sorted({0, shape.num_hidden_layers - 1})
        layers = f"{kept}  # of the teacher's {shape.num_hidden_layers}, counted from 0"
        heads = f"{max(shape.num_attention_heads // 3, 1)}  # left in every layer, of {shape.num_attention_heads}"
        neurons = min(-(-shape.intermediate_size // (5 * 64)) * 64, shape.intermediate_size)
        ffn = f"{neurons}  # neurons left in every layer, of {shape.intermediate_size}"
    return [
        "# Each stage is measured, and backed off where it breaks the floor. Any subset runs; quantize comes last.",
        "[[stages]]",
        'kind = "distil"',
        f"layers = {layers}",
        "",
        "[[stages]]",
        'kind = "prune"',
        f"heads = {heads}",
        f"ffn = {ffn}",
        "",
        "[[stages]]",
        'kind = "quantize"  # to 8 bits',
        "",
    ]


def _rest() -> list[str]:
    return [
        "[targets]",
        "lost = 1.0  # the most points that the whole line may lose",
        "# smaller = 30.0  # times, on disk",
        "# faster = 10.0  # times, in CPU time of one text alone",
        "",
        "[machine]",
        "usd_per_h = 0.05  # what an hour of the machine that serves costs",
        "# calls_per_s = 100.0  # at the peak, for the annual case",
        "",
    ]


def _labels(beginning: Beginning) -> str:
    labels, targets = beginning.found.labels, beginning.found.examples.targets
    if beginning.task != "classification" or not isinstance(targets, np.ndarray):
        return f", {len(labels)} labels" if labels and beginning.task != "regression" else ""
    counts = Counter({labels[index]: int(count) for index, count in enumerate(np.bincount(targets)) if count})
    ranked = counts.most_common()
    some = ", ".join(f"{_one_line(label)} {count:,}" for label, count in ranked[:SHOWN])
    more = f", ... {_one_line(ranked[-1][0])} {ranked[-1][1]:,}" if len(ranked) > SHOWN else ""
    return f", {len(labels)} labels ({some}{more})"


def _lengths(texts: tuple[str, ...]) -> str:
    low, middle, high, longest = np.percentile([len(text) for text in texts], [5, 50, 95, 100])
    return f"5 % have {low:,.0f} or fewer, half {middle:,.0f}, 95 % {high:,.0f}, and the longest {longest:,.0f}"


def _shape_of(folder: Path) -> _Encoder:
    """The shape that an encoder's folder tells of; zeros where there is no such folder."""
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=_Encoder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _Encoder()


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
