"""`farthing compress classify`: label texts with a model that a run made."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_needs import needing
from farthing.cli.render import table
from farthing.errors import ConfigError, FarthingError
from farthing.schema import Artefact

if TYPE_CHECKING:  # they need numpy and ONNX Runtime, and the help of a command does not
    from farthing.engines.onnx import Model
    from farthing.engines.scoring import Scored

TASKS = ("classification", "multi-label", "regression")
AT_ONCE = 256
"""Texts of standard input that are answered together, so that the first answers do not wait for the last text."""


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model says of a text: labels with their confidence, or a score.

    `sure` is whether the confidence reaches the model's threshold, from which on no larger model needs to be asked.
    """

    text: str
    labels: tuple[str, ...] = ()
    confidence: float | None = None
    score: float | None = None
    sure: bool = True


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@verb
def command(asked: Asked, folder: Path, texts: tuple[str, ...]) -> None:
    """Label each TEXT, or each line of standard input, with the model in DIR.

    Answers that the model is less confident of than its threshold are marked: there a larger one should be asked. With
    --json, each line is one answer.
    """
    with needing("engine"):
        from farthing.engines.onnx import Model
    model = Model.load(folder)
    if model.artefact.task not in TASKS:
        raise ConfigError(
            f"{folder} is for {model.artefact.task}, which gives no label to a text.",
            hint="`farthing compress serve` answers /v1/embeddings with it."
            if model.artefact.task == "embedding"
            else "",
        )
    lines = (line.rstrip("\r\n") for line in sys.stdin)
    waiting = iter(texts) if texts else (line for line in lines if line.strip())
    while some := list(islice(waiting, AT_ONCE)):
        answers = list(_answers(model, some))
        click.echo("\n".join(_as_line(one) for one in answers) if asked.json else _in_words(answers))


def _answers(model: "Model", texts: list[str]) -> Iterator[Answered]:
    from farthing.engines.scoring import score

    for text, scored in zip(texts, score(model, texts), strict=True):
        if isinstance(scored, FarthingError):
            raise scored
        if isinstance(scored, Exception):
            raise ConfigError(f"{text[:60]!r} cannot be labelled: {scored}.")
        yield _answered(model.artefact, text, scored)


def _answered(artefact: Artefact, text: str, scored: "Scored") -> Answered:
    values = [float(value) for value in scored.values]
    if artefact.task == "regression":
        return Answered(text, score=values[0])
    sure = scored.confidence >= artefact.threshold
    if artefact.task == "classification":
        return Answered(text, (artefact.labels[scored.best],), scored.confidence, sure=sure)
    named = tuple(label for label, value in zip(artefact.labels, values, strict=True) if value >= 0.5)
    return Answered(text, named, scored.confidence, sure=sure)


def _as_line(one: Answered) -> str:
    return msgspec.json.encode(one).decode()


def _in_words(answers: list[Answered]) -> str:
    rows = []
    for one in answers:
        said = ", ".join(one.labels) or "(none)" if one.score is None else f"{one.score:.4g}"
        confidence = "" if one.confidence is None else f"{one.confidence:.3f}{'' if one.sure else ' unsure'}"
        shown = one.text if len(one.text) <= 60 else f"{one.text[:57]}..."
        rows.append((said, confidence, shown))
    return table(("", "", ""), rows, labels=3)
