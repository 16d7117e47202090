"""What people are shown of a run: the table, the charts, the page, and the card that goes with the model."""

from farthing.compress.reporting.card import model_card
from farthing.compress.reporting.charts import drops_svg, latency_svg, pareto_svg, reliability_svg, size_svg
from farthing.compress.reporting.columns import Table, table
from farthing.compress.reporting.html_page import page

__all__ = (
    "Table",
    "drops_svg",
    "latency_svg",
    "model_card",
    "page",
    "pareto_svg",
    "reliability_svg",
    "size_svg",
    "table",
)
