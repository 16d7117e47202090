"""Facts: pairs of words about a run that the page and the card both print."""

from collections.abc import Iterator

from farthing.compress.record import Annual, Host, Report, Texts
from farthing.compress.reporting import wording
from farthing.economics.money.compression_case import Deployed
from farthing.evaluation.quality import Quality


def beyond(report: Report) -> tuple[tuple[str, str, str], ...]:
    """Quality beyond the main metric, of the teacher and of what is served, without what is known of neither."""
    before, after = report.teacher.quality, report.final.quality
    if before is None or after is None:
        return ()
    rows = [
        ("macro-F1", wording.share(before.macro_f1), wording.share(after.macro_f1)),
        ("calibration error (ECE)", _percent(before.ece), _percent(after.ece)),
        ("right among the most confident 80 %", wording.share(before.kept_80), wording.share(after.kept_80)),
        ("noticing texts of no label (AUROC)", _three(before.auroc), _three(after.auroc)),
        (f"{after.metric} on misspelt texts", wording.share(before.typo_value), wording.share(after.typo_value)),
        *((name, _three(before.also.get(name)), _three(value)) for name, value in after.also.items()),
    ]
    change = report.final.against_teacher
    if change is not None and change.agreement is not None and report.final is not report.teacher:
        rows.append(("answers like the teacher", wording.UNKNOWN, wording.share(change.agreement)))
    return tuple(row for row in rows if row[1:] != (wording.UNKNOWN, wording.UNKNOWN))


def confidence(report: Report) -> str:
    """What a cascade may make of the confidence; empty where nothing was calibrated."""
    if report.task != "classification":
        return ""
    told = f"Logits are divided by {report.temperature:.3g} before they become probabilities."
    if report.accepted_share is None:
        return told
    sure, accepted = 100 * report.threshold, 100 * report.accepted_share
    return (
        f"{told} Answers at least {sure:.1f} % confident ({accepted:.0f} % of all) are given alone; the rest belongs "
        "to a larger model."
    )


def measured_on(host: Host) -> tuple[tuple[str, str], ...]:
    """The machine behind the figures."""
    pairs = [
        ("processor", host.cpu),
        ("8-bit integers", _integers(host)),
        ("instruction sets", ", ".join(host.instruction_sets)),
        ("cores", str(host.cores) if host.cores else ""),
        ("threads", str(host.threads)),
        ("memory", wording.digits(host.memory_mb / 1000, unit="GB") if host.memory_mb else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(host.versions.items()))),
    ]
    return tuple(pair for pair in pairs if pair[1])


def _integers(host: Host) -> str:
    sets = " ".join(host.instruction_sets)
    if host.vnni:
        return "with VNNI"
    if any(name in sets for name in ("asimddp", "dotprod", "i8mm")):
        return "with instructions for dot products"
    return "without VNNI: products may saturate, and INT8 gains less speed" if "avx" in sets else ""


def of_texts(texts: Texts) -> tuple[tuple[str, str], ...]:
    """How many texts there were of each kind."""
    counts = (
        ("training", texts.train, ""),
        ("held out", texts.dev, "which decided everything"),
        ("test", texts.test, "looked at once, at the end"),
        ("unlabeled", texts.unlabeled, "labelled by the teacher"),
        ("augmented", texts.augmented, "made from those for training"),
        ("outside", texts.outside, "of no label, to see whether it is noticed"),
    )
    return tuple((name, f"{count:,}{f', {what}' if what else ''}") for name, count, what in counts if count)


def of_a_year(annual: Annual) -> tuple[tuple[str, str, str, str], ...]:
    """Machines that carry the load, those that stand, and dollars a year: before and after."""
    case = annual.case

    def row(name: str, fleet: Deployed) -> tuple[str, str, str, str]:
        return (name, str(fleet.needed), str(fleet.devices), wording.dollars(fleet.usd_per_year))

    rows = [row(f"before: {case.before.model}", case.before), row(f"after: {case.student.model}", case.student)]
    if case.teacher_after is not None:
        rows.append(row("after, escalated", case.teacher_after))
    return tuple(rows)


def saved_in_a_year(annual: Annual) -> str:
    """What the year comes to, in a sentence."""
    case = annual.case
    if case.usd_per_year_saved <= 0:
        told = f"It saves nothing: {case.why_never}."
    else:
        saved = f"{wording.dollars(case.usd_per_year_saved)} a year ({100 * case.saved_share:.0f} %)"
        told = f"{wording.plural(case.devices_saved, 'machine')} fewer, and {saved}."
    if annual.bill_usd is None:
        return told
    return f"{told} Bought where they are now, the same calls cost {wording.dollars(annual.bill_usd)} a year."


def cards(report: Report) -> Iterator[tuple[str, str, str]]:
    """The figures that matter most: name, value, and against what."""
    final, teacher = report.final, report.teacher
    yield (
        "On disk",
        wording.digits(final.mb, unit="MB"),
        _from(wording.times(wording.smaller(final, teacher)), "smaller"),
    )
    speed = wording.times(wording.faster(final, teacher))
    yield "CPU time of one text", wording.digits(final.cpu_ms, unit="ms"), _from(speed, "faster")
    quality = final.quality
    if quality is not None:
        yield quality.metric.capitalize(), wording.value_of(quality), f"{wording.interval_of(quality)}, 95 %"
    change = final.against_teacher
    if change is not None and final is not teacher:
        yield "Against the teacher", f"{wording.points(change.lost)} points", _at_worst(change.bound)
    yield "Per 1,000 calls", wording.dollars(final.usd_per_1k), f"teacher {wording.dollars(teacher.usd_per_1k)}"
    yield (
        "Peak memory",
        wording.digits(final.peak_rss_mb, unit="MB"),
        f"teacher {wording.digits(teacher.peak_rss_mb, unit='MB')}",
    )


def _at_worst(bound: float) -> str:
    return f"{wording.points(bound)} at worst, 95 %"


def _from(ratio: str, word: str) -> str:
    return f"{ratio} {word} than the teacher" if ratio != wording.UNKNOWN else ""


def _percent(part: float | None) -> str:
    return wording.share(None if part is None else 100 * part)


def _three(value: float | None) -> str:
    return wording.UNKNOWN if value is None else f"{value:.3f}"


def metric_of(report: Report) -> Quality | None:
    """The quality that names the main metric."""
    return report.final.quality or report.teacher.quality
