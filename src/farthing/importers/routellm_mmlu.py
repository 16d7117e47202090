"""RouteLLM's MMLU responses: questions, and whether each of two models answered them correctly.

Format: CSV files of prompt and one column per model holding True or False, one file per subject (Apache-2.0).
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from farthing.errors import TrafficError
from farthing.importers.reading import Reading, Row, rows, unreadable
from farthing.schema import Recorded

NAMES = frozenset(("prompt",))
APART = 10**9
"""Nanoseconds between questions, which have no times of their own."""

_VERDICTS = {"True": True, "False": False}


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """One record per question, asked of `reading.model` or else of the last column's model.

    A directory is read file by file in order of name; `feature` is the subject.
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise TrafficError(f"{path} holds no CSV files.", hint="Name the directory of the subjects' files.")
    number = 0
    for file in files:
        subject = file.stem.removeprefix("mmlu_")
        for place, row in rows(file):
            yield _question(file, place, row, subject, number * APART, reading)
            number += 1


def _question(path: Path, place: str, row: Row, subject: str, at: int, reading: Reading) -> Recorded:
    verdicts = {name: _VERDICTS.get(str(value)) for name, value in row.items() if name != "prompt"}
    graded = {name: verdict for name, verdict in verdicts.items() if verdict is not None}
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not graded or len(graded) < len(verdicts):
        hint = "Each row is a prompt and True or False for each model."
        raise unreadable(path, place, f"this is not a graded question: {', '.join(row)}.", hint)
    model = reading.model or list(graded)[-1]
    body = {"messages": [{"role": "user", "content": prompt}], "model": model, "temperature": 0, "max_tokens": 1}
    return Recorded(
        at=at,
        model=model,
        feature=subject,
        request=msgspec.Raw(msgspec.json.encode(body)),
        graded=graded,
        note="routellm_mmlu",
    )
