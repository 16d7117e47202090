"""Reading examples from files, and splitting them without letting the measure leak into what is learned from."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.compress.data.labels import Place, Said, names, said_of, single, targets
from farthing.compress.data.rows import LONGEST_BYTES, Columns, Row, Tally, refused, rows
from farthing.compress.examples import Examples, Targets
from farthing.compress.job import Data
from farthing.errors import TrafficError
from farthing.schema import Task

LONG_BYTES = 10_000
"""Texts above this are worth a warning: most of such a text is cut off."""


_AROUND_LABELS = " \t\r\n\"'`*."
"""What a model writes around a label that is not of it."""


class Gathered(msgspec.Struct, frozen=True):
    """Examples of one purpose, the names of their labels, and what a person should know about them.

    `alone` says which classes have one example only, and where; empty where none has.
    """

    examples: Examples
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    alone: str = ""


class _Raw(msgspec.Struct):
    """What the files hold, row by row, before it is put into order."""

    texts: list[str]
    seconds: list[str]
    said: list[Said]
    places: list[Place]
    warnings: list[str]


def read_examples(
    data: Data, files: Sequence[str], task: Task, folder: Path, labels: tuple[str, ...] | None
) -> Gathered:
    """The examples of some files, named as seen from `folder`.

    `labels` are those that may occur, in their order; None takes all that occur, in alphabetical order. Of texts that
    come with different labels the first is kept. Raises TrafficError with file and line, ConfigError where a format
    needs what is not installed.
    """
    raw, tally = _Raw([], [], [], [], []), Tally()
    for file in files:
        for place, row in rows(folder / file, Columns(data.text, _label_column(data, task)), tally):
            _take(raw, Place(folder / file, place), row, data, task)
    if not raw.texts:
        _refuse_nothing(files, tally)
    if tally.models:
        _settle_traffic(raw, tally, task, labels)
    _drop_conflicts(raw)
    _note_long(raw)
    if labels is None:
        labels = (data.label,) if task == "regression" else () if task == "embedding" else names(raw.said)
        _refuse_sameness(raw, labels, task)
    return Gathered(
        Examples(tuple(raw.texts), targets(raw.said, task, labels, raw.places), tuple(raw.seconds)),
        labels,
        tuple(raw.warnings),
        single(raw.said, raw.places) if task == "classification" else "",
    )


def read_texts(data: Data, files: Sequence[str], folder: Path) -> Gathered:
    """The texts of some files, without labels, each once; empty ones are left out with a warning.

    Raises TrafficError and ConfigError as `read_examples` does.
    """
    found: dict[tuple[str, str], None] = {}
    empty = 0
    tally = Tally()
    for file in files:
        for place, row in rows(folder / file, Columns(data.text, data.label), tally):
            where = Place(folder / file, place)
            text = _text(row, data.text, where)
            second = _text(row, data.second, where) if data.second and data.second in row else ""
            if text.strip():
                found[(text, second)] = None
            else:
                empty += 1
    warnings = (f"{empty:,} empty texts of {', '.join(files)} were left out.",) if empty else ()
    seconds = tuple(second for _, second in found) if any(second for _, second in found) else ()
    return Gathered(Examples(tuple(text for text, _ in found), None, seconds), (), warnings)


def split(examples: Examples, share: float, rng: np.random.Generator, stratified: bool) -> tuple[Examples, Examples]:
    """What is left to learn from, and the `share` (0 to 1) that is held out; both keep the order they had.

    Equal texts stay together. Stratified by class, every class has one example at least on either side where it has
    two different texts.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, text in enumerate(examples.texts):
        groups.setdefault((text, examples.seconds[index] if examples.seconds else ""), []).append(index)
    members = list(groups.values())
    classes = examples.targets if stratified and isinstance(examples.targets, np.ndarray) else None
    strata: dict[int, list[int]] = {}
    for number, group in enumerate(members):
        strata.setdefault(int(classes[group[0]]) if classes is not None else 0, []).append(number)
    held: list[int] = []
    for stratum in sorted(strata):
        candidates = strata[stratum]
        count = min(max(round(share * len(candidates)), 1), len(candidates) - 1)
        drawn = rng.permutation(len(candidates))[:count]
        held += [index for draw in drawn for index in members[candidates[draw]]]
    chosen = np.zeros(len(examples), dtype=bool)
    chosen[held] = True
    return taken(examples, np.flatnonzero(~chosen)), taken(examples, np.flatnonzero(chosen))


def without(examples: Examples, *measures: Examples) -> tuple[Examples, int]:
    """The examples without those whose text is in one of the measures, and how many that leaves out."""
    seen = {text for measure in measures for text in _keys(measure)}
    kept = [index for index, key in enumerate(_keys(examples)) if key not in seen]
    return taken(examples, np.array(kept, dtype=np.int64)), len(examples) - len(kept)


def taken(examples: Examples, indices: NDArray[np.int64]) -> Examples:
    """Some of the examples, in the order of `indices`."""
    chosen: Targets = None
    if isinstance(examples.targets, tuple):
        chosen = tuple(examples.targets[index] for index in indices)
    elif examples.targets is not None:
        chosen = examples.targets[indices]
    return Examples(
        tuple(examples.texts[index] for index in indices),
        chosen,
        tuple(examples.seconds[index] for index in indices) if examples.seconds else (),
    )


def _keys(examples: Examples) -> list[tuple[str, str]]:
    return list(zip(examples.texts, examples.seconds or [""] * len(examples), strict=True))


