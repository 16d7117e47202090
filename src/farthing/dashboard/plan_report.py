"""The report on a plan: one HTML file that needs no network and no script to be read."""

from base64 import b64encode
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from farthing import __version__
from farthing.dashboard import plan_charts, plan_figures
from farthing.dashboard.plan_views import BreakEven, Line, Report

_FILTERS = (
    plan_figures.dollars, plan_figures.dollars_between, plan_figures.percent, plan_figures.plural,
    plan_figures.quantity, plan_figures.seconds, plan_figures.seconds_between,
)  # fmt: skip

MOST_FACTS = 9
"""How many assumptions are shown at once; the others open on demand."""


def render(report: Report) -> str:
    """The page of a report, complete in itself. Everything that it prints is escaped."""
    assets = files("farthing.dashboard").joinpath("assets")
    pages = Environment(
        loader=PackageLoader("farthing.dashboard"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update({function.__name__: function for function in _FILTERS})
    dollars, seconds = plan_figures.dollars, plan_figures.seconds
    best = report.choices[0]
    return pages.get_template("plan.html").render(
        report=report,
        best=best,
        style=Markup(assets.joinpath("farthing.css").read_text("utf-8")),  # noqa: S704 - our own file
        coin=b64encode(assets.joinpath("coin.svg").read_bytes()).decode(),
        version=__version__,
        most_facts=MOST_FACTS,
        pareto=plan_charts.pareto(report.points, report.tpot_limit_s, dollars, seconds),
        whiskers=plan_charts.whiskers([choice.usd_per_million for choice in report.choices]),
        falls=plan_charts.falls(report.parts, dollars, "in all"),
        ttft=_under_load(report.load_ttft, report.ttft_limit_s, report.load_planned),
        tpot=_under_load(report.load_tpot, report.tpot_limit_s, report.load_planned),
        tornado=plan_charts.tornado(report.swings, best.usd_per_million.value, dollars),
        middle=plan_charts.middle(report.swings, best.usd_per_million.value),
        break_even=_break_even(report.break_even),
    )


def _under_load(line: Line, limit_s: float | None, planned: float) -> plan_charts.Plot:
    across, up = plan_figures.rounded, plan_figures.seconds
    return plan_charts.lines((line,), across, up, limit_s, (False, False), planned)


def _break_even(found: BreakEven | None) -> plan_charts.Plot | None:
    if found is None:
        return None
    return plan_charts.lines(found.lines, plan_figures.quantity, plan_figures.dollars)
