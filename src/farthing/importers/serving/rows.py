"""Rows of measured serving as CSV: one row per deployment and load, times in milliseconds, blank where unknown.

Columns: hardware, n_gpus, model, precision, engine, tp, concurrency, isl, osl, output_tok_s_per_gpu, ttft_ms, tpot_ms,
kind; and, where there are any, source, energy_j_per_out_tok and note. Others are left alone. What collectors of public
measurements write into `note` and `source` for want of columns is read too; `docs/guides/plan-calibrate.md` says how.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Layout, figure, laid_out, refuse_contradiction
from farthing.errors import FarthingError, TrafficError

NAMES = frozenset(
    ("hardware", "n_gpus", "model", "precision", "engine", "tp", "concurrency", "isl", "osl", "output_tok_s_per_gpu",
     "ttft_ms", "tpot_ms", "kind")
)  # fmt: skip
"""The columns that every file has; in a row, the cells of what was not measured are blank."""

Refuse = Callable[[FarthingError], None]

_MS = 1e-3

_COUNT_IN_NOTE = {
    name: re.compile(rf"(?:^|[\s;,]){name}=(\d+)(?=$|[\s;,])")
    for name in ("ep", "dp", "pp", "max_num_seqs", "kv_tokens")
}
_POWER_IN_NOTE = re.compile(r"(?:^|[\s;,])avg_power_w=([0-9.eE+-]+)")
_LENGTHS_DRAWN = re.compile(r"(?:^|[\s;,])range(0\.[0-9]+)")
_EXPERTS_SPLIT = re.compile(r"^ep(?=$|[\s;,])")
_IN_SOURCE = {name: re.compile(rf"_{name}(\d+)(?=_|$)") for name in ("ep", "dp")}


def read_measurements(file: Path | BinaryIO, refuse: Refuse | None = None) -> list[Measurement]:
    """Every row of a CSV file, in SI units.

    Raises TrafficError for a file that is not such a table. A row whose figures are no figures, are not above 0, or
    contradict one another is handed to `refuse` as an error that says its line, and is raised where there is none.
    """
    if isinstance(file, Path):
        try:
            with file.open(encoding="utf-8-sig", newline="") as opened:
                return _table(opened, str(file), refuse)
        except OSError as error:
            raise TrafficError(f"{file} cannot be read: {error.strerror}.", hint="Name a readable CSV file.") from None
    wrapped = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        return _table(wrapped, str(getattr(file, "name", "the rows")), refuse)
    finally:
        wrapped.detach()


def _table(text: TextIO, name: str, refuse: Refuse | None) -> list[Measurement]:
    lines = csv.DictReader(text, restkey="")
    try:
        columns = {column.strip() for column in lines.fieldnames or ()}
        missing = sorted(NAMES - columns)
        if missing:
            raise TrafficError(
                f"{name} has no column {', '.join(missing)}.",
                hint=f"The first line names the columns, at least {', '.join(sorted(NAMES))}.",
            )
        found = list(_rows(lines, name, refuse))
    except (csv.Error, UnicodeDecodeError) as error:
        raise TrafficError(
            f"{name}, after line {lines.line_num}: {error}.", hint="It should be CSV in UTF-8 with a header."
        ) from None
    if not found:
        raise TrafficError(f"{name} has no rows.", hint="Give at least one row below the header.")
    return found


def _rows(lines: "csv.DictReader[str]", name: str, refuse: Refuse | None) -> Iterator[Measurement]:
    for cells in lines:
        place = f"{name}, line {lines.line_num}"
        if "" in cells:
            width = len(lines.fieldnames or ())
            raise TrafficError(
                f"{place}: there are more cells than the {width} columns.", hint="Quote cells that hold commas."
            )
        row = {column.strip(): (value or "").strip() for column, value in cells.items()}
        if not any(row.values()):
            continue
        try:
            yield _measurement(_Cells(place, row))
        except FarthingError as error:
            if refuse is None:
                raise
            refuse(error)


class _Cells:
    """One row: typed access, with errors that name line and column."""

    def __init__(self, place: str, row: Mapping[str, str]) -> None:
        self.place = place
        self._row = row

    def text(self, column: str) -> str:
        value = self._row.get(column, "")
        if not value:
            raise TrafficError(f"{self.place}: {column} is blank.", hint="Every row needs it.")
        return value

    def remark(self, column: str) -> str:
        return self._row.get(column, "")

    def number(self, column: str, factor: float = 1.0) -> float | None:
        value = self._row.get(column, "")
        if not value:
            return None
        try:
            number = float(value)
        except ValueError:
            raise TrafficError(
                f"{self.place}: {column} is {value!r}, which is not a number.",
                hint="Leave the cell blank where nothing was measured.",
            ) from None
        return figure(number, self.place, column) * factor

    def count(self, column: str) -> int | None:
        value = self.number(column)
        if value is not None and value != int(value):
            raise TrafficError(f"{self.place}: {column} is {value:g}, not a whole number.", hint="Count devices whole.")
        return None if value is None else int(value)


def _measurement(cells: _Cells) -> Measurement:
    devices = cells.count("n_gpus")
    if devices is None:
        raise TrafficError(f"{cells.place}: n_gpus is blank.", hint="Every row needs it.")
    source, note = cells.remark("source"), cells.remark("note")
    tensor = cells.count("tp")
    layout = laid_out(
        cells.place, Layout(devices, tensor, _said(note, source, "dp"), _experts(note, source), _said(note, "", "pp"))
    )
    if layout.expert is None and _EXPERTS_SPLIT.match(note) and layout.tensor is not None:
        layout = Layout(devices, layout.tensor, layout.data, layout.tensor * (layout.data or 1), layout.pipeline)
    drawn = _drawn(note)
    rate = cells.number("output_tok_s_per_gpu")
    energy = cells.number("energy_j_per_out_tok")
    found = Measurement(
        hardware=cells.text("hardware"),
        devices=devices,
        model=cells.text("model"),
        precision=cells.text("precision"),
        engine=cells.text("engine"),
        kind=cells.text("kind"),
        tensor=layout.tensor,
        data=layout.data,
        expert=layout.expert,
        concurrency=cells.number("concurrency"),
        input_tokens=cells.number("isl", drawn),
        output_tokens=cells.number("osl", drawn),
        output_tokens_per_s_per_device=rate,
        ttft_s=cells.number("ttft_ms", _MS),
        tpot_s=cells.number("tpot_ms", _MS),
        power_w=_power_w(cells.place, note, energy, rate, devices),
        source=source,
        note=note,
        pipeline=layout.pipeline,
        max_sequences=_said(note, "", "max_num_seqs"),
        kv_tokens=_said(note, "", "kv_tokens"),
        energy_j_per_output_token=energy,
    )
    if (rate, found.ttft_s, found.tpot_s, energy) == (None, None, None, None):
        raise TrafficError(
            f"{cells.place} measures nothing.",
            hint="Fill in output_tok_s_per_gpu, ttft_ms, tpot_ms or energy_j_per_out_tok.",
        )
    refuse_contradiction(found, cells.place)
    return found


def _said(note: str, source: str, name: str) -> int | None:
    """A count that a note or the name of a source carries."""
    in_source = _IN_SOURCE.get(name)
    match = _COUNT_IN_NOTE[name].search(note) or (in_source.search(source) if in_source else None)
    return int(match[1]) if match else None


def _drawn(note: str) -> float:
    """Mean over nominal length: lengths in a range of 0.8 are drawn evenly from 0.8 to 1 of the nominal one."""
    match = _LENGTHS_DRAWN.search(note)
    return (1 + float(match[1])) / 2 if match else 1.0


def _experts(note: str, source: str) -> int | None:
    return _said(note, source, "ep")


def _power_w(place: str, note: str, energy: float | None, rate: float | None, devices: int) -> float | None:
    """Watts of all devices: as the note says, or energy per token times tokens per second."""
    match = _POWER_IN_NOTE.search(note)
    if match:
        try:
            return figure(float(match[1]), place, "avg_power_w")
        except ValueError:
            raise TrafficError(f"{place}: avg_power_w is {match[1]!r}, which is not a number.", hint="") from None
    return energy * rate * devices if energy is not None and rate is not None else None