def _take(raw: _Raw, place: Place, row: Row, data: Data, task: Task) -> None:
    text = _text(row, data.text, place)
    if not text.strip():
        raise refused(place.path, place.row, f'the text in "{data.text}" is empty.', "Leave the example out.")
    raw.texts.append(text)
    if data.second:
        second = _text(row, data.second, place)
        if not second.strip():
            what = f'the text in "{data.second}" is empty.'
            raise refused(place.path, place.row, what, "A pair has two texts; leave it out.")
        raw.seconds.append(second)
    if task == "embedding":
        raw.said.append("")
    else:
        value = _cell(row, _label_column(data, task), place)
        raw.said.append(said_of(value, text, task, data.separator, place))
    raw.places.append(place)


def _label_column(data: Data, task: Task) -> str:
    """Spans have a name of their own, unless the job names another column than the usual one."""
    return "spans" if task == "tagging" and data.label == "label" else data.label


def _cell(row: Row, column: str, place: Place) -> object:
    if column in row:
        return row[column]
    known = [str(name) for name in row]
    near = get_close_matches(column, known, 1)
    hint = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(known[:12]) or 'none'}."
    raise refused(place.path, place.row, f'there is no column "{column}".', hint)


def _text(row: Row, column: str, place: Place) -> str:
    text = _cell(row, column, place)
    if text is None:
        return ""
    if not isinstance(text, str):
        what = f'"{column}" holds {type(text).__name__}, and not text.'
        raise refused(place.path, place.row, what, "Name the column of the texts with data.text.")
    if len(text) > LONGEST_BYTES // 4 and (size := len(text.encode())) > LONGEST_BYTES:
        what = f"the text is {size / 1e6:,.1f} MB long; 1 MB is the most."
        raise refused(place.path, place.row, what, "Cut it into examples, or leave it out.")
    return text


def _refuse_nothing(files: Sequence[str], tally: Tally) -> None:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in tally.left_out.most_common())
    hint = "Name a file that holds some."
    if left_out:
        hint = "Record bodies with ledger.bodies = true; an answer's text is its label."
    raise TrafficError(f"{', '.join(files)}: there are no examples{f' ({left_out})' if left_out else ''}.", hint=hint)


def _settle_traffic(raw: _Raw, tally: Tally, task: Task, labels: tuple[str, ...] | None) -> None:
    """Say whose answers are taken for labels, tidy them, and leave out those that are none.

    A large model does not always answer with a label: one given a single time, or none of `labels`, is left out.
    """
    used = tally.models.total()
    shares = ", ".join(f"{model} {100 * count / used:.0f} %" for model, count in tally.models.most_common(3))
    raw.warnings.append(f"{used:,} exchanges of recorded traffic are examples, labelled by the answers of {shares}.")
    raw.warnings += [f"{count:,} exchanges were left out: {reason}." for reason, count in tally.left_out.most_common()]
    if task != "classification":
        return
    raw.said = [str(answer).strip(_AROUND_LABELS) for answer in raw.said]
    counts = Counter(raw.said)
    none = [
        index for index, said in enumerate(raw.said) if (counts[said] == 1 if labels is None else said not in labels)
    ]
    if not none:
        return
    example = f'"{str(raw.said[none[0]])[:60]}"'
    if len(none) * 2 > len(raw.said):
        reason = "were given a single time" if labels is None else "are none of the labels learned"
        told = f"{raw.places[0].path}: {len(none):,} of {len(raw.said):,} answers {reason}, such as {example}."
        raise TrafficError(told, hint="Take traffic whose answers are a label each.")
    raw.warnings.append(f"{len(none):,} answers that are no labels were left out, such as {example}.")
    _keep(raw, sorted(set(range(len(raw.said))) - set(none)))


def _drop_conflicts(raw: _Raw) -> None:
    first: dict[tuple[str, str], int] = {}
    kept: list[int] = []
    conflicts: list[int] = []
    for index, text in enumerate(raw.texts):
        before = first.setdefault((text, raw.seconds[index] if raw.seconds else ""), index)
        (kept if raw.said[before] == raw.said[index] else conflicts).append(index)
    if not conflicts:
        return
    one = conflicts[0]
    other = first[(raw.texts[one], raw.seconds[one] if raw.seconds else "")]
    raw.warnings.append(
        f"{len(conflicts):,} texts come again with another label and were left out, the first being kept: "
        f"{raw.texts[one][:60]!r} is {_briefly(raw.said[other])} ({raw.places[other]}) "
        f"and {_briefly(raw.said[one])} ({raw.places[one]})."
    )
    _keep(raw, kept)


def _briefly(said: Said) -> str:
    return repr(said) if isinstance(said, str | float) else f"{len(said)} labels"


def _note_long(raw: _Raw) -> None:
    long = [index for index, text in enumerate(raw.texts) if len(text) > LONG_BYTES]
    if long:
        raw.warnings.append(
            f"{len(long):,} texts are longer than {LONG_BYTES:,} characters and will be cut off after data.max_length "
            f"tokens, such as {raw.places[long[0]]}."
        )


def _refuse_sameness(raw: _Raw, labels: tuple[str, ...], task: Task) -> None:
    least = {"classification": 2, "multi-label": 1, "tagging": 1}.get(task, 0)
    if len(labels) < least:
        found = f'every example has the label "{labels[0]}"' if labels else "no example has a label"
        raise TrafficError(f"{raw.places[0].path}: {found}.", hint="There is nothing to tell apart.")


def _keep(raw: _Raw, indices: Sequence[int]) -> None:
    raw.texts = [raw.texts[index] for index in indices]
    raw.said = [raw.said[index] for index in indices]
    raw.places = [raw.places[index] for index in indices]
    raw.seconds = [raw.seconds[index] for index in indices] if raw.seconds else []
