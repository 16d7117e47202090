"""Labels: from what a file says of its texts to the targets a model is trained on."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from math import isfinite
from pathlib import Path

import msgspec
import numpy as np

from farthing.compress.data.rows import refused
from farthing.compress.examples import Targets
from farthing.errors import TrafficError
from farthing.schema import Task

Said = str | tuple[str, ...] | float | tuple["Marked", ...]
"""What is said of one text: a label, several, a number, or marked spans."""

SHOWN = 5
"""How many of what is wrong a message lists."""


class Marked(msgspec.Struct, frozen=True):
    """A stretch of a text, from `start` to before `end` in characters, and its label."""

    start: int
    end: int
    label: str


class Place(msgspec.Struct, frozen=True):
    """Where something was read."""

    path: Path
    row: str

    def __str__(self) -> str:
        return f"{self.path}, {self.row}"


def said_of(value: object, text: str, task: Task, separator: str, place: Place) -> Said:
    """What a cell says of its text, checked; raises TrafficError."""
    if task == "regression":
        return _number(value, place)
    if task == "tagging":
        return _spans(value, text, place)
    if task == "multi-label":
        return _several(value, separator, place)
    label = _label(value, place)
    if not label:
        hint = "Give every example a label; texts without one belong into data.unlabeled."
        raise refused(place.path, place.row, "the label is missing.", hint)
    return label


def names(said: Sequence[Said]) -> tuple[str, ...]:
    """Every label that is mentioned, in alphabetical order."""
    found: set[str] = set()
    for one in said:
        found.update(_mentioned(one))
    return tuple(sorted(found))


def targets(said: Sequence[Said], task: Task, labels: tuple[str, ...], places: Sequence[Place]) -> Targets:
    """Targets as `Examples` has them, under the order of `labels`; raises TrafficError on a label that is not known."""
    if task == "embedding":
        return None
    if task == "regression":
        return np.array(said, dtype=np.float32)
    _refuse_unknown(said, labels, places)
    index = {label: number for number, label in enumerate(labels)}
    if task == "classification":
        return np.array([index[str(label)] for label in said], dtype=np.int64)
    if task == "tagging":
        return tuple(
            tuple((mark.start, mark.end, index[mark.label]) for mark in marks if isinstance(mark, Marked))
            for marks in said
            if isinstance(marks, tuple)
        )
    table = np.zeros((len(said), len(labels)), dtype=np.float32)
    for row, mentioned in enumerate(said):
        table[row, [index[label] for label in _mentioned(mentioned)]] = 1
    return table


def single(said: Sequence[Said], places: Sequence[Place]) -> str:
    """The classes that have one example only, each with its place and the nearest other class; empty if none has."""
    counts = Counter(str(label) for label in said)
    first = {str(label): place for label, place in zip(said, places, strict=True)}
    alone = [label for label, count in counts.items() if count == 1]
    told = []
    for label in alone[:SHOWN]:
        near = get_close_matches(label, [other for other, count in counts.items() if count > 1], 1, 0.75)
        told.append(f'"{label}" ({first[label]}{f"; is it {near[0]!r}?" if near else ""})')
    more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
    return ", ".join(told) + more


def _mentioned(said: Said) -> tuple[str, ...]:
    if isinstance(said, str):
        return (said,)
    if isinstance(said, tuple):
        return tuple(mark.label if isinstance(mark, Marked) else mark for mark in said)
    return ()


def _refuse_unknown(said: Sequence[Said], labels: tuple[str, ...], places: Sequence[Place]) -> None:
    known = set(labels)
    first: dict[str, Place] = {}
    counts: Counter[str] = Counter()
    for one, place in zip(said, places, strict=True):
        for label in _mentioned(one):
            if label not in known:
                first.setdefault(label, place)
                counts[label] += 1
    if not first:
        return
    told = []
    for label, place in list(first.items())[:SHOWN]:
        near = get_close_matches(label, labels, 1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        told.append(f'{place}: the label "{label}" ({counts[label]} times) is not among those learned{hint}')
    if len(first) > SHOWN:
        told.append(f"and {len(first) - SHOWN} more labels that are not")
    raise TrafficError("\n".join(told), hint="Correct them, or give examples of them in data.train.")


def _label(value: object, place: Place) -> str:
    """A label as text; what JSON and Parquet hold as a number or as true and false is written as it is there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value).strip()
    what = f"the label is {_shown(value)}; expected one text."
    raise refused(place.path, place.row, what, 'Several labels to a text are task = "multi-label".')


def _several(value: object, separator: str, place: Place) -> tuple[str, ...]:
    if value is None:
        hint = "Write [] or an empty cell where none applies."
        raise refused(place.path, place.row, "the labels are missing.", hint)
    parts = value if isinstance(value, list) else str(value).split(separator)
    labels = tuple(dict.fromkeys(label for part in parts if (label := _label(part, place))))
    return labels


def _number(value: object, place: Place) -> float:
    if value is None or value == "":
        raise refused(place.path, place.row, "the number is missing.", "Give every example its number.")
    try:
        number = float(value) if isinstance(value, str | int | float) else float("nan")
    except (ValueError, OverflowError):
        hint = "Write it like 0.75, with a point."
        raise refused(place.path, place.row, f"{_shown(value)} is not a number.", hint) from None
    if not isfinite(number) or abs(number) > float(np.finfo(np.float32).max):
        hint = "Leave the example out, or correct it: one such number makes the whole model worthless."
        raise refused(place.path, place.row, f"the number is {_shown(value)}; expected a finite one.", hint)
    return number


def _spans(value: object, text: str, place: Place) -> tuple[Marked, ...]:
    hint = 'Write spans as [{"start": 0, "end": 4, "label": "name"}], in characters; [] where there are none.'
    try:
        marks = msgspec.convert(value, tuple[Marked, ...])
    except msgspec.ValidationError as error:
        raise refused(place.path, place.row, f"the spans cannot be read: {error}.", hint) from None
    reached = 0
    for mark in sorted(marks, key=lambda mark: (mark.start, mark.end)):
        if not 0 <= mark.start < mark.end <= len(text):
            what = f"the span {mark.start} to {mark.end} is not within the text, which has {len(text)} characters."
            raise refused(place.path, place.row, what, hint)
        if mark.start < reached:
            what = f"the span {mark.start} to {mark.end} overlaps the one before."
            raise refused(place.path, place.row, what, "A character has one label at most.")
        if not mark.label.strip():
            raise refused(place.path, place.row, f"the span {mark.start} to {mark.end} has no label.", hint)
        reached = mark.end
    return marks


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, float) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
