"""The model card: Markdown for people, with the YAML before it that model hubs read."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from farthing.compress.job import Job
from farthing.compress.record import Report
from farthing.compress.reporting import facts, wording
from farthing.compress.reporting.columns import table
from farthing.schema import Task

PIPELINES: Final[dict[Task, str]] = {
    "classification": "text-classification",
    "multi-label": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "embedding": "sentence-similarity",
}
"""What model hubs call the tasks."""

_USES: Final[dict[Task, str]] = {
    "classification": "It says which one of its labels a short text belongs to, and how sure it is.",
    "multi-label": "It says which of its labels hold for a short text; any number of them may.",
    "regression": "It gives a text, or a pair of texts, a score.",
    "tagging": "It marks stretches of a text with its labels.",
    "embedding": "It turns a text into a vector of length 1; texts that mean the same have vectors that are close.",
}

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def model_card(report: Report, job: Job) -> str:
    """The card of what a job has made, as Markdown with YAML front matter; all that it quotes is escaped."""
    parts = [*_front_matter(report), "", f"# {_plain(report.job)}", "", _plain(wording.headline(report)), ""]
    parts += [*_use(report), *_table(report), *_beyond(report), *_goals(report)]
    parts += [*_data(report, job), *_teacher(report, job), *_machine(report), *_limits(report)]
    return "\n".join(parts).rstrip() + "\n"


def _front_matter(report: Report) -> Iterator[str]:
    yield "---"
    yield "library_name: onnx"
    yield f"pipeline_tag: {PIPELINES[report.task]}"
    yield "tags: [farthing, onnx, knowledge-distillation, structured-pruning, quantization]"
    quality = report.final.quality
    if quality is not None:
        kind = "test" if report.final.test else "validation"
        yield f"metrics: [{_quoted(quality.metric)}]"
        yield "model-index:"
        yield f"  - name: {_quoted(report.job)}"
        yield "    results:"
        yield f"      - task: {{type: {PIPELINES[report.task]}}}"
        yield f"        dataset: {{name: {_quoted(report.job)}, type: {_quoted(report.job)}, split: {kind}}}"
        yield "        metrics:"
        yield f"          - {{type: {_quoted(quality.metric)}, value: {quality.value:.2f}}}"
        if quality.macro_f1 is not None:
            yield f"          - {{type: f1, name: macro-F1, value: {quality.macro_f1:.2f}}}"
    yield "---"


def _use(report: Report) -> Iterator[str]:
    yield "## Intended use"
    yield ""
    yield (
        f"{_USES[report.task]} It was made for texts like those it learned from (see Data), on an ordinary CPU, served "
        "by `farthing compress serve` or any program with ONNX Runtime and the tokenizer that lies beside it."
    )
    told = facts.confidence(report)
    if told:
        yield ""
        yield told
    if report.labels:
        yield ""
        yield f"{wording.plural(len(report.labels), 'label')}: {', '.join(map(_plain, report.labels))}."
    yield ""


def _table(report: Report) -> Iterator[str]:
    shown = table(report)
    yield "## Stages"
    yield ""
    yield from _rows(shown.heads, shown.rows)
    yield ""
    yield (
        "CPU ms: median CPU time of one text alone on one thread, and its 95th percentile. Texts per CPU second: at "
        "batch 32 on one thread. Change: points against the teacher; with 95 % confidence it is no worse than the "
        "column after it (paired bootstrap). p: McNemar, exact, two-sided. Rows with a star are controls."
    )
    yield ""


def _beyond(report: Report) -> Iterator[str]:
    rows = facts.beyond(report)
    if rows:
        yield "## Beyond the main metric"
        yield ""
        yield from _rows(("", "teacher", "this model"), rows)
        yield ""


def _goals(report: Report) -> Iterator[str]:
    if report.goals:
        yield "## What was asked"
        yield ""
        yield from (f"- {'met' if goal.met else '**not met**'}: {_plain(goal.says)}" for goal in report.goals)
        yield ""


def _data(report: Report, job: Job) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield f"- licence: {_plain(job.data.licence) or 'not stated; ask whoever made this model'}"
    for name in ("train", "dev", "test", "unlabeled", "outside"):
        files = getattr(job.data, name)
        if files:
            yield f"- {name}: {', '.join(map(_plain, files))}"
    yield from (f"- texts, {name}: {count}" for name, count in facts.of_texts(report.texts))
    yield ""


def _teacher(report: Report, job: Job) -> Iterator[str]:
    teacher = job.teacher
    made = "taken as it is" if teacher.finished else f"fine-tuned for {wording.plural(teacher.epochs, 'epoch')}"
    if teacher.members > 1:
        made += f", {teacher.members} of them averaged"
    yield "## Teacher"
    yield ""
    if teacher.path:
        yield f"{_plain(teacher.path)}, {made}; its own licence applies as well."
    else:
        yield f"No pre-trained model: it was trained on the same texts for {wording.plural(teacher.epochs, 'epoch')}."
    if teacher.labeller is not None:
        yield f"Texts without a label were labelled by {_plain(teacher.labeller.model)}."
    yield f"Seed {report.seed}; {wording.duration(report.cpu_s)} of CPU in all."
    yield ""


def _machine(report: Report) -> Iterator[str]:
    yield "## Measured on"
    yield ""
    yield from (f"- {name}: {_plain(value)}" for name, value in facts.measured_on(report.host))
    yield ""


def _limits(report: Report) -> Iterator[str]:
    quality, change = report.final.quality, report.final.against_teacher
    yield "## Limits"
    yield ""
    yield "- Times hold for this kind of processor; on others the ratios are similar and the milliseconds are not."
    if not report.host.vnni and any(name.startswith("avx") for name in report.host.instruction_sets):
        yield "- On processors with VNNI 8-bit products are rounded otherwise: measure accuracy there again."
    if quality is not None and report.final.test is None:
        yield f"- Quality is that of the {quality.n:,} texts which decided, so it is a little better than it will be."
    if change is not None and change.worst and report.final is not report.teacher:
        lost = f"{change.recall_drop:.1f} points of recall against the teacher"
        yield f"- The label that lost most is {_plain(change.worst)}: {lost}."
    if quality is not None and quality.auroc is not None:
        yield f"- Texts of no label are told from others with an AUROC of {quality.auroc:.3f}, not with certainty."
    yield "- What the training texts leave out or have wrong, it leaves out or has wrong as well; watch it in use."


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join(['---', *['---:'] * (len(heads) - 1)])}|"
    yield from (f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _plain(text: str) -> str:
    """Text that Markdown takes as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    """A YAML string: every JSON string is one."""
    return msgspec.json.encode(text).decode()
