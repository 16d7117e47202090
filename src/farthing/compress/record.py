"""Record: what a finished run knows of itself; `report.json` holds one Report."""

from typing import Literal

import msgspec

from farthing.compress.job import Machine
from farthing.economics.money.compression_case import CompressionCase, Model, Project, Redundancy, compression_case
from farthing.errors import TrafficError
from farthing.evaluation.quality import Comparison, Quality
from farthing.schema import Task

Kind = Literal["teacher", "distil", "prune", "quantize", "control"]

Quantity = Literal["accuracy", "recall", "smaller", "faster", "size", "latency", "cost"]
"""What a target is about: points of the main metric or of one label's recall, ratios, MB, ms, dollars per 1,000."""

Verdict = Literal["kept", "backed off", "broke the floor", ""]
"""What became of a stage: it is kept, kept after it was made gentler, or kept out; empty where nothing is decided."""


class Row(msgspec.Struct, frozen=True):
    """One stage of the line, or a control, as it was measured through what will serve it.

    `mb` is what lies on disk, in MB. `cpu_ms` is the median CPU time of one text alone on one thread, `cpu_p95_ms` its
    95th percentile, `wall_ms` the median of the clock. `texts_per_cpu_s` is at batch 32 on one thread, and
    `texts_per_s_all_threads` by the clock on all. `joules` are those of one text. `train_cpu_s` is what making it took,
    in seconds of CPU. `dev` decided; `test` is looked at once, at the end. What was not measured is None.
    """

    name: str
    kind: Kind
    parameters: int | None = None
    mb: float | None = None
    cpu_ms: float | None = None
    cpu_p95_ms: float | None = None
    wall_ms: float | None = None
    texts_per_cpu_s: float | None = None
    texts_per_s_all_threads: float | None = None
    tokens_per_s: float | None = None
    peak_rss_mb: float | None = None
    joules: float | None = None
    usd_per_1k: float | None = None
    dev: Quality | None = None
    test: Quality | None = None
    dev_against_teacher: Comparison | None = None
    test_against_teacher: Comparison | None = None
    train_cpu_s: float = 0.0
    verdict: Verdict = ""
    note: str = ""

    @property
    def quality(self) -> Quality | None:
        """What it is good for: on the test texts if they were looked at, else on those that decided."""
        return self.test or self.dev

    @property
    def against_teacher(self) -> Comparison | None:
        """What it loses against the teacher, on the same texts as `quality`."""
        return self.test_against_teacher if self.test else self.dev_against_teacher


class Trial(msgspec.Struct, frozen=True):
    """A shape that a search tried: its size, CPU time of one text and main metric in percent; how far it got."""

    name: str
    mb: float
    cpu_ms: float
    value: float
    rung: int = 0
    chosen: bool = False


class Goal(msgspec.Struct, frozen=True):
    """One target of the job: what was asked, what was found, and whether that is met; `says` it in a sentence."""

    what: Quantity
    limit: float
    found: float
    met: bool
    says: str


class Host(msgspec.Struct, frozen=True):
    """What the figures were measured on: the processor, its instruction sets, cores, versions of what ran."""

    cpu: str
    instruction_sets: tuple[str, ...] = ()
    cores: int = 0
    threads: int = 1
    memory_mb: float | None = None
    versions: dict[str, str] = {}

    @property
    def vnni(self) -> bool:
        """Whether it multiplies 8-bit integers in one instruction, without intermediate saturation."""
        return any("vnni" in name for name in self.instruction_sets)


class Texts(msgspec.Struct, frozen=True):
    """How many texts there were of each kind, and the files they are from, with their SHA-256."""

    train: int = 0
    dev: int = 0
    test: int = 0
    unlabeled: int = 0
    augmented: int = 0
    outside: int = 0
    files: dict[str, str] = {}


class Annual(msgspec.Struct, frozen=True):
    """A year of the load: machines with the teacher and with the student, and what the same calls cost today.

    `bill_usd` is what the calls of a year cost where they are bought now, None if that was not said.
    """

    case: CompressionCase
    calls_per_year: float = 0.0
    bill_usd: float | None = None


class Report(msgspec.Struct, frozen=True):
    """A finished run. `rows` begin with the teacher and end with what is served from `folder`."""

    job: str
    task: Task
    rows: tuple[Row, ...]
    host: Host
    folder: str
    labels: tuple[str, ...] = ()
    controls: tuple[Row, ...] = ()
    trials: tuple[Trial, ...] = ()
    goals: tuple[Goal, ...] = ()
    annual: Annual | None = None
    texts: Texts = Texts()
    temperature: float = 1.0
    threshold: float = 0.0
    accepted_share: float | None = None
    seed: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    created: str = ""
    version: str = ""
    format: int = 1

    @property
    def teacher(self) -> Row:
        """What everything is held against."""
        return self.rows[0]

    @property
    def final(self) -> Row:
        """What is served: the last stage that was kept."""
        return next((row for row in reversed(self.rows) if row.verdict != "broke the floor"), self.rows[0])

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("a report needs the row of the teacher at least")


def annual(machine: Machine, teacher: Row, student: Row, escalated: float = 0.0) -> Annual | None:
    """The case for the student at the job's load; None where no load is given, or a speed is not known.

    A replica is one machine. It serves what it does at batch 32 on all of its threads if that was measured, else on one
    thread. `escalated` is the share of calls that go on to the teacher. Raises RequestError for figures out of bounds.
    """
    before, after = speed(teacher), speed(student)
    if not (machine.calls_per_s and machine.usd_per_h and before and after):
        return None
    case = compression_case(
        Model(teacher.name, 1, machine.usd_per_h, before),
        Model(student.name, 1, machine.usd_per_h, after),
        machine.calls_per_s,
        Redundancy(spares_per_zone=machine.spare),
        Project(usd_once=0.0, escalated_share=escalated),
    )
    bill = machine.calls_per_year * machine.before_usd_per_1k / 1000
    return Annual(case, machine.calls_per_year, bill or None)


def speed(row: Row) -> float | None:
    """Texts per second of one machine."""
    return row.texts_per_s_all_threads or row.texts_per_cpu_s


def encode(report: Report) -> bytes:
    """`report.json`: the same every time for the same report."""
    return msgspec.json.format(msgspec.json.encode(report, order="deterministic"), indent=2) + b"\n"


def decode(text: bytes | str, where: str = "report.json") -> Report:
    """A report as it was written; raises TrafficError, which says `where`."""
    try:
        return msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TrafficError(f"{where} is not a report of a compression: {error}", hint="Run the job again.") from error
