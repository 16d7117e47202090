"""Reading what a decoder's job names: the job file itself, texts, and checks with one right answer."""

import tomllib
from pathlib import Path

import msgspec
import numpy as np

from farthing.compress.data.reading import read_texts, split
from farthing.compress.generative.job import GenerativeJob, Relearn, Shrink, Texts
from farthing.compress.job import Data
from farthing.errors import ConfigError, TrafficError

FEWEST = 2
"""Texts that have to be there, so that one can be held out."""


class Check(msgspec.Struct, frozen=True):
    """A prompt, and the text that should follow it to the letter."""

    prompt: str
    answer: str


class Material(msgspec.Struct, frozen=True):
    """Texts to learn from, texts that decide, checks, and what a person should know about them."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]


def parse_generative(text: str, where: str) -> GenerativeJob:
    """The job a TOML text describes; `where` names its file in messages. Raises ConfigError."""
    try:
        job = msgspec.toml.decode(text.removeprefix("\ufeff"), type=GenerativeJob)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where}: {error}", hint="docs/guides/compress-a-decoder.md lists every key.") from None
    for place, stage in enumerate(job.stages):
        earlier = job.stages[place - 1] if place else None
        if isinstance(stage, Shrink) and not stage.layers and stage.ffn == 1 and not stage.kv_heads:
            raise ConfigError(f"{where}: stages[{place}] shrinks nothing.", hint="Give layers, ffn or kv_heads.")
        if isinstance(stage, Shrink | Relearn) and earlier and not isinstance(earlier, Shrink | Relearn):
            raise ConfigError(
                f"{where}: stages[{place}] would train a model whose weights are rounded already.",
                hint='Put "shrink" and "distil" before "quantize" and "export".',
            )
    return job


def read_material(texts: Texts, folder: Path, seed: int) -> Material:
    """The texts and checks of a job whose files are named as seen from `folder`.

    No text that decides, and no check, is among those to learn from. Raises TrafficError with file and line.
    """
    data = Data(train=texts.train, text=texts.text)
    gathered = read_texts(data, texts.train, folder)
    warnings = list(gathered.warnings)
    train, checks = gathered.examples, read_checks(texts.checks, folder)
    if texts.dev:
        found = read_texts(data, texts.dev, folder)
        warnings += found.warnings
        dev = found.examples.texts
        if not dev:
            raise TrafficError(f"{', '.join(texts.dev)} hold no text.", hint="Give texts, or leave data.dev out.")
    elif len(train) < FEWEST:
        raise TrafficError(
            f"{', '.join(texts.train)}: {len(train)} texts are not enough to hold one out.", hint="Give two at least."
        )
    else:
        train, held = split(train, texts.held_out, np.random.default_rng(seed), stratified=False)
        dev = held.texts
    measured = {*dev, *(check.prompt + check.answer for check in checks)}
    left = tuple(text for text in train.texts if text not in measured)
    if gone := len(train) - len(left):
        warnings.append(f"{gone:,} texts are measured with, and are not learned from.")
    if not left:
        raise TrafficError("No text is left to learn from.", hint="Give others than those that are measured with.")
    return Material(left, dev[: texts.scored], checks, tuple(warnings))


def read_checks(files: tuple[str, ...], folder: Path) -> tuple[Check, ...]:
    """The checks of JSONL files, in their order. Raises TrafficError with file and line."""
    checks: list[Check] = []
    for name in files:
        path = folder / name
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise TrafficError(f"{path} cannot be read: {error.strerror}.", hint="Check `data.checks`.") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                check = msgspec.json.decode(line, type=Check)
            except msgspec.DecodeError as error:
                hint = 'A line is {"prompt": "...", "answer": "..."}.'
                raise TrafficError(f"{path}, line {number}: {error}", hint=hint) from None
            if not check.prompt or not check.answer.strip():
                raise TrafficError(f"{path}, line {number}: an empty prompt or answer.", hint="Leave the line out.")
            checks.append(check)
    return tuple(checks)
