"""Record: what became of a decoder's job, row by row, and how it is told."""

import msgspec

from farthing.compress.generative.scoring import Figures, Ratio

FORMAT = "farthing-generative-report"


class Row(msgspec.Struct, frozen=True):
    """A model of the line: what it is, what it costs and what it loses.

    `verdict` is "kept", "given up" (it lost more than allowed, and so did all gentler ones), "passed over" (a gentler
    one was taken) or "written" (an export that is not measured here). `train_cpu_s` is what training it took.
    """

    name: str
    verdict: str
    folder: str = ""
    parameters: int = 0
    mb: float = 0.0
    figures: Figures | None = None
    ratio: Ratio | None = None
    train_cpu_s: float = 0.0
    note: str = ""

    @property
    def right(self) -> float | None:
        """The share of checks that were right to the letter."""
        return sum(self.figures.right) / len(self.figures.right) if self.figures and self.figures.right else None


class GenerativeReport(msgspec.Struct, frozen=True):
    """All rows, the teacher's first; `final` is the one whose model lies in the artefact. `files` are SHA-256."""

    name: str
    rows: tuple[Row, ...]
    final: int
    limit: float
    texts: int
    machine: dict[str, str]
    created: str
    exports: tuple[str, ...] = ()
    files: dict[str, str] = {}
    format: str = FORMAT


HEADS = (
    "stage",
    "parameters",
    "MB on disk",
    "peak RSS MB",
    "prefill tokens/s",
    "decode tokens/s",
    "perplexity [95 %]",
    "x teacher [95 %]",
    "exact match",
    "top-1 agreement",
    "KL",
    "runs on",
)


def table(report: GenerativeReport) -> str:
    """The table of a report, as Markdown; speeds are of one caller."""
    lines = [list(HEADS), ["---"] + ["---:"] * (len(HEADS) - 2) + ["---"], *(_cells(row) for row in report.rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def card(report: GenerativeReport) -> str:
    """The model card: what it is, what was measured, on what, and what it must not be taken for."""
    final = report.rows[report.final]
    text = [f"# {report.name}", "", f"A decoder made smaller by Farthing: {final.name}.", "", table(report)]
    text += [
        f"Perplexity is of {report.texts:,} texts not learned from, per token; intervals are of resampled texts.",
        f"A stage was kept when the upper end of its ratio to the teacher was at most {report.limit:g}.",
        "Exact match is greedy. Speeds are wall time at batch 1, and hold for the machine below alone.",
        "A row that runs on transformers is measured in float32. KL and agreement are against the teacher, by token.",
        "",
        "## Measured on",
        "",
        *(f"- {name}: {value}" for name, value in report.machine.items()),
    ]
    notes = [f"- {row.name}: {row.note}" for row in report.rows if row.note]
    if notes:
        text += ["", "## Notes", "", *notes]
    text += [
        "",
        "## Limits",
        "",
        "Measured on the texts of this job only: nothing is said of other texts or languages.",
    ]
    return "\n".join(text) + "\n"


def _cells(row: Row) -> list[str]:
    figures, ratio, right = row.figures, row.ratio, row.right
    return [
        row.name if row.verdict == "kept" else f"{row.name} ({row.verdict})",
        f"{row.parameters:,}" if row.parameters else "-",
        f"{row.mb:.2f}" if row.mb else "-",
        f"{figures.peak_rss_mb:.0f}" if figures else "-",
        f"{figures.prefill_per_s:,.0f}" if figures else "-",
        f"{figures.decode_per_s:,.0f}" if figures else "-",
        f"{ratio.perplexity:.4g} [{ratio.low:.4g}, {ratio.high:.4g}]" if ratio else "-",
        f"{ratio.times:.3f} [{ratio.times_low:.3f}, {ratio.times_high:.3f}]" if ratio else "-",
        f"{100 * right:.1f} %" if right is not None else "-",
        f"{100 * figures.agreed / figures.places:.1f} %" if figures and figures.places else "-",
        f"{figures.apart / figures.places:.4f}" if figures and figures.places else "-",
        figures.engine if figures else "-",
    ]
