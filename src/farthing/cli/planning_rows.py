"""Measurements as the rows of CSV that `farthing plan evaluate` and `calibrate` read."""

import csv
from collections.abc import Iterable
from io import StringIO

from farthing.economics.calibrating.measurement import Measurement

_COLUMNS = (
    "source", "hardware", "n_gpus", "model", "precision", "engine", "tp", "concurrency", "isl", "osl",
    "output_tok_s_per_gpu", "ttft_ms", "tpot_ms", "kind", "note",
)  # fmt: skip


def in_csv(measurements: Iterable[Measurement]) -> str:
    """A table with a header, times in milliseconds; what was not measured is blank."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in measurements:
        ways = (("dp", row.data), ("ep", row.expert), ("pp", row.pipeline))
        note = " ".join([*(f"{name}={count}" for name, count in ways if count and count > 1), row.note])
        figures = (row.concurrency, row.input_tokens, row.output_tokens, row.output_tokens_per_s_per_device)
        times = (None if time is None else time * 1e3 for time in (row.ttft_s, row.tpot_s))
        table.writerow(
            [row.source, row.hardware, row.devices, row.model, row.precision, row.engine, _cell(row.tensor)]
            + [_cell(figure) for figure in (*figures, *times)]
            + [row.kind, note.strip()]
        )
    return text.getvalue()


def _cell(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.8g}"
