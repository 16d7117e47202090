"""The report on a run: one HTML file that needs no network and no script to be read."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from farthing import __version__
from farthing.compress.record import Report
from farthing.compress.reporting import charts, facts, wording


def page(report: Report) -> str:
    """The page of a report, complete in itself. Everything that it prints is escaped."""
    pages = Environment(
        loader=PackageLoader("farthing.compress.reporting"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals.update(words=wording, facts=facts)
    drawn = {
        name: Markup(draw(report))  # noqa: S704 - our own drawing, whose words are escaped
        for name, draw in (
            ("pareto", charts.pareto_svg),
            ("size", charts.size_svg),
            ("latency", charts.latency_svg),
            ("reliability", charts.reliability_svg),
            ("drops", charts.drops_svg),
        )
    }
    return pages.get_template("report.html").render(
        report=report,
        quality=facts.metric_of(report),
        drawn=drawn,
        version=report.version or __version__,
    )
